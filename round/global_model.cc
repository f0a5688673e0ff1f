#include "fedwatt/round/global_model.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/bytes.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/kept_channels.h"
#include "fedwatt/model/container.h"
#include "fedwatt/model/local_trainer.h"
#include "fedwatt/model/rejection.h"
#include "fedwatt/privacy/update_guard.h"
#include "fedwatt/round/compression_settings.h"

namespace fedwatt {
namespace {

constexpr std::string_view kStateMagic = "FWGLOB05";
constexpr int64_t kMostMaskedValues = int64_t{1} << 24;  // at a bit each they fit into a message twice
// Of a narrow model that is sent whole in one round only, where the downlink is a chain: half of float32, with all the precision training needs.
constexpr std::string_view kSnapshotDownlink = "bfloat16";

}  // namespace

absl::Status FoldUpdate(const Plan& plan, const ParameterLayout& layout, std::string_view container, int64_t example_count, int64_t round,
                        int64_t partition, Accumulator& accumulator, FoldScratch& scratch, const Submodel* submodel) {
  if (static_cast<int64_t>(container.size()) > plan.limits.max_update_bytes) {
    return WithRejection(absl::ResourceExhaustedError(absl::StrCat("update: ", container.size(), " bytes, the plan allows ",
                                                                   plan.limits.max_update_bytes)),
                         Rejection::kOversize);
  }
  FEDWATT_ASSIGN_OR_RETURN(ContainerView view, ParseContainer(container, plan.limits.max_update_bytes));
  if (view.header.kind != ContainerKind::kUpdate || !view.IsFor(plan.layout_digest)) {
    return WithRejection(absl::InvalidArgumentError(absl::StrCat("update: not one for the layout that the plan names, ", plan.layout_digest.Hex().substr(0, 12))),
                         Rejection::kWrongLayout);
  }
  if (!view.IsBy(plan.uplink_codec)) {
    return WithRejection(absl::InvalidArgumentError(absl::StrCat("update: not encoded by '", plan.uplink_codec, "' as the plan asks")),
                         Rejection::kWrongCodec);
  }
  FEDWATT_ASSIGN_OR_RETURN(Pipeline pipeline, Pipeline::Create(plan.uplink_codec));
  const uint64_t seed = EncodingSeed(plan.seed, round, partition);
  // Most updates are good: checked and added in one pass over their bytes. What that refuses leaves no trace, and is looked at below for the reason.
  const bool one_pass = submodel == nullptr && plan.limits.max_norm <= 0 && example_count >= 1 && example_count <= plan.limits.max_example_count;
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
  if (submodel != nullptr) {
    update.covered = submodel->covered();
    if (values.is_sparse) {
      submodel->ToWhole(absl::MakeSpan(values.sparse.indices));
    } else {
      scratch.whole.resize(static_cast<size_t>(submodel->whole().value_count()));
      submodel->Scatter(values.dense, absl::MakeSpan(scratch.whole));
      update.delta = scratch.whole;
    }
  }
  absl::Status added = accumulator.Accumulate(update);
  return added.ok() || RejectionOf(added).has_value() ? added : WithRejection(added, Rejection::kBadWeight);
}

absl::StatusOr<GlobalModel> GlobalModel::Create(GlobalModelOptions options, std::vector<float> initial) {
  options.plan.layout_digest = options.layout.digest();
  GlobalModel model;
  FEDWATT_ASSIGN_OR_RETURN(model.rate_, RateControl::Create(options.plan.uplink_codec));
  options.plan.uplink_codec = model.rate_.spec();
  FEDWATT_RETURN_IF_ERROR(ValidatePlan(options.plan));
  FEDWATT_RETURN_IF_ERROR(Pipeline::Create(options.plan.uplink_codec).status());
  if (static_cast<int64_t>(initial.size()) != options.layout.value_count()) {
    return absl::InvalidArgumentError(
        absl::StrCat("global model: ", initial.size(), " values, the layout has ", options.layout.value_count()));
  }
  if (options.prune.target < 1 && options.prune.unit == "weights") {
    if (SomeAreNarrow(options.fit)) return absl::InvalidArgumentError("prune.unit = 'weights' goes with whole models alone; expected fit.widths of 1, or 'channels'");
    if (options.layout.value_count() > kMostMaskedValues) {
      return absl::InvalidArgumentError(absl::StrCat("prune.unit = 'weights': a model of ", options.layout.value_count(), " values; expected at most ", kMostMaskedValues,
                                                     ", since clients are told in one message which are left"));
    }
    options.groups = WeightGroups(options.layout);
  }
  if (options.uses.empty()) options.uses.assign(options.layout.entries().size(), 1);
  FEDWATT_ASSIGN_OR_RETURN(model.pruner_, Pruner::Create(options.prune, options.layout, options.groups, options.plan.seed));
  FEDWATT_ASSIGN_OR_RETURN(Strategy strategy, FindStrategy(options.strategy));
  model.accumulator_name_ = strategy.accumulator;
  FEDWATT_ASSIGN_OR_RETURN(ServerOptimizerFactory make_optimizer, ServerOptimizers().Find(strategy.optimizer));
  FEDWATT_RETURN_IF_ERROR(CheckDownlink(options.plan.downlink_codec));
  model.snapshot_downlink_ = IsChain(options.plan.downlink_codec) ? std::string(kSnapshotDownlink) : options.plan.downlink_codec;
  model.whole_layout_ = options.layout;
  model.whole_groups_ = options.groups;
  model.options_ = std::move(options);
  if (model.pruner_.prunes()) {
    ScoreChannels(model.whole_layout_, model.whole_groups_, initial, {}, model.scores_);
    model.pruner_.Advance(0, model.scores_);
    model.scores_.clear();
  }
  FEDWATT_RETURN_IF_ERROR(model.TakeShape(initial));
  model.options_.optimizer.layout = model.options_.layout;
  FEDWATT_ASSIGN_OR_RETURN(model.optimizer_, make_optimizer(model.options_.optimizer));
  model.master_ = *model.whole_->values();
  if (model.pruner_.prunes()) model.initial_ = std::move(initial);
  if (model.wants_scores()) ScoreChannels(model.options_.layout, model.options_.groups, model.master_, {}, model.scores_);
  return model;
}

absl::Status GlobalModel::TakeShape(const std::vector<float>& initial) {
  FEDWATT_ASSIGN_OR_RETURN(Submodel part, Submodel::Create(whole_layout_, whole_groups_, pruner_.kept()));
  options_.layout = part.layout();
  options_.groups = NarrowGroups(whole_groups_, pruner_.kept());
  options_.plan.layout_digest = options_.layout.digest();
  options_.plan.architecture.kept = pruner_.kept();
  FEDWATT_ASSIGN_OR_RETURN(fitter_, Fitter::Create(options_.fit, options_.groups));
  const std::vector<float> start = part.Gather(initial);
  const std::string& downlink = options_.plan.downlink_codec;
  plans_.clear();
  narrow_.clear();
  if (IsChain(downlink)) {
    // Of the model that was drawn, before it is snapped: what a client slices is that.
    for (const Fit& fit : fitter_.Standing()) {
      FEDWATT_ASSIGN_OR_RETURN(NarrowModel narrow, MakeNarrow(fit.kept, downlink, start, options_.initial_from_seed));
      narrow.standing = true;
      narrow.width = fit.width;
      narrow_.emplace(OfWhole(fit.kept), std::move(narrow));
    }
  }
  FEDWATT_ASSIGN_OR_RETURN(whole_, Publication::Create(options_.layout, downlink, start, options_.initial_from_seed));
  return absl::OkStatus();
}

absl::Status GlobalModel::Reshape() {
  const KeptChannels before = options_.plan.architecture.kept;
  FEDWATT_ASSIGN_OR_RETURN(const Submodel was, Submodel::Create(whole_layout_, whole_groups_, before));
  FEDWATT_ASSIGN_OR_RETURN(const Submodel now, Submodel::Create(whole_layout_, whole_groups_, pruner_.kept()));
  // What comes back does so as it was drawn, and with zeros where it is read: the model computes what it did.
  std::vector<float> whole = initial_;
  ChannelScores scores;
  for (const ChannelGroup& group : whole_groups_) {
    const std::vector<int64_t> had = ChannelsOf(group, before);
    std::vector<int64_t> new_here;
    for (int64_t channel : ChannelsOf(group, pruner_.kept())) {
      const auto place = std::lower_bound(had.begin(), had.end(), channel);
      const bool comes_back = place == had.end() || *place != channel;
      scores[group.name].push_back(comes_back ? ChannelScore() : scores_.at(group.name)[static_cast<size_t>(place - had.begin())]);
      if (comes_back) new_here.push_back(channel);
    }
    ZeroReaders(whole_layout_, group, new_here, absl::MakeSpan(whole));
  }
  scores_ = std::move(scores);
  was.Scatter(master_, absl::MakeSpan(whole));
  // Where each value was until now.
  std::vector<int64_t> place(whole.size(), -1), from;
  int64_t next = 0;
  for (const CoordinateRange& range : was.covered()) {
    for (int64_t i = range.begin; i < range.end; ++i) place[static_cast<size_t>(i)] = next++;
  }
  for (const CoordinateRange& range : now.covered()) from.insert(from.end(), place.begin() + range.begin, place.begin() + range.end);
  optimizer_->Reshape(now.layout(), from);
  master_ = now.Gather(whole);

  const Publication before_whole = *std::move(whole_);
  const std::map<KeptChannels, NarrowModel> before_narrow = std::move(narrow_);
  FEDWATT_RETURN_IF_ERROR(TakeShape(initial_));
  whole_->Continue(before_whole);
  for (auto& [kept, narrow] : narrow_) {
    for (const auto& [other, was_narrow] : before_narrow) {
      if (was_narrow.standing && was_narrow.width == narrow.width) narrow.publication.Continue(was_narrow.publication);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<GlobalModel::NarrowModel> GlobalModel::MakeNarrow(const KeptChannels& kept, const std::string& downlink, const std::vector<float>& values,
                                                                 bool from_seed) const {
  FEDWATT_ASSIGN_OR_RETURN(Submodel submodel, Submodel::Create(options_.layout, options_.groups, kept));
  FEDWATT_ASSIGN_OR_RETURN(Publication publication, Publication::Create(submodel.layout(), downlink, submodel.Gather(values), from_seed));
  return NarrowModel{std::make_shared<const Submodel>(std::move(submodel)), std::move(publication)};
}

absl::StatusOr<std::unique_ptr<Accumulator>> GlobalModel::NewAccumulator() const {
  FEDWATT_ASSIGN_OR_RETURN(AccumulatorFactory make, Accumulators().Find(accumulator_name_));
  AccumulatorOptions options;
  options.layout = options_.layout;
  options.max_abs = options_.plan.limits.max_abs;
  options.max_total_weight = std::min(int64_t{1} << 40, options_.plan.limits.max_example_count * std::max<int64_t>(1, options_.max_cohort));
  return make(options);
}

void GlobalModel::SetLearningRate(double client_learning_rate) {
  options_.plan.recipe.client_learning_rate = client_learning_rate;
  plans_.clear();
}

absl::StatusOr<std::shared_ptr<const FittedPlan>> GlobalModel::Assign(int64_t round, double width) {
  const Fit fit = fitter_.Cut(width, round, scores_);
  if (auto known = plans_.find(fit.kept); known != plans_.end() && known->second->plan.fit.width_fraction == fit.width) return known->second;
  FittedPlan fitted;
  fitted.plan = options_.plan;
  fitted.plan.fit.width_fraction = fit.width;
  if (fit.kept.empty()) {
    fitted.layout = options_.layout;
    fitted.values = whole_->values();
    fitted.model_digest = whole_->digest();
  } else {
    const KeptChannels kept = OfWhole(fit.kept);
    auto narrow = narrow_.find(kept);
    if (narrow == narrow_.end()) {
      FEDWATT_ASSIGN_OR_RETURN(NarrowModel made, MakeNarrow(fit.kept, snapshot_downlink_, master_, /*from_seed=*/false));
      narrow = narrow_.emplace(kept, std::move(made)).first;
    }
    const NarrowModel& model = narrow->second;
    fitted.submodel = model.submodel;
    fitted.layout = model.submodel->layout();
    fitted.values = model.publication.values();
    fitted.model_digest = model.publication.digest();
    fitted.plan.architecture.kept = kept;
    fitted.plan.layout_digest = fitted.layout.digest();
    if (!model.standing) fitted.plan.downlink_codec = snapshot_downlink_;
  }
  // Zeros are multiplied like any other value.
  fitted.macs_per_example = MacsPerExample(KeepsWeights(fitted.plan.architecture.kept) ? whole_layout_ : fitted.layout, options_.uses);
  fitted.kept_bytes = PackedBytes(fitted.plan.architecture.kept);
  auto shared = std::make_shared<const FittedPlan>(std::move(fitted));
  plans_.insert_or_assign(fit.kept, shared);
  return shared;
}

absl::StatusOr<std::vector<WidthCost>> GlobalModel::WidthCosts() const {
  std::vector<WidthCost> costs;
  for (double width : fitter_.widths()) {
    // Which channels are kept changes nothing of their number.
    FEDWATT_ASSIGN_OR_RETURN(const Submodel submodel, Submodel::Create(options_.layout, options_.groups, fitter_.Cut(width, 1, scores_).kept));
    costs.push_back({MacsPerExample(KeepsWeights(pruner_.kept()) ? whole_layout_ : submodel.layout(), options_.uses), static_cast<double>(submodel.layout().value_count())});
  }
  return costs;
}

absl::Status GlobalModel::Step(const MeanDelta& delta, int64_t round) {
  if (wants_scores()) ScoreChannels(options_.layout, options_.groups, master_, delta.values, scores_);
  FEDWATT_RETURN_IF_ERROR(optimizer_->Step(absl::MakeSpan(master_), delta));
  for (float value : master_) {
    if (!std::isfinite(value)) return absl::AbortedError("the global model is no longer finite; lower the server's learning rate");
  }
  rate_.Commit();
  options_.plan.uplink_codec = rate_.spec();
  plans_.clear();
  std::erase_if(narrow_, [](const auto& entry) { return !entry.second.standing; });
  if (wants_scores()) ScoreChannels(options_.layout, options_.groups, master_, {}, scores_);
  if (pruner_.Advance(round, scores_)) FEDWATT_RETURN_IF_ERROR(Reshape());
  for (auto& [kept, narrow] : narrow_) FEDWATT_RETURN_IF_ERROR(narrow.publication.Move(narrow.submodel->Gather(master_)));
  FEDWATT_RETURN_IF_ERROR(whole_->Move(master_));
  round_ = round;
  return absl::OkStatus();
}

void GlobalModel::NoteUpdate(int64_t bytes, int64_t parameter_count) { rate_.NoteUpdate(PayloadBytes(bytes), parameter_count); }

std::vector<std::string> GlobalModel::downlinks() const {
  std::vector<std::string> specs{options_.plan.downlink_codec};
  if (fitter_.sends_snapshots()) specs.push_back(snapshot_downlink_);
  return specs;
}

ModelOffer GlobalModel::OfferFor(const KeptChannels& kept, absl::Span<const Digest> held, bool whole) {
  if (kept == options_.plan.architecture.kept) return whole_->OfferFor(held, whole);
  auto narrow = narrow_.find(kept);
  FEDWATT_CHECK(narrow != narrow_.end());  // Assign() has made it
  return narrow->second.publication.OfferFor(held, whole);
}

std::shared_ptr<const std::string> GlobalModel::FindBlob(const Digest& digest) const {
  std::shared_ptr<const std::string> blob = whole_->FindBlob(digest);
  for (auto narrow = narrow_.begin(); blob == nullptr && narrow != narrow_.end(); ++narrow) blob = narrow->second.publication.FindBlob(digest);
  return blob;
}

std::string GlobalModel::Save() const {
  ByteWriter writer;
  writer.PutBytes(kStateMagic);
  writer.Put<int64_t>(round_);
  writer.PutBytes(whole_layout_.digest().Raw());
  writer.Put<uint32_t>(static_cast<uint32_t>(options_.strategy.size()));
  writer.PutBytes(options_.strategy);
  const std::string pruned = pruner_.Save();
  writer.Put<uint64_t>(pruned.size());
  writer.PutBytes(pruned);
  for (const ChannelGroup& group : options_.groups) {
    for (int64_t i = 0; i < group.size && wants_scores(); ++i) {
      const ChannelScore& score = scores_.at(group.name)[static_cast<size_t>(i)];
      writer.Put<double>(score.sensitivity_sum);
      writer.Put<double>(score.round_weight);
      writer.Put<double>(score.pull);
    }
  }
  writer.Put<uint64_t>(master_.size());
  writer.PutBytes({reinterpret_cast<const char*>(master_.data()), master_.size() * sizeof(float)});
  const std::string optimizer = optimizer_->Save();
  writer.Put<uint64_t>(optimizer.size());
  writer.PutBytes(optimizer);
  writer.Put<double>(rate_.multiple());
  const auto put_chain = [&writer](const Publication& publication) {
    writer.Put<uint8_t>(publication.chain_from_seed());
    const std::string chain = publication.SaveChain();
    writer.Put<uint64_t>(chain.size());
    writer.PutBytes(chain);
  };
  put_chain(*whole_);
  for (const auto& [kept, narrow] : narrow_) {
    if (narrow.standing) put_chain(narrow.publication);
  }
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
  if (layout != whole_layout_.digest().Raw()) {
    return absl::InvalidArgumentError("global model state: it was saved for another model; use another --out folder, or the same settings");
  }
  FEDWATT_ASSIGN_OR_RETURN(uint32_t name_size, reader.Get<uint32_t>("strategy length"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view strategy, reader.GetBytes(name_size, "strategy"));
  if (strategy != options_.strategy) {
    return absl::InvalidArgumentError(absl::StrCat("global model state: saved under strategy '", std::string(strategy), "', now '",
                                                   options_.strategy, "'"));
  }
  FEDWATT_ASSIGN_OR_RETURN(uint64_t pruned_size, reader.Get<uint64_t>("pruning length"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view pruned, reader.GetBytes(pruned_size, "pruning"));
  if (pruner_.prunes() != !pruned.empty()) return absl::InvalidArgumentError("global model state: saved under another prune.target");
  if (pruner_.prunes()) {
    FEDWATT_RETURN_IF_ERROR(pruner_.Restore(pruned));
    FEDWATT_RETURN_IF_ERROR(TakeShape(initial_));
    master_.assign(static_cast<size_t>(options_.layout.value_count()), 0);
    optimizer_->Reshape(options_.layout, std::vector<int64_t>(master_.size(), -1));
  }
  scores_.clear();
  for (const ChannelGroup& group : options_.groups) {
    for (int64_t i = 0; i < group.size && wants_scores(); ++i) {
      ChannelScore score;
      FEDWATT_ASSIGN_OR_RETURN(score.sensitivity_sum, reader.Get<double>("sensitivity"));
      FEDWATT_ASSIGN_OR_RETURN(score.round_weight, reader.Get<double>("rounds"));
      FEDWATT_ASSIGN_OR_RETURN(score.pull, reader.Get<double>("pull"));
      score.sensitivity = score.round_weight > 0 ? score.sensitivity_sum / score.round_weight : 0;
      if (!std::isfinite(score.sensitivity) || !std::isfinite(score.pull)) return absl::DataLossError("global model state: a score is not finite");
      scores_[group.name].push_back(score);
    }
  }
  FEDWATT_ASSIGN_OR_RETURN(uint64_t count, reader.Get<uint64_t>("value count"));
  if (count != master_.size()) return absl::DataLossError("global model state: wrong number of values");
  FEDWATT_ASSIGN_OR_RETURN(std::string_view values, reader.GetBytes(count * sizeof(float), "values"));
  FEDWATT_ASSIGN_OR_RETURN(uint64_t optimizer_size, reader.Get<uint64_t>("optimizer length"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view optimizer, reader.GetBytes(optimizer_size, "optimizer"));
  FEDWATT_ASSIGN_OR_RETURN(double multiple, reader.Get<double>("rate"));
  FEDWATT_RETURN_IF_ERROR(rate_.Restore(multiple));
  options_.plan.uplink_codec = rate_.spec();
  FEDWATT_RETURN_IF_ERROR(optimizer_->Restore(optimizer));
  std::memcpy(master_.data(), values.data(), values.size());
  const auto restore_chain = [&reader](Publication& publication, absl::Span<const float> master) -> absl::Status {
    FEDWATT_ASSIGN_OR_RETURN(uint8_t from_seed, reader.Get<uint8_t>("chain start"));
    FEDWATT_ASSIGN_OR_RETURN(uint64_t chain_size, reader.Get<uint64_t>("chain length"));
    FEDWATT_ASSIGN_OR_RETURN(std::string_view chain, reader.GetBytes(chain_size, "chain"));
    return publication.Restore(chain, from_seed != 0, master);
  };
  plans_.clear();
  std::erase_if(narrow_, [](const auto& entry) { return !entry.second.standing; });
  FEDWATT_RETURN_IF_ERROR(restore_chain(*whole_, master_));
  for (auto& [kept, narrow] : narrow_) FEDWATT_RETURN_IF_ERROR(restore_chain(narrow.publication, narrow.submodel->Gather(master_)));
  if (reader.remaining() != 0) return absl::InvalidArgumentError("global model state: saved under other fit settings");
  if (wants_scores()) ScoreChannels(options_.layout, options_.groups, master_, {}, scores_);
  round_ = round;
  return absl::OkStatus();
}

}  // namespace fedwatt
