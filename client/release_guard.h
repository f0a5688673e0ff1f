// Lets through only assignments that the pinned key signed and that are no older than one let through before. Private to the room.
#ifndef FEDWATT_CLIENT_RELEASE_GUARD_H_
#define FEDWATT_CLIENT_RELEASE_GUARD_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "fedwatt/rpc/manifest.h"

namespace fedwatt::internal {

// Owned by one thread; one for each partition, whose assignments come in order.
class ReleaseGuard {
 public:
  // `signing_key_pem`: the pinned key. `path`: where the greatest release number lies over restarts; "" for nowhere.
  ReleaseGuard(std::string signing_key_pem, std::string path) : key_(std::move(signing_key_pem)), path_(std::move(path)) {}

  // `plan` is what the client makes of the assignment. On OK the assignment's number is the least that will be taken from now on, on disk too.
  // Errors: UNAUTHENTICATED  no key is pinned, unsigned, or a wrong signature; FAILED_PRECONDITION  rolled back: older than what was taken before;
  //         DATA_LOSS  the pinned key or the file is damaged; the file's
  template <typename Assignment>
  absl::Status Check(const v1::Plan& plan, const Assignment& assignment) {
    return CheckManifest(plan, assignment.model_digest(), assignment.manifest());
  }

 private:
  absl::Status CheckManifest(const v1::Plan& plan, const std::string& model_digest, const v1::ManifestSignature& manifest);
  absl::Status Load();

  const std::string key_, path_;
  bool loaded_ = false;
  int64_t newest_ = 0;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_CLIENT_RELEASE_GUARD_H_
