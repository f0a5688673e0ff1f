#include "fedwatt/round/participant.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/pipeline.h"
#include "fedwatt/model/container.h"
#include "fedwatt/privacy/update_guard.h"

namespace fedwatt {

namespace {

absl::Status CheckFinite(absl::Span<const float> values) {
  for (float value : values) {
    if (!std::isfinite(value)) return absl::InvalidArgumentError("model container: a value is not finite");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DecodedModel> DecodeModel(std::string_view container, int64_t max_bytes) {
  FEDWATT_ASSIGN_OR_RETURN(ContainerView view, ParseContainer(container, max_bytes));
  if (view.header.kind != ContainerKind::kModel) return absl::InvalidArgumentError("model container: it holds an update, expected a model");
  DecodedModel model;
  model.layout = std::move(view.header.layout);
  if (view.header.codec == kChainStage) {
    FEDWATT_ASSIGN_OR_RETURN(model.position, ReadChainPosition(model.layout, view.payload));
    model.values = ChainValues(model.layout, *model.position);
    if (model.position->basis.empty()) model.position.reset();
    FEDWATT_RETURN_IF_ERROR(CheckFinite(model.values));
    return model;
  }
  FEDWATT_ASSIGN_OR_RETURN(Pipeline pipeline, Pipeline::Create(view.header.codec));
  // A layout may claim 2^31 values in a few bytes; no codec we know packs a model below 1/256 byte a value.
  if (model.layout.value_count() / 256 > static_cast<int64_t>(view.payload.size())) {
    return absl::DataLossError(absl::StrCat("model container: ", model.layout.value_count(), " values claimed by ", view.payload.size(), " bytes"));
  }
  model.values.resize(static_cast<size_t>(model.layout.value_count()));
  FEDWATT_RETURN_IF_ERROR(pipeline.DecodeDense(view.payload, model.layout, 0, 0, absl::MakeSpan(model.values)));
  FEDWATT_RETURN_IF_ERROR(CheckFinite(model.values));
  return model;
}

absl::Status ApplyModelDelta(std::string_view container, int64_t max_bytes, DecodedModel& model) {
  FEDWATT_ASSIGN_OR_RETURN(ContainerView view, ParseContainer(container, max_bytes));
  if (view.header.kind != ContainerKind::kModelDelta) return absl::InvalidArgumentError("model delta: another kind of container");
  if (!view.IsFor(model.layout.digest())) return absl::InvalidArgumentError("model delta: of another layout than the model held");
  if (!view.IsBy(kChainStage)) return absl::InvalidArgumentError(absl::StrCat("model delta: not coded by '", std::string(kChainStage), "'"));
  if (!model.position.has_value()) model.position = ChainPosition{"", std::move(model.values)};
  FEDWATT_RETURN_IF_ERROR(ApplyChainDelta(model.layout, view.payload, *model.position));
  model.values = ChainValues(model.layout, *model.position);
  return CheckFinite(model.values);
}

double ResidualWeight(int64_t age) {
  constexpr double kFresh = 64, kHalfLife = 32;
  return std::exp2(-std::max(0.0, static_cast<double>(age) - kFresh) / kHalfLife);
}

absl::StatusOr<AttemptResult> RunAttempt(const Plan& plan, int64_t round, int64_t partition, const DecodedModel& model, const Dataset& data,
                                         LocalTrainer& trainer, const TrainingControl& control, const Residual* residual, PhaseTracker* tracker,
                                         ParticipantScratch& scratch) {
  FEDWATT_RETURN_IF_ERROR(ValidatePlan(plan));
  if (model.layout.digest() != plan.layout_digest || trainer.layout().digest() != plan.layout_digest) {
    return absl::InvalidArgumentError(absl::StrCat("layout: the plan names ", plan.layout_digest.Hex().substr(0, 12), ", the model has ",
                                                   model.layout.digest().Hex().substr(0, 12), ", the trainer ",
                                                   trainer.layout().digest().Hex().substr(0, 12)));
  }
  FEDWATT_ASSIGN_OR_RETURN(Pipeline pipeline, Pipeline::Create(plan.uplink_codec));

  if (tracker != nullptr) tracker->Enter(Phase::kTrain);
  scratch.local.resize(model.values.size());
  FEDWATT_ASSIGN_OR_RETURN(TrainingResult trained, trainer.Train(model.values, data, plan.recipe, TrainingSeed(plan.seed, round, partition), control,
                                                                 absl::MakeSpan(scratch.local)));
  if (trained.steps_done < 1) return absl::FailedPreconditionError("training was stopped before its first step");

  if (tracker != nullptr) tracker->Enter(Phase::kEncode);
  absl::Span<float> delta = absl::MakeSpan(scratch.local);
  for (size_t i = 0; i < delta.size(); ++i) delta[i] -= model.values[i];
  if (plan.clip_norm > 0) ClipToNorm(model.layout, plan.clip_norm, delta);
  const uint64_t encoding_seed = EncodingSeed(plan.seed, round, partition);
  const Submodel* part = trainer.submodel();
  const size_t whole_count = part != nullptr ? static_cast<size_t>(part->whole().value_count()) : delta.size();
  // What is kept of earlier rounds, faded by its age.
  std::vector<float> kept;
  if (pipeline.error_feedback() && residual != nullptr && residual->values.size() == whole_count && residual->round < round) {
    const float weight = static_cast<float>(ResidualWeight(round - residual->round));
    kept = residual->values;
    for (float& value : kept) value *= weight;
    const std::vector<float> mine = part != nullptr ? part->Gather(kept) : std::vector<float>();
    const std::vector<float>& due = part != nullptr ? mine : kept;
    for (size_t i = 0; i < delta.size(); ++i) delta[i] += due[i];
  }
  FEDWATT_ASSIGN_OR_RETURN(std::string payload, pipeline.Encode(model.layout, delta, encoding_seed, round));

  ContainerHeader header;
  header.kind = ContainerKind::kUpdate;
  header.codec = plan.uplink_codec;
  header.layout_digest = plan.layout_digest;
  AttemptResult result;
  if (pipeline.error_feedback()) {
    std::vector<float> lost(delta.size());
    FEDWATT_RETURN_IF_ERROR(pipeline.DecodeDense(payload, model.layout, encoding_seed, round, absl::MakeSpan(lost)));
    for (size_t i = 0; i < delta.size(); ++i) lost[i] = delta[i] - lost[i];
    if (part != nullptr) {
      result.residual = std::move(kept);
      result.residual.resize(whole_count);
      part->Scatter(lost, absl::MakeSpan(result.residual));
    } else {
      result.residual = std::move(lost);
    }
  }
  result.update = WriteContainer(header, payload);
  result.example_count = trained.example_count;
  result.train_loss = trained.mean_loss;
  result.steps_done = trained.steps_done;
  result.completed = trained.completed;
  return result;
}

absl::StatusOr<HeldOutSplit> SplitHeldOut(const Dataset& data, double held_out_fraction, uint64_t run_seed, int64_t partition) {
  if (!(held_out_fraction >= 0 && held_out_fraction < 1)) {
    return absl::InvalidArgumentError(absl::StrCat("held-out fraction: expected [0, 1), got ", held_out_fraction));
  }
  if (data.size() < 1) return absl::InvalidArgumentError("held-out split: the partition has no examples");
  HeldOutSplit split;
  if (held_out_fraction == 0 || data.size() < 2) {
    split.train = data;
    return split;
  }
  std::vector<int32_t> order(static_cast<size_t>(data.size()));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  Random random(DeriveSeed("held-out", {run_seed, static_cast<uint64_t>(partition)}));
  random.Shuffle(order);
  const int64_t held = std::clamp<int64_t>(std::llround(held_out_fraction * static_cast<double>(data.size())), 1, data.size() - 1);
  FEDWATT_ASSIGN_OR_RETURN(split.held_out, data.Subset({order.begin(), order.begin() + held}));
  FEDWATT_ASSIGN_OR_RETURN(split.train, data.Subset({order.begin() + held, order.end()}));
  return split;
}

}  // namespace fedwatt
