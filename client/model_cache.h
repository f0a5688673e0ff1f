// The version of the global model that a client holds, shared by its participants. Private to the room.
#ifndef FEDWATT_CLIENT_MODEL_CACHE_H_
#define FEDWATT_CLIENT_MODEL_CACHE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/log.h"
#include "fedwatt/round/participant.h"

namespace fedwatt::internal {

// The model that an assignment names.
struct WantedModel {
  Digest digest;                // ModelDigest
  std::optional<Digest> base;   // ModelDigest of the version that the blob starts from; absent when the blob is a whole model
};

// Thread-safe.
class ModelCache {
 public:
  // `path`: a file that keeps the model over restarts; "" for none.
  ModelCache(std::string path, int64_t max_bytes, LogSink log) : path_(std::move(path)), max_bytes_(max_bytes), log_(std::move(log)) {}

  // What to tell the coordinator that we hold.
  std::optional<Digest> held();

  // The model, from memory, from disk, or by `fetch`, which gives the assignment's container. `make_initial` gives the version that every chain from
  // a seed starts with, for when the delta starts there. Only one fetch runs at a time, so that participants who start together fetch once;
  // `fetch` returns soon after its own stop is asked.
  // Errors: FAILED_PRECONDITION  the delta starts from a version that we neither hold nor can make, or does not lead to the model that was announced: ask
  //         anew; DATA_LOSS  a whole model that is not the one announced; as `fetch` and the decoders
  absl::StatusOr<std::shared_ptr<const DecodedModel>> Get(const WantedModel& wanted, const std::function<absl::StatusOr<std::string>()>& fetch,
                                                          const std::function<absl::StatusOr<DecodedModel>()>& make_initial);

 private:
  void Load() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<const DecodedModel> Keep(DecodedModel model, const Digest& digest);
  absl::StatusOr<DecodedModel> FollowDelta(const WantedModel& wanted, const std::function<absl::StatusOr<std::string>()>& fetch,
                                           const std::function<absl::StatusOr<DecodedModel>()>& make_initial, DecodedModel* held);

  const std::string path_;
  const int64_t max_bytes_;
  const LogSink log_;
  absl::Mutex fetching_;  // held over a download; mutex_ never is, so that others can say what is held meanwhile
  absl::Mutex mutex_ ABSL_ACQUIRED_AFTER(fetching_);
  bool read_disk_ ABSL_GUARDED_BY(mutex_) = false;
  Digest digest_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const DecodedModel> model_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_CLIENT_MODEL_CACHE_H_
