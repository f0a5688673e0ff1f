#include "state_directory.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/rpc/chunks.h"

namespace fedwatt::internal {

absl::StatusOr<StateDirectory> StateDirectory::Open(const std::string& path) {
  StateDirectory state;
  state.path_ = path;
  if (path.empty()) {
    state.client_id_ = RandomId();
    return state;
  }
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(path, 0700));
  absl::StatusOr<FileLock> lock = FileLock::Acquire(path + "/lock");
  if (!lock.ok()) return Annotate(lock.status(), "client.state_directory (each client process needs its own)");
  state.lock_ = *std::move(lock);
  const std::string id_path = path + "/client_id";
  absl::StatusOr<std::string> id = ReadFile(id_path, 4096);
  if (id.status().code() == absl::StatusCode::kNotFound) {
    state.client_id_ = RandomId();
    FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(id_path, state.client_id_ + "\n", 0600));
    return state;
  }
  FEDWATT_RETURN_IF_ERROR(id.status());
  absl::StripAsciiWhitespace(&*id);
  if (id->empty() || id->size() > 128 || !std::all_of(id->begin(), id->end(), [](char c) { return absl::ascii_isalnum(c) || c == '-'; })) {
    return absl::DataLossError(absl::StrCat(id_path, ": not a client id; remove it to get a new one"));
  }
  state.client_id_ = *std::move(id);
  return state;
}

}  // namespace fedwatt::internal
