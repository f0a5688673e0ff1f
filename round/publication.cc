#include "fedwatt/round/publication.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/container.h"

namespace fedwatt {

absl::StatusOr<Publication> Publication::Create(ParameterLayout layout, std::string downlink, std::vector<float> initial, bool from_seed) {
  Publication made;
  made.layout_ = std::move(layout);
  made.downlink_ = std::move(downlink);
  const bool is_chain = IsChain(made.downlink_);
  FEDWATT_ASSIGN_OR_RETURN(made.pipeline_, Pipeline::Create(is_chain ? "float32" : made.downlink_));
  if (is_chain) {
    FEDWATT_ASSIGN_OR_RETURN(ChainOptions options, ParseChain(made.downlink_));
    FEDWATT_ASSIGN_OR_RETURN(made.chain_, ModelChain::Create(made.layout_, options, initial));
    made.from_seed_ = from_seed;
  }
  FEDWATT_RETURN_IF_ERROR(made.Publish(is_chain ? made.chain_->values() : initial));
  return made;
}

void Publication::Continue(const Publication& before) {
  if (chain_.has_value() && before.chain_.has_value()) chain_->Continue(*before.chain_);
}

absl::Status Publication::Move(absl::Span<const float> master) {
  if (!chain_.has_value()) return Publish(master);
  absl::Status moved = chain_->Append(master);
  if (moved.code() == absl::StatusCode::kResourceExhausted) {
    // A new lattice around the model of now; clients fetch it whole, once.
    FEDWATT_ASSIGN_OR_RETURN(ChainOptions options, ParseChain(downlink_));
    FEDWATT_ASSIGN_OR_RETURN(chain_, ModelChain::Create(layout_, options, master, /*reproducible=*/false));
    from_seed_ = false;
    moved = absl::OkStatus();
  }
  FEDWATT_RETURN_IF_ERROR(moved);
  return Publish(chain_->values());
}

// Makes of what is meant what clients are to hold: what the bytes say.
absl::Status Publication::Publish(absl::Span<const float> meant) {
  FEDWATT_ASSIGN_OR_RETURN(std::string payload, pipeline_->Encode(layout_, meant, 0, 0));
  offers_.clear();
  whole_ = ModelOffer();
  auto held = std::make_shared<std::vector<float>>(meant.size());
  FEDWATT_RETURN_IF_ERROR(pipeline_->DecodeDense(payload, layout_, 0, 0, absl::MakeSpan(*held)));
  ContainerHeader header;
  header.kind = ContainerKind::kModel;
  header.codec = pipeline_->spec();
  header.layout_digest = layout_.digest();
  header.layout = layout_;
  blob_ = std::make_shared<const std::string>(WriteContainer(header, payload));
  blob_digest_ = Sha256(*blob_);
  // A chain's values come through float32 as they are, and it has hashed them.
  digest_ = chain_.has_value() ? chain_->digest() : ModelDigest(layout_, *held);
  values_ = std::move(held);
  return absl::OkStatus();
}

// Without a basis the values say all; with one, clients need the coefficients, of which values are only what comes out.
ModelOffer Publication::WholeOffer() {
  if (!chain_.has_value() || chain_->position().basis.empty()) return ModelOffer{blob_, blob_digest_, std::nullopt};
  if (whole_.blob == nullptr) {
    ContainerHeader header;
    header.kind = ContainerKind::kModel;
    header.codec = std::string(kChainStage);
    header.layout = layout_;
    whole_.blob = std::make_shared<const std::string>(WriteContainer(header, WriteChainPosition(chain_->position())));
    whole_.blob_digest = Sha256(*whole_.blob);
  }
  return whole_;
}

ModelOffer Publication::OfferFor(absl::Span<const Digest> held, bool whole) {
  if (!chain_.has_value() || whole) return WholeOffer();
  if (std::find(held.begin(), held.end(), digest_) != held.end()) return ModelOffer{nullptr, Digest(), digest_};
  for (const Digest& base : held) {
    if (ModelOffer offer = DeltaOffer(base); offer.blob != nullptr) return offer;
  }
  // Nothing of this chain, or too old: from the start it is shorter than the whole model.
  if (!from_seed_) return WholeOffer();
  if (chain_->initial_digest() == digest_) return ModelOffer{nullptr, Digest(), digest_};
  ModelOffer offer = DeltaOffer(chain_->initial_digest());
  return offer.blob != nullptr ? offer : WholeOffer();
}

// Nothing when the chain does not know the base; that is not remembered, as anybody can name any digest.
ModelOffer Publication::DeltaOffer(const Digest& base) {
  if (auto known = offers_.find(base); known != offers_.end()) return known->second;
  absl::StatusOr<ChainDelta> delta = chain_->DeltaFrom(base);
  if (!delta.ok()) return ModelOffer();
  ContainerHeader header;
  header.kind = ContainerKind::kModelDelta;
  header.codec = std::string(kChainStage);
  header.layout_digest = layout_.digest();
  ModelOffer offer;
  offer.blob = std::make_shared<const std::string>(WriteContainer(header, delta->payload));
  offer.blob_digest = Sha256(*offer.blob);
  offer.base = base;
  if (offer.blob->size() >= blob_->size()) offer = WholeOffer();
  offers_.emplace(base, offer);
  return offer;
}

std::shared_ptr<const std::string> Publication::FindBlob(const Digest& digest) const {
  if (digest == blob_digest_) return blob_;
  if (whole_.blob != nullptr && digest == whole_.blob_digest) return whole_.blob;
  for (const auto& [base, offer] : offers_) {
    if (offer.blob != nullptr && offer.blob_digest == digest) return offer.blob;
  }
  return nullptr;
}

absl::Status Publication::Restore(std::string_view chain, bool from_seed, absl::Span<const float> master) {
  if (chain_.has_value() != !chain.empty()) return absl::InvalidArgumentError("global model state: saved under another compression.downlink");
  if (!chain_.has_value()) return Publish(master);
  FEDWATT_RETURN_IF_ERROR(chain_->Restore(chain));
  from_seed_ = from_seed_ && from_seed;
  return Publish(chain_->values());
}

}  // namespace fedwatt
