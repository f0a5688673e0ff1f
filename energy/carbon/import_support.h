// What the importers share: typed access to a provider's JSON, and its errors as ours. Private to the room.
#ifndef FEDWATT_ENERGY_CARBON_IMPORT_SUPPORT_H_
#define FEDWATT_ENERGY_CARBON_IMPORT_SUPPORT_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/carbon.h"

namespace fedwatt::internal {

using Json = nlohmann::json;

// The response, unless it is not JSON or is an error body, which gives the status that fits it (see IntensityImporter).
absl::StatusOr<Json> ParseResponse(std::string_view text, std::string_view provider);

absl::Status NotWhatIsSent(std::string_view provider, std::string_view what);

// An array under `key`. Errors: DATA_LOSS
absl::StatusOr<const Json*> ArrayOf(const Json& json, std::string_view key, std::string_view provider);
// nullopt: absent or null. Errors: DATA_LOSS  another type
absl::StatusOr<std::optional<double>> NumberOf(const Json& json, std::string_view key, std::string_view provider);
absl::StatusOr<std::optional<std::string>> TextOf(const Json& json, std::string_view key, std::string_view provider);
// With any offset, with or without seconds. Errors: DATA_LOSS
absl::StatusOr<std::optional<absl::Time>> TimeOf(const Json& json, std::string_view key, std::string_view provider);
absl::StatusOr<absl::Time> RequiredTime(const Json& json, std::string_view key, std::string_view provider);

// Checks what all rows must fulfil, and that there is one. Errors: DATA_LOSS
absl::StatusOr<std::vector<IntensityRow>> Checked(std::vector<IntensityRow> rows, std::string_view provider);

}  // namespace fedwatt::internal

#endif  // FEDWATT_ENERGY_CARBON_IMPORT_SUPPORT_H_
