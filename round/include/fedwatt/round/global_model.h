// The coordinator's model: what was aggregated, what clients hold of it, and the bytes they download. Shared by server and simulation.
#ifndef FEDWATT_ROUND_GLOBAL_MODEL_H_
#define FEDWATT_ROUND_GLOBAL_MODEL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/aggregation/accumulator.h"
#include "fedwatt/aggregation/server_optimizer.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/compression/pipeline.h"
#include "fedwatt/model/channels.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/model/plan.h"
#include "fedwatt/model/submodel.h"
#include "fedwatt/round/fitting.h"
#include "fedwatt/round/pruning.h"
#include "fedwatt/round/publication.h"
#include "fedwatt/round/rate_control.h"

namespace fedwatt {

struct GlobalModelOptions {
  Plan plan;                      // layout_digest is filled by Create
  ParameterLayout layout;
  std::vector<ChannelGroup> groups;   // of the model; may be empty when every client trains it whole
  std::vector<double> uses;           // LocalTrainer::UsesPerExample() of the model; empty: 1 each
  FitOptions fit;
  PruneOptions prune;
  std::string strategy = "fedavg";
  ServerOptimizerOptions optimizer;  // its layout is filled by Create
  int64_t max_cohort = 1;         // clients a round may ask; with plan.limits it bounds a round's weight
  // The initial model is what InitialModelSeed() draws, so that a client can make it without a download.
  bool initial_from_seed = false;
};

// Buffers of one folding thread, kept between folds.
struct FoldScratch {
  DecodedValues decoded;
  std::vector<float> whole;  // a narrower update spread out
};

// What the attempts of a round train that were fitted alike. Immutable, and shared by them.
struct FittedPlan {
  Plan plan;
  std::shared_ptr<const Submodel> submodel;          // null: the whole model
  ParameterLayout layout;                            // of what is trained
  std::shared_ptr<const std::vector<float>> values;  // that the client starts from
  Digest model_digest;                               // of these
  double macs_per_example = 0;                       // multiply-adds of one forward pass; where single weights are masked, of the whole model
  int64_t kept_bytes = 0;                            // that the plan's packed channels or weights take, once for each client
};

// Check an update that may be hostile, decode it, add it to `accumulator`. Nothing shared changes on error. Thread-safe for different accumulators
// and scratch vectors. `layout` is the plan's; where that is a narrower model, `submodel` says where it lies in the accumulator's. Errors carry
// WithRejection().
absl::Status FoldUpdate(const Plan& plan, const ParameterLayout& layout, std::string_view container, int64_t example_count, int64_t round,
                        int64_t partition, Accumulator& accumulator, FoldScratch& scratch, const Submodel* submodel = nullptr);

// Where the model is pruned, layout, plan, groups and accumulators are those of what is left of it, and so is everything that clients see; only
// ArchitectureSpec::kept speaks of the whole. They change in Step() alone. A model that was cut is published anew: its chains start with the slices of what
// the run's seed draws, so that whoever held something else, or nothing, needs no whole model.
//
// Each standing narrow fit has a publication, and so a chain, of its own beside the whole model's; others are published for the round in which they
// are assigned. Owned by one thread; published() and blob() are immutable snapshots that other threads may keep.
class GlobalModel {
 public:
  // Errors: INVALID_ARGUMENT  wrong length, invalid plan; NOT_FOUND  unknown strategy or codec
  static absl::StatusOr<GlobalModel> Create(GlobalModelOptions options, std::vector<float> initial);

  // Of the round to come, for whoever trains the whole model, or all that pruning has left of it: its uplink spells the step that rate control chose.
  const Plan& plan() const { return options_.plan; }
  // The clients' step size in the round to come. Before its first Assign().
  void SetLearningRate(double client_learning_rate);
  // What is trained at this width, in (0, 1], in the round under way. Errors: as the downlink's encoder
  absl::StatusOr<std::shared_ptr<const FittedPlan>> Assign(int64_t round, double width);
  // Of the widths that options.fit names, in the model of now: Step() may change them where it is pruned.
  absl::StatusOr<std::vector<WidthCost>> WidthCosts() const;
  const ParameterLayout& layout() const { return options_.layout; }
  // A fresh accumulator of the strategy's kind.
  absl::StatusOr<std::unique_ptr<Accumulator>> NewAccumulator() const;

  // Moves the model by one round's mean and encodes it for round + 1.
  absl::Status Step(const MeanDelta& delta, int64_t round);

  // An update of `parameter_count` values whose container has this many bytes was folded in the round under way; rate control wants to know.
  void NoteUpdate(int64_t bytes, int64_t parameter_count);
  // The round under way came to nothing.
  void AbandonRound() { rate_.Abandon(); }

  // The model that clients hold: blob() decoded. Its digest is the run record's `model_digest`.
  const std::shared_ptr<const std::vector<float>>& published() const { return whole_->values(); }
  const Digest& published_digest() const { return whole_->digest(); }
  // The whole model as a container, and the SHA-256 that names it.
  const std::shared_ptr<const std::string>& blob() const { return whole_->blob(); }
  const Digest& blob_digest() const { return whole_->blob_digest(); }
  // Pipelines and chain stage that clients must know to get at their models.
  std::vector<std::string> downlinks() const;

  // What a client downloads for the model of now that keeps the channels `kept`, as an assignment or plan() named them; see Publication::OfferFor.
  ModelOffer OfferFor(const KeptChannels& kept, absl::Span<const Digest> held, bool whole);
  // A container offered for the model of now, of any fit. Null when there is none of this digest.
  std::shared_ptr<const std::string> FindBlob(const Digest& digest) const;

  // Everything a restart needs. Errors of Restore: DATA_LOSS  damaged; INVALID_ARGUMENT  of another layout or strategy
  std::string Save() const;
  absl::Status Restore(std::string_view state);

 private:
  GlobalModel() = default;
  struct NarrowModel {
    std::shared_ptr<const Submodel> submodel;
    Publication publication;
    bool standing = false;
    double width = 1;
  };
  // `kept` of the model of now.
  absl::StatusOr<NarrowModel> MakeNarrow(const KeptChannels& kept, const std::string& downlink, const std::vector<float>& values, bool from_seed) const;
  KeptChannels OfWhole(const KeptChannels& kept) const { return KeptOfKept(whole_groups_, pruner_.kept(), kept); }
  // Takes the shape that the pruner says, publications included: of the values that it has of `initial`, which are the whole model's.
  absl::Status TakeShape(const std::vector<float>& initial);
  // Turns the model of now into what the pruner has left of it.
  absl::Status Reshape();
  bool wants_scores() const { return pruner_.cuts_ahead() || fitter_.wants_scores(); }

  GlobalModelOptions options_;  // layout, groups and plan of the model of now
  ParameterLayout whole_layout_;
  std::vector<ChannelGroup> whole_groups_;
  std::vector<float> initial_;  // where the model is pruned: the whole one that the run began with
  Pruner pruner_;
  ChannelScores scores_;        // of the model of now, where somebody wants them
  std::unique_ptr<ServerOptimizer> optimizer_;
  std::string accumulator_name_;
  Fitter fitter_;
  std::string snapshot_downlink_;  // of narrow models that have no chain
  RateControl rate_;
  std::vector<float> master_;
  std::optional<Publication> whole_;
  std::map<KeptChannels, NarrowModel> narrow_;  // by the channels that they keep of the whole
  std::map<KeptChannels, std::shared_ptr<const FittedPlan>> plans_;  // of the round under way
  int64_t round_ = 0;  // rounds stepped
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_GLOBAL_MODEL_H_
