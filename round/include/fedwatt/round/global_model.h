// The coordinator's model: what was aggregated, what clients hold of it, and the bytes they download. Shared by server and simulation.
#ifndef FEDWATT_ROUND_GLOBAL_MODEL_H_
#define FEDWATT_ROUND_GLOBAL_MODEL_H_

#include <cstdint>
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

namespace fedwatt {

struct GlobalModelOptions {
  Plan plan;                      // layout_digest is filled by Create
  ParameterLayout layout;
  std::string strategy = "fedavg";
  ServerOptimizerOptions optimizer;  // its layout is filled by Create
  int64_t max_cohort = 1;         // clients a round may ask; with plan.limits it bounds a round's weight
};

// Check an update that may be hostile, decode it, add it to `accumulator`. Nothing shared changes on error. Thread-safe for different accumulators
// and scratch vectors. Errors carry WithRejection().
absl::Status FoldUpdate(const Plan& plan, const ParameterLayout& layout, std::string_view container, int64_t example_count, int64_t round,
                        int64_t partition, Accumulator& accumulator, std::vector<float>& scratch);

// Owned by one thread; published() and blob() are immutable snapshots that other threads may keep.
class GlobalModel {
 public:
  // Errors: INVALID_ARGUMENT  wrong length, invalid plan; NOT_FOUND  unknown strategy or codec
  static absl::StatusOr<GlobalModel> Create(GlobalModelOptions options, std::vector<float> initial);

  const Plan& plan() const { return options_.plan; }
  const ParameterLayout& layout() const { return options_.layout; }
  // A fresh accumulator of the strategy's kind.
  absl::StatusOr<std::unique_ptr<Accumulator>> NewAccumulator() const;

  // Moves the model by one round's mean and encodes it for round + 1.
  absl::Status Step(const MeanDelta& delta, int64_t round);

  // The model that clients hold: blob() decoded. Its digest is the run record's `model_digest`.
  const std::shared_ptr<const std::vector<float>>& published() const { return published_; }
  const Digest& published_digest() const { return published_digest_; }
  // The container that clients download, and the SHA-256 that names it.
  const std::shared_ptr<const std::string>& blob() const { return blob_; }
  const Digest& blob_digest() const { return blob_digest_; }

  // Everything a restart needs. Errors of Restore: DATA_LOSS  damaged; INVALID_ARGUMENT  of another layout or strategy
  std::string Save() const;
  absl::Status Restore(std::string_view state);

 private:
  GlobalModel() = default;
  absl::Status Encode(int64_t round);

  GlobalModelOptions options_;
  std::unique_ptr<ServerOptimizer> optimizer_;
  std::string accumulator_name_;
  std::optional<Pipeline> downlink_;
  std::vector<float> master_;
  std::shared_ptr<const std::vector<float>> published_;
  Digest published_digest_;
  std::shared_ptr<const std::string> blob_;
  Digest blob_digest_;
  int64_t round_ = 0;  // rounds stepped
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_GLOBAL_MODEL_H_
