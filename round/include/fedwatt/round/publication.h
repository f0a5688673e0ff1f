// One model, whole or narrow, as clients hold it, and the bytes by which they get at it.
#ifndef FEDWATT_ROUND_PUBLICATION_H_
#define FEDWATT_ROUND_PUBLICATION_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/compression/pipeline.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/round/model_chain.h"

namespace fedwatt {

// How a client that holds `held` gets at the newest model.
struct ModelOffer {
  std::shared_ptr<const std::string> blob;  // container to download: a whole model, or a delta from `base`; null when it holds the newest already
  Digest blob_digest;                        // SHA-256 of the container
  std::optional<Digest> base;                // ModelDigest that the delta starts from; absent for a whole model
};

// Owned by one thread; values() and blob() are immutable snapshots that other threads may keep.
class Publication {
 public:
  // `downlink` is a pipeline or a chain. `from_seed`: clients can make `initial` themselves.
  // Errors: NOT_FOUND, INVALID_ARGUMENT  not a downlink, or a value too large for a chain
  static absl::StatusOr<Publication> Create(ParameterLayout layout, std::string downlink, std::vector<float> initial, bool from_seed);

  // Goes on with the step of a chain that ends here, instead of measuring a new one. Before the first Move().
  void Continue(const Publication& before);
  // Publishes what follows `master`. Errors: as the downlink's encoder
  absl::Status Move(absl::Span<const float> master);

  const ParameterLayout& layout() const { return layout_; }
  // The model that clients hold: blob() decoded.
  const std::shared_ptr<const std::vector<float>>& values() const { return values_; }
  const Digest& digest() const { return digest_; }
  // The whole model as a container, and the SHA-256 that names it.
  const std::shared_ptr<const std::string>& blob() const { return blob_; }
  const Digest& blob_digest() const { return blob_digest_; }

  // What a client downloads that holds the versions `held`, of this model or others, or insists on the whole model. Coded once for all clients at a
  // version. Without a chain it is always blob(), unless that is what the client holds.
  ModelOffer OfferFor(absl::Span<const Digest> held, bool whole);
  // A container offered for the version of now. Null when there is none of this digest.
  std::shared_ptr<const std::string> FindBlob(const Digest& digest) const;

  // What a restart needs beyond the arguments of Create. Empty without a chain.
  std::string SaveChain() const { return chain_.has_value() ? chain_->Save() : ""; }
  bool chain_from_seed() const { return from_seed_; }
  // `master`: published as it is when there is no chain. Errors: DATA_LOSS, INVALID_ARGUMENT  not this publication's
  absl::Status Restore(std::string_view chain, bool from_seed, absl::Span<const float> master);

 private:
  Publication() = default;
  absl::Status Publish(absl::Span<const float> meant);
  ModelOffer WholeOffer();
  ModelOffer DeltaOffer(const Digest& base);

  ParameterLayout layout_;
  std::string downlink_;
  std::optional<Pipeline> pipeline_;  // of whole models
  std::optional<ModelChain> chain_;
  bool from_seed_ = false;            // the chain's version 0 is what clients can make themselves
  std::shared_ptr<const std::vector<float>> values_;
  Digest digest_;
  std::shared_ptr<const std::string> blob_;
  Digest blob_digest_;
  ModelOffer whole_;                     // what a client gets that holds nothing it could start from
  std::map<Digest, ModelOffer> offers_;  // deltas to the newest version, by the version they start from
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_PUBLICATION_H_
