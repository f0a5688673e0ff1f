#include "fedwatt/round/global_model.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/bytes.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/container.h"
#include "fedwatt/model/rejection.h"
#include "fedwatt/privacy/update_guard.h"
#include "fedwatt/round/compression_settings.h"

namespace fedwatt {
namespace {

constexpr std::string_view kStateMagic = "FWGLOB02";

}  // namespace

absl::Status FoldUpdate(const Plan& plan, const ParameterLayout& layout, std::string_view container, int64_t example_count, int64_t round,
                        int64_t partition, Accumulator& accumulator, FoldScratch& scratch) {
  if (static_cast<int64_t>(container.size()) > plan.limits.max_update_bytes) {
    return WithRejection(absl::ResourceExhaustedError(absl::StrCat("update: ", container.size(), " bytes, the plan allows ",
                                                                   plan.limits.max_update_bytes)),
                         Rejection::kOversize);
  }
  FEDWATT_ASSIGN_OR_RETURN(ContainerView view, ParseContainer(container, plan.limits.max_update_bytes));
  if (view.header.kind != ContainerKind::kUpdate || view.header.layout_digest != plan.layout_digest) {
    return WithRejection(absl::InvalidArgumentError(absl::StrCat("update: made for layout ", view.header.layout_digest.Hex().substr(0, 12),
                                                                 ", the plan names ", plan.layout_digest.Hex().substr(0, 12))),
                         Rejection::kWrongLayout);
  }
  if (view.header.codec != plan.uplink_codec) {
    return WithRejection(absl::InvalidArgumentError(absl::StrCat("update: encoded by '", view.header.codec, "', the plan asks for '",
                                                                 plan.uplink_codec, "'")),
                         Rejection::kWrongCodec);
  }
  FEDWATT_ASSIGN_OR_RETURN(Pipeline pipeline, Pipeline::Create(plan.uplink_codec));
  const uint64_t seed = EncodingSeed(plan.seed, round, partition);
  // Most updates are good: checked and added in one pass over their bytes. What that refuses leaves no trace, and is looked at below for the reason.
  const bool one_pass = plan.limits.max_norm <= 0 && example_count >= 1 && example_count <= plan.limits.max_example_count;
  const auto blocks = [&](BlockVisitor visit) { return pipeline.VisitBlocks(view.payload, layout, seed, round, visit); };
  if (one_pass && accumulator.AccumulateBlocks(blocks, example_count, plan.limits.max_abs)) return absl::OkStatus();

  DecodedValues& values = scratch.decoded;
  if (absl::Status decoded = pipeline.Decode(view.payload, layout, seed, round, values); !decoded.ok()) {
    return RejectionOf(decoded).has_value() ? decoded : WithRejection(decoded, Rejection::kWrongCodec);
  }
  // One pass for what has no such blocks, too.
  const auto whole = [&values](BlockVisitor visit) {
    return visit({.kind = ValueBlock::Kind::kFloat32, .count = values.dense.size(), .data = reinterpret_cast<const char*>(values.dense.data())});
  };
  if (one_pass && !values.is_sparse && accumulator.AccumulateBlocks(whole, example_count, plan.limits.max_abs)) return absl::OkStatus();

  ClientUpdate update;
  update.example_count = example_count;
  update.is_sparse = values.is_sparse;
  update.delta = values.is_sparse ? values.sparse.values : values.dense;
  if (values.is_sparse) {
    update.indices = values.sparse.indices;
    FEDWATT_RETURN_IF_ERROR(CheckSparseUpdate(layout, update.indices, update.delta, example_count, plan.limits));
  } else {
    FEDWATT_RETURN_IF_ERROR(CheckUpdate(layout, update.delta, example_count, plan.limits));
  }
  absl::Status added = accumulator.Accumulate(update);
  return added.ok() || RejectionOf(added).has_value() ? added : WithRejection(added, Rejection::kBadWeight);
}

absl::StatusOr<GlobalModel> GlobalModel::Create(GlobalModelOptions options, std::vector<float> initial) {
  options.plan.layout_digest = options.layout.digest();
  GlobalModel model;
  FEDWATT_ASSIGN_OR_RETURN(model.rate_, RateControl::Create(options.plan.uplink_codec, options.layout.value_count()));
  options.plan.uplink_codec = model.rate_.spec();
  FEDWATT_RETURN_IF_ERROR(ValidatePlan(options.plan));
  FEDWATT_RETURN_IF_ERROR(Pipeline::Create(options.plan.uplink_codec).status());
  if (static_cast<int64_t>(initial.size()) != options.layout.value_count()) {
    return absl::InvalidArgumentError(
        absl::StrCat("global model: ", initial.size(), " values, the layout has ", options.layout.value_count()));
  }
  FEDWATT_ASSIGN_OR_RETURN(Strategy strategy, FindStrategy(options.strategy));
  model.accumulator_name_ = strategy.accumulator;
  FEDWATT_ASSIGN_OR_RETURN(ServerOptimizerFactory make_optimizer, ServerOptimizers().Find(strategy.optimizer));
  options.optimizer.layout = options.layout;
  FEDWATT_ASSIGN_OR_RETURN(model.optimizer_, make_optimizer(options.optimizer));
  FEDWATT_RETURN_IF_ERROR(CheckDownlink(options.plan.downlink_codec));
  const bool is_chain = IsChain(options.plan.downlink_codec);
  FEDWATT_ASSIGN_OR_RETURN(model.downlink_, Pipeline::Create(is_chain ? "float32" : options.plan.downlink_codec));
  if (is_chain) {
    FEDWATT_ASSIGN_OR_RETURN(ChainOptions chain, ParseChain(options.plan.downlink_codec));
    FEDWATT_ASSIGN_OR_RETURN(model.chain_, ModelChain::Create(options.layout, chain, initial));
    model.chain_from_seed_ = options.initial_from_seed;
    initial = model.chain_->values();
  }
  model.options_ = std::move(options);
  model.master_ = std::move(initial);
  FEDWATT_RETURN_IF_ERROR(model.Publish(0));
  return model;
}

absl::StatusOr<std::unique_ptr<Accumulator>> GlobalModel::NewAccumulator() const {
  FEDWATT_ASSIGN_OR_RETURN(AccumulatorFactory make, Accumulators().Find(accumulator_name_));
  AccumulatorOptions options;
  options.layout = options_.layout;
  options.max_abs = options_.plan.limits.max_abs;
  options.max_total_weight = std::min(int64_t{1} << 40, options_.plan.limits.max_example_count * std::max<int64_t>(1, options_.max_cohort));
  return make(options);
}

absl::Status GlobalModel::MoveChain() {
  absl::Status moved = chain_->Append(master_);
  if (moved.code() != absl::StatusCode::kResourceExhausted) return moved;
  // A new lattice around the model of now; clients fetch it whole, once.
  FEDWATT_ASSIGN_OR_RETURN(ChainOptions options, ParseChain(options_.plan.downlink_codec));
  FEDWATT_ASSIGN_OR_RETURN(chain_, ModelChain::Create(options_.layout, options, master_, /*reproducible=*/false));
  chain_from_seed_ = false;
  return absl::OkStatus();
}

// Makes of master and chain what clients are to hold.
absl::Status GlobalModel::Publish(int64_t round) {
  const std::vector<float>& meant = chain_.has_value() ? chain_->values() : master_;
  FEDWATT_ASSIGN_OR_RETURN(std::string payload, downlink_->Encode(options_.layout, meant, 0, 0));
  // What clients hold is what the bytes say, not what we meant.
  offers_.clear();
  whole_ = ModelOffer();
  auto held = std::make_shared<std::vector<float>>(master_.size());
  FEDWATT_RETURN_IF_ERROR(downlink_->DecodeDense(payload, options_.layout, 0, 0, absl::MakeSpan(*held)));
  ContainerHeader header;
  header.kind = ContainerKind::kModel;
  header.codec = downlink_->spec();
  header.layout_digest = options_.layout.digest();
  header.layout = options_.layout;
  blob_ = std::make_shared<const std::string>(WriteContainer(header, payload));
  blob_digest_ = Sha256(*blob_);
  // A chain's values come through float32 as they are, and it has hashed them.
  published_digest_ = chain_.has_value() ? chain_->digest() : ModelDigest(options_.layout, *held);
  published_ = std::move(held);
  round_ = round;
  return absl::OkStatus();
}

absl::Status GlobalModel::Step(const MeanDelta& delta, int64_t round) {
  FEDWATT_RETURN_IF_ERROR(optimizer_->Step(absl::MakeSpan(master_), delta));
  for (float value : master_) {
    if (!std::isfinite(value)) return absl::AbortedError("the global model is no longer finite; lower the server's learning rate");
  }
  rate_.Commit();
  options_.plan.uplink_codec = rate_.spec();
  if (chain_.has_value()) FEDWATT_RETURN_IF_ERROR(MoveChain());
  return Publish(round);
}

void GlobalModel::NoteUpdate(int64_t bytes) {
  ContainerHeader header;
  header.kind = ContainerKind::kUpdate;
  header.codec = options_.plan.uplink_codec;
  rate_.NoteUpdate(bytes - static_cast<int64_t>(WriteContainer(header, "").size()));
}

// Without a basis the values say all; with one, clients need the coefficients, of which values are only what comes out.
ModelOffer GlobalModel::WholeOffer() {
  if (!chain_.has_value() || chain_->position().basis.empty()) return ModelOffer{blob_, blob_digest_, std::nullopt};
  if (whole_.blob == nullptr) {
    ContainerHeader header;
    header.kind = ContainerKind::kModel;
    header.codec = std::string(kChainStage);
    header.layout = options_.layout;
    whole_.blob = std::make_shared<const std::string>(WriteContainer(header, WriteChainPosition(chain_->position())));
    whole_.blob_digest = Sha256(*whole_.blob);
  }
  return whole_;
}

ModelOffer GlobalModel::OfferFor(const std::optional<Digest>& held, bool whole) {
  if (!chain_.has_value() || whole) return WholeOffer();
  if (held == published_digest_) return ModelOffer{nullptr, Digest(), held};
  if (!held.has_value() && !chain_from_seed_) return WholeOffer();
  const Digest base = held.value_or(chain_->initial_digest());
  if (auto known = offers_.find(base); known != offers_.end()) return known->second;
  if (base == published_digest_) return ModelOffer{nullptr, Digest(), base};
  absl::StatusOr<ChainDelta> delta = chain_->DeltaFrom(base);
  if (!delta.ok()) {
    // Unknown or too old: from the start it is shorter than the whole model. Not remembered, as anybody can name any digest.
    const bool from_start = chain_from_seed_ && base != chain_->initial_digest();
    return from_start ? OfferFor(std::nullopt, false) : WholeOffer();
  }
  ContainerHeader header;
  header.kind = ContainerKind::kModelDelta;
  header.codec = std::string(kChainStage);
  header.layout_digest = options_.layout.digest();
  ModelOffer offer;
  offer.blob = std::make_shared<const std::string>(WriteContainer(header, delta->payload));
  offer.blob_digest = Sha256(*offer.blob);
  offer.base = base;
  if (offer.blob->size() >= blob_->size()) offer = WholeOffer();
  offers_.emplace(base, offer);
  return offer;
}

std::shared_ptr<const std::string> GlobalModel::FindBlob(const Digest& digest) const {
  if (digest == blob_digest_) return blob_;
  if (whole_.blob != nullptr && digest == whole_.blob_digest) return whole_.blob;
  for (const auto& [base, offer] : offers_) {
    if (offer.blob != nullptr && offer.blob_digest == digest) return offer.blob;
  }
  return nullptr;
}

std::string GlobalModel::Save() const {
  ByteWriter writer;
  writer.PutBytes(kStateMagic);
  writer.Put<int64_t>(round_);
  writer.PutBytes(options_.layout.digest().Raw());
  writer.Put<uint32_t>(static_cast<uint32_t>(options_.strategy.size()));
  writer.PutBytes(options_.strategy);
  writer.Put<uint64_t>(master_.size());
  writer.PutBytes({reinterpret_cast<const char*>(master_.data()), master_.size() * sizeof(float)});
  const std::string optimizer = optimizer_->Save();
  writer.Put<uint64_t>(optimizer.size());
  writer.PutBytes(optimizer);
  writer.Put<double>(rate_.multiple());
  writer.Put<uint8_t>(chain_from_seed_);
  const std::string chain = chain_.has_value() ? chain_->Save() : "";
  writer.Put<uint64_t>(chain.size());
  writer.PutBytes(chain);
  const uint32_t crc = Crc32c(writer.str());
  writer.Put<uint32_t>(crc);
  return std::move(writer).str();
}

absl::Status GlobalModel::Restore(std::string_view state) {
  if (state.size() < 4) return absl::DataLossError("global model state: shorter than its checksum");
  uint32_t stored;
  std::memcpy(&stored, state.data() + state.size() - 4, 4);
  if (Crc32c(state.substr(0, state.size() - 4)) != stored) return absl::DataLossError("global model state: wrong checksum");
  ByteReader reader(state.substr(0, state.size() - 4), "global model state");
  FEDWATT_ASSIGN_OR_RETURN(std::string_view magic, reader.GetBytes(kStateMagic.size(), "magic"));
  if (magic != kStateMagic) return absl::DataLossError("global model state: wrong magic");
  FEDWATT_ASSIGN_OR_RETURN(int64_t round, reader.Get<int64_t>("round"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view layout, reader.GetBytes(32, "layout digest"));
  if (layout != options_.layout.digest().Raw()) {
    return absl::InvalidArgumentError("global model state: it was saved for another model; use another --out folder, or the same settings");
  }
  FEDWATT_ASSIGN_OR_RETURN(uint32_t name_size, reader.Get<uint32_t>("strategy length"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view strategy, reader.GetBytes(name_size, "strategy"));
  if (strategy != options_.strategy) {
    return absl::InvalidArgumentError(absl::StrCat("global model state: saved under strategy '", std::string(strategy), "', now '",
                                                   options_.strategy, "'"));
  }
  FEDWATT_ASSIGN_OR_RETURN(uint64_t count, reader.Get<uint64_t>("value count"));
  if (count != master_.size()) return absl::DataLossError("global model state: wrong number of values");
  FEDWATT_ASSIGN_OR_RETURN(std::string_view values, reader.GetBytes(count * sizeof(float), "values"));
  FEDWATT_ASSIGN_OR_RETURN(uint64_t optimizer_size, reader.Get<uint64_t>("optimizer length"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view optimizer, reader.GetBytes(optimizer_size, "optimizer"));
  FEDWATT_ASSIGN_OR_RETURN(double multiple, reader.Get<double>("rate"));
  FEDWATT_ASSIGN_OR_RETURN(uint8_t from_seed, reader.Get<uint8_t>("chain start"));
  FEDWATT_ASSIGN_OR_RETURN(uint64_t chain_size, reader.Get<uint64_t>("chain length"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view chain, reader.GetBytes(chain_size, "chain"));
  if (chain_.has_value() != !chain.empty()) return absl::InvalidArgumentError("global model state: saved under another compression.downlink");
  if (chain_.has_value()) FEDWATT_RETURN_IF_ERROR(chain_->Restore(chain));
  chain_from_seed_ = chain_from_seed_ && from_seed != 0;
  FEDWATT_RETURN_IF_ERROR(rate_.Restore(multiple));
  options_.plan.uplink_codec = rate_.spec();
  FEDWATT_RETURN_IF_ERROR(optimizer_->Restore(optimizer));
  std::memcpy(master_.data(), values.data(), values.size());
  return Publish(round);
}

}  // namespace fedwatt
