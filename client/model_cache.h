// The models that a client holds, shared by its participants. Private to the room.
#ifndef FEDWATT_CLIENT_MODEL_CACHE_H_
#define FEDWATT_CLIENT_MODEL_CACHE_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

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

// Keeps one version of each model that was fetched: of each layout, that is, of the whole model and of narrower ones. Those used longest ago make room.
// Thread-safe.
class ModelCache {
 public:
  static constexpr size_t kMostModels = 8;

  // `path`: begins the names of the files that keep the models over restarts, "<path>-<layout>.fwt"; "" for none.
  ModelCache(std::string path, int64_t max_bytes, LogSink log) : path_(std::move(path)), max_bytes_(max_bytes), log_(std::move(log)) {}

  // What to tell the coordinator that we hold, what was used last first.
  std::vector<Digest> held();

  // The model, from memory, from disk, or by `fetch`, which gives the assignment's container. `make_initial` gives the version that every chain from
  // a seed starts with, for when the delta starts there. Only one fetch runs at a time, so that participants who start together fetch once;
  // `fetch` returns soon after its own stop is asked.
  // Errors: FAILED_PRECONDITION  the delta starts from a version that we neither hold nor can make, or does not lead to the model that was announced: ask
  //         anew; DATA_LOSS  a whole model that is not the one announced; as `fetch` and the decoders
  absl::StatusOr<std::shared_ptr<const DecodedModel>> Get(const WantedModel& wanted, const std::function<absl::StatusOr<std::string>()>& fetch,
                                                          const std::function<absl::StatusOr<DecodedModel>()>& make_initial);

 private:
  struct Held {
    Digest digest;
    std::shared_ptr<const DecodedModel> model;
    int64_t last_use = 0;
  };
  void Load() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The model of this digest; null when it is not held. Counts as a use.
  std::shared_ptr<const DecodedModel> Find(const Digest& digest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string FileOf(const Digest& layout) const;
  std::shared_ptr<const DecodedModel> Keep(DecodedModel model, const Digest& digest);
  absl::StatusOr<DecodedModel> FollowDelta(const WantedModel& wanted, const std::function<absl::StatusOr<std::string>()>& fetch,
                                           const std::function<absl::StatusOr<DecodedModel>()>& make_initial, DecodedModel* held);

  const std::string path_;
  const int64_t max_bytes_;
  const LogSink log_;
  absl::Mutex fetching_;  // held over a download; mutex_ never is, so that others can say what is held meanwhile
  absl::Mutex mutex_ ABSL_ACQUIRED_AFTER(fetching_);
  bool read_disk_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<Digest, Held> models_ ABSL_GUARDED_BY(mutex_);  // by layout
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_CLIENT_MODEL_CACHE_H_
