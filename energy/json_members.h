// Reading the JSON files of energy/data. Private to the room.
#ifndef FEDWATT_ENERGY_JSON_MEMBERS_H_
#define FEDWATT_ENERGY_JSON_MEMBERS_H_

#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {

using Json = nlohmann::json;
inline constexpr size_t kMostPerList = 1000;

// Reads members of one object, and keeps the first problem.
class Members {
 public:
  Members(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json_.is_object()) Refuse("expected an object");
  }

  double Number(const char* name, double least, double most) {
    const Json* member = Find(name);
    if (member == nullptr || !member->is_number()) return Refuse(absl::StrCat(name, ": expected a number")), 0;
    const double value = member->get<double>();
    if (!(value >= least && value <= most)) Refuse(absl::StrCat(name, ": expected [", least, ", ", most, "], got ", value));
    return value;
  }
  std::optional<double> OptionalNumber(const char* name, double least, double most) {
    return Find(name) == nullptr ? std::nullopt : std::optional<double>(Number(name, least, most));
  }
  absl::Duration Seconds(const char* name) { return absl::Seconds(Number(name, 0, 3600)); }
  bool Flag(const char* name) {
    const Json* member = Find(name);
    if (member == nullptr || !member->is_boolean()) return Refuse(absl::StrCat(name, ": expected true or false")), false;
    return member->get<bool>();
  }
  int Year() { return static_cast<int>(Number("year", 1990, 2100)); }
  std::string Text(const char* name) {
    const Json* member = Find(name);
    if (member == nullptr || !member->is_string() || member->get<std::string>().empty()) return Refuse(absl::StrCat(name, ": expected a text")), "";
    return member->get<std::string>();
  }
  const absl::Status& status() const { return status_; }

 private:
  const Json* Find(const char* name) const {
    if (!json_.is_object()) return nullptr;
    const auto it = json_.find(name);
    return it == json_.end() ? nullptr : &*it;
  }
  void Refuse(const std::string& problem) { status_.Update(absl::InvalidArgumentError(absl::StrCat(where_, ": ", problem))); }

  const Json& json_;
  const std::string where_;
  absl::Status status_;
};

// Calls `read` with each object of the list `name`; `what` begins the errors.
template <typename Read>
absl::Status ReadList(const Json& json, const char* what, const char* name, Read read) {
  const auto it = json.find(name);
  if (it == json.end() || !it->is_array() || it->empty() || it->size() > kMostPerList) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": ", name, ": expected a list of 1 to ", kMostPerList));
  }
  for (size_t i = 0; i < it->size(); ++i) {
    Members members((*it)[i], absl::StrCat(what, ": ", name, "[", i, "]"));
    read(members);
    FEDWATT_RETURN_IF_ERROR(members.status());
  }
  return absl::OkStatus();
}

}  // namespace fedwatt::internal

#endif  // FEDWATT_ENERGY_JSON_MEMBERS_H_
