// The containers a run leaves in DIR/model: the last and the best round's.
#ifndef FEDWATT_ROUND_MODEL_ARCHIVE_H_
#define FEDWATT_ROUND_MODEL_ARCHIVE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/base/disk.h"

namespace fedwatt {

// Owned by one thread.
class ModelArchive {
 public:
  // Creates `run_directory`/model. Containers of an earlier start of the same run are known again; which of two was the best is not, so the
  // best so far is passed in. `disk` must outlive the archive. Errors: PERMISSION_DENIED, RESOURCE_EXHAUSTED
  static absl::StatusOr<ModelArchive> Open(const std::string& run_directory, std::optional<double> best_accuracy = std::nullopt, Disk& disk = RealDisk());

  // Writes model/global-<round>.fwt atomically, then removes those that are neither the last nor the best. A round without accuracy can be the
  // last but never the best.
  absl::Status Save(int64_t round, std::string_view container, std::optional<double> accuracy);

  // Of the last one saved; "" and -1 before the first.
  std::string last_path() const;
  int64_t last_round() const { return last_round_; }
  std::string directory() const { return directory_; }

 private:
  ModelArchive(std::string directory, Disk& disk) : disk_(&disk), directory_(std::move(directory)) {}
  std::string PathOf(int64_t round) const;

  Disk* disk_;
  std::string directory_;
  std::optional<double> best_accuracy_;
  int64_t best_round_ = -1;
  int64_t last_round_ = -1;
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_MODEL_ARCHIVE_H_
