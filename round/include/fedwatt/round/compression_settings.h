// What `compression.*` may say.
#ifndef FEDWATT_ROUND_COMPRESSION_SETTINGS_H_
#define FEDWATT_ROUND_COMPRESSION_SETTINGS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace fedwatt {

// A pair of directions that suit each other, for whoever does not want to choose.
struct CompressionPreset {
  std::string name;
  std::string uplink, downlink;
  std::string help;
};
// "float32", "no_regret", "smallest".
const std::vector<CompressionPreset>& CompressionPresets();
// Errors: NOT_FOUND
absl::StatusOr<CompressionPreset> FindCompressionPreset(std::string_view name);

// Whether a plan can be made of it. An uplink is a pipeline, in which the step of `dithered` or `ecsq` may be given as a rate; a downlink is a pipeline without
// error feedback, or a chain. Errors: NOT_FOUND  unknown stage; INVALID_ARGUMENT  anything else
absl::Status CheckUplink(std::string_view spec);
absl::Status CheckDownlink(std::string_view spec);

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_COMPRESSION_SETTINGS_H_
