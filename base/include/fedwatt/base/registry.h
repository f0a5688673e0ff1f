// Named plug-ins: algorithms, codecs, meters, policies.
#ifndef FEDWATT_BASE_REGISTRY_H_
#define FEDWATT_BASE_REGISTRY_H_

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "fedwatt/base/nearest.h"

namespace fedwatt {

// Maps a name to an entry (usually a factory). Thread-safe. Entries stay for the registry's lifetime.
template <typename Entry>
class Registry {
 public:
  // `kind` names what is registered, for messages: "codec", "architecture".
  explicit Registry(std::string_view kind) : kind_(kind) {}

  // Errors: ALREADY_EXISTS  the name is taken
  //         INVALID_ARGUMENT  the name is empty
  absl::Status Register(std::string_view name, Entry entry) {
    if (name.empty()) return absl::InvalidArgumentError(absl::StrCat(kind_, ": empty name"));
    absl::MutexLock lock(&mutex_);
    if (!entries_.emplace(std::string(name), std::move(entry)).second) {
      return absl::AlreadyExistsError(absl::StrCat(kind_, " '", std::string(name), "' is registered already"));
    }
    return absl::OkStatus();
  }

  // A copy of the entry. Errors: NOT_FOUND, with the nearest name and all known ones.
  absl::StatusOr<Entry> Find(std::string_view name) const {
    absl::MutexLock lock(&mutex_);
    auto it = entries_.find(std::string(name));
    if (it != entries_.end()) return it->second;
    std::vector<std::string> names;
    for (const auto& [known, entry] : entries_) names.push_back(known);
    std::string nearest = NearestName(name, names);
    return absl::NotFoundError(absl::StrCat("unknown ", kind_, " '", std::string(name), "'",
                                            nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?"),
                                            "; known: ", absl::StrJoin(names, ", ")));
  }

  // All names, sorted.
  std::vector<std::string> Names() const {
    absl::MutexLock lock(&mutex_);
    std::vector<std::string> names;
    for (const auto& [name, entry] : entries_) names.push_back(name);
    return names;
  }

 private:
  const std::string kind_;
  mutable absl::Mutex mutex_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace fedwatt

#endif  // FEDWATT_BASE_REGISTRY_H_
