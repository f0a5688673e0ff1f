// What a client keeps between starts. Private to the room.
#ifndef FEDWATT_CLIENT_STATE_DIRECTORY_H_
#define FEDWATT_CLIENT_STATE_DIRECTORY_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "fedwatt/base/file.h"

namespace fedwatt::internal {

// Files: lock, client_id, model-<layout>.fwt (the versions of models that are held), residual-<partition> and its .staged twin (error feedback),
// ledger-<partition> (its books of joules), release-<partition> (the newest signed assignment that it took),
// number_formats (measured speeds).
// Locked for the object's lifetime.
class StateDirectory {
 public:
  // `path` "": nothing is kept and the id is fresh. Errors: ALREADY_EXISTS  in use by another process; DATA_LOSS  client_id is damaged
  static absl::StatusOr<StateDirectory> Open(const std::string& path);

  const std::string& client_id() const { return client_id_; }
  // How the files of the models held begin; "" when nothing is kept.
  std::string model_path() const { return path_.empty() ? "" : path_ + "/model"; }
  // Where measured speeds of number formats lie; "" when nothing is kept.
  std::string formats_path() const { return path_.empty() ? "" : path_ + "/number_formats"; }
  // Where a partition's residual lies; "" when nothing is kept.
  std::string residual_path(int64_t partition) const { return path_.empty() ? "" : path_ + "/residual-" + std::to_string(partition); }
  // Where the release number of a partition's newest assignment lies; "" when nothing is kept.
  std::string release_path(int64_t partition) const { return path_.empty() ? "" : path_ + "/release-" + std::to_string(partition); }
  // Where a partition's ledger lies; "" when nothing is kept.
  std::string ledger_path(int64_t partition) const { return path_.empty() ? "" : path_ + "/ledger-" + std::to_string(partition); }

 private:
  std::string path_;
  std::string client_id_;
  std::optional<FileLock> lock_;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_CLIENT_STATE_DIRECTORY_H_
