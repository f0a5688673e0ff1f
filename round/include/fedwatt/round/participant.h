// The client's part of a round: global model in, encoded update out. The networked client and the simulated fleet run this same code, so both
// make the same bytes.
#ifndef FEDWATT_ROUND_PARTICIPANT_H_
#define FEDWATT_ROUND_PARTICIPANT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/energy/phase_tracker.h"
#include "fedwatt/model/dataset.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/model/local_trainer.h"
#include "fedwatt/model/plan.h"
#include "fedwatt/round/model_chain.h"

namespace fedwatt {

struct DecodedModel {
  ParameterLayout layout;
  std::vector<float> values;
  std::optional<ChainPosition> position;  // when the model is a version of a chain past the first
};
// Brings `model` from the version that it is to the one that a delta container leads to. On error `model` is spoilt.
// Errors: as ParseContainer and ApplyChainDelta; INVALID_ARGUMENT  another kind of container, or of another layout
absl::Status ApplyModelDelta(std::string_view container, int64_t max_bytes, DecodedModel& model);

// Parses a model container, decodes it with the codec it names. `max_bytes` bounds the container and, through it, everything allocated.
// Errors: as ParseContainer and Codec::Decode; INVALID_ARGUMENT  an update, or non-finite values
absl::StatusOr<DecodedModel> DecodeModel(std::string_view container, int64_t max_bytes);

struct AttemptResult {
  std::string update;             // container, encoded by plan.uplink_codec
  int64_t example_count = 0;
  double train_loss = 0;
  int64_t steps_done = 0;
  bool completed = true;          // false: stopped or out of time, partial work
  // What the encoding lost, to be kept once the update counts; empty unless the plan's uplink has error feedback. Of the whole model, as `Residual`.
  std::vector<float> residual;
};

// What earlier encodings lost, in the layout of the whole model, whatever part of it is trained this time. It belongs to one client and one run.
struct Residual {
  std::vector<float> values;
  int64_t round = 0;  // in which it was left
};
// The weight of a residual that was left `age` >= 1 rounds ago: 1 while a client comes back as often as it may be expected to in a large federation,
// then halved every 32 rounds, so that what a long absence made stale does no harm.
double ResidualWeight(int64_t age);

// Buffers reused between attempts of one thread.
struct ParticipantScratch {
  std::vector<float> local;
};

// Trains and encodes. `model` must have the plan's layout and the trainer's. `residual` may be null; it counts when the plan's uplink has error
// feedback, and changes only where the trainer's model covers the whole. `tracker` may be null; otherwise the phases train and encode are entered.
// Errors: INVALID_ARGUMENT  layouts differ, or the plan is invalid; ABORTED  training diverged; FAILED_PRECONDITION  stopped before the first step
absl::StatusOr<AttemptResult> RunAttempt(const Plan& plan, int64_t round, int64_t partition, const DecodedModel& model, const Dataset& data,
                                         LocalTrainer& trainer, const TrainingControl& control, const Residual* residual, PhaseTracker* tracker,
                                         ParticipantScratch& scratch);

// Splits a partition's examples into a part to train on and a held-out part for federated evaluation, by (run seed, partition).
// `held_out_fraction` in [0, 1): 0 gives everything to training and no held-out part; both parts are non-empty otherwise, so a dataset of one
// example is all training.
struct HeldOutSplit {
  Dataset train;
  std::optional<Dataset> held_out;
};
absl::StatusOr<HeldOutSplit> SplitHeldOut(const Dataset& data, double held_out_fraction, uint64_t run_seed, int64_t partition);

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_PARTICIPANT_H_
