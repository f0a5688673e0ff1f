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
#include "fedwatt/model/layout.h"
#include "fedwatt/model/plan.h"
#include "fedwatt/round/model_chain.h"
#include "fedwatt/round/rate_control.h"

namespace fedwatt {

struct GlobalModelOptions {
  Plan plan;                      // layout_digest is filled by Create
  ParameterLayout layout;
  std::string strategy = "fedavg";
  ServerOptimizerOptions optimizer;  // its layout is filled by Create
  int64_t max_cohort = 1;         // clients a round may ask; with plan.limits it bounds a round's weight
  // The initial model is what InitialModelSeed() draws, so that a client can make it without a download.
  bool initial_from_seed = false;
};

// Buffers of one folding thread, kept between folds.
struct FoldScratch {
  DecodedValues decoded;
};

// How a client that holds `held` gets at the newest model.
struct ModelOffer {
  std::shared_ptr<const std::string> blob;  // container to download: a whole model, or a delta from `base`; null when it holds the newest already
  Digest blob_digest;                        // SHA-256 of the container
  std::optional<Digest> base;                // ModelDigest that the delta starts from; absent for a whole model
};

// Check an update that may be hostile, decode it, add it to `accumulator`. Nothing shared changes on error. Thread-safe for different accumulators
// and scratch vectors. Errors carry WithRejection().
absl::Status FoldUpdate(const Plan& plan, const ParameterLayout& layout, std::string_view container, int64_t example_count, int64_t round,
                        int64_t partition, Accumulator& accumulator, FoldScratch& scratch);

// Owned by one thread; published() and blob() are immutable snapshots that other threads may keep.
class GlobalModel {
 public:
  // Errors: INVALID_ARGUMENT  wrong length, invalid plan; NOT_FOUND  unknown strategy or codec
  static absl::StatusOr<GlobalModel> Create(GlobalModelOptions options, std::vector<float> initial);

  // Of the round to come: its uplink spells the step that rate control chose.
  const Plan& plan() const { return options_.plan; }
  const ParameterLayout& layout() const { return options_.layout; }
  // A fresh accumulator of the strategy's kind.
  absl::StatusOr<std::unique_ptr<Accumulator>> NewAccumulator() const;

  // Moves the model by one round's mean and encodes it for round + 1.
  absl::Status Step(const MeanDelta& delta, int64_t round);

  // An update whose container has this many bytes was folded in the round under way; rate control wants to know.
  void NoteUpdate(int64_t bytes);
  // The round under way came to nothing.
  void AbandonRound() { rate_.Abandon(); }

  // The model that clients hold: blob() decoded. Its digest is the run record's `model_digest`.
  const std::shared_ptr<const std::vector<float>>& published() const { return published_; }
  const Digest& published_digest() const { return published_digest_; }
  // The whole model as a container, and the SHA-256 that names it.
  const std::shared_ptr<const std::string>& blob() const { return blob_; }
  const Digest& blob_digest() const { return blob_digest_; }

  // What a client downloads that holds the version `held` names (none: nothing yet) or insists on the whole model. Coded once for all clients
  // at a version. Without a chain it is always blob().
  ModelOffer OfferFor(const std::optional<Digest>& held, bool whole);
  // A container offered for the model of now. Null when there is none of this digest.
  std::shared_ptr<const std::string> FindBlob(const Digest& digest) const;

  // Everything a restart needs. Errors of Restore: DATA_LOSS  damaged; INVALID_ARGUMENT  of another layout or strategy
  std::string Save() const;
  absl::Status Restore(std::string_view state);

 private:
  GlobalModel() = default;
  absl::Status Publish(int64_t round);
  absl::Status MoveChain();
  ModelOffer WholeOffer();

  GlobalModelOptions options_;
  std::unique_ptr<ServerOptimizer> optimizer_;
  std::string accumulator_name_;
  std::optional<Pipeline> downlink_;  // of whole models
  std::optional<ModelChain> chain_;
  bool chain_from_seed_ = false;      // the chain's version 0 is what clients can make themselves
  RateControl rate_;
  std::vector<float> master_;
  std::shared_ptr<const std::vector<float>> published_;
  Digest published_digest_;
  std::shared_ptr<const std::string> blob_;
  Digest blob_digest_;
  ModelOffer whole_;                     // what a client gets that holds nothing it could start from
  std::map<Digest, ModelOffer> offers_;  // deltas to the newest version, by the version they start from
  int64_t round_ = 0;  // rounds stepped
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_GLOBAL_MODEL_H_
