// What a coordinator vouches for with each assignment: the plan and the model, signed, under a number that only grows.
#ifndef FEDWATT_RPC_MANIFEST_H_
#define FEDWATT_RPC_MANIFEST_H_

#include <openssl/types.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/v1/coordinator.pb.h"

namespace fedwatt {

struct SigningKey {
  std::string private_pem, public_pem;  // Ed25519
};
absl::StatusOr<SigningKey> MakeSigningKey();

// Of the whole plan as both ends know it; the run's id is part of it. The plan names architecture and archive by their digests.
Digest PlanDigest(const v1::Plan& plan);

// What is signed: "fedwatt manifest 1", a zero byte, the release number (8 bytes, little-endian), PlanDigest, the model's digest. Neither end sends it: both make it from what is in
// the assignment, which carries the number and the signature alone.
std::string ManifestBytes(int64_t release_number, const Digest& plan, const Digest& model);

// The coordinator's side. Thread-compatible.
class ManifestSigner {
 public:
  // `epoch`: of this start of the coordinator, greater than that of any start before, in [1, 2^38). Errors: DATA_LOSS  no Ed25519 key
  static absl::StatusOr<std::unique_ptr<ManifestSigner>> Create(std::string_view private_pem, int64_t epoch);
  ~ManifestSigner();

  // Signs `plan` and the model that `assignment` names already. Release numbers are epoch * 2^24 + round, and never fall.
  template <typename Assignment>
  absl::Status Sign(const v1::Plan& plan, Assignment* assignment) {
    newest_round_ = std::max(newest_round_, assignment->round());
    return SignWith(plan, assignment->model_digest(), assignment->mutable_manifest());
  }

 private:
  ManifestSigner(EVP_PKEY* key, int64_t epoch) : key_(key), epoch_(epoch) {}
  absl::Status SignWith(const v1::Plan& plan, const std::string& model_digest, v1::ManifestSignature* manifest);

  EVP_PKEY* const key_;
  const int64_t epoch_;
  int64_t newest_round_ = 0;
};

// The client's side. Errors: UNAUTHENTICATED  unsigned, or the signature is not of this key over this plan, model and number; DATA_LOSS  `public_pem` is no Ed25519 key
absl::Status VerifyManifest(std::string_view public_pem, const v1::Plan& plan, const std::string& model_digest, const v1::ManifestSignature& manifest);

}  // namespace fedwatt

#endif  // FEDWATT_RPC_MANIFEST_H_
