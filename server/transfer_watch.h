// Counts the streams that move models and updates: too many are refused, and who moves too little is cut.
#ifndef FEDWATT_SERVER_TRANSFER_WATCH_H_
#define FEDWATT_SERVER_TRANSFER_WATCH_H_

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/server/server.h"

namespace fedwatt::internal {

// A stream may be behind by `grace` at most: it starts with that much time, each byte adds 1/min_bytes_per_second, and time passes. So one that is silent ends
// after `grace`, and so does one that trickles below the floor, however long ago it was fast.
//
// Thread-safe.
class TransferWatch {
 public:
  using Id = int64_t;

  // `clock` must outlive it.
  TransferWatch(const TransferLimits& limits, const Clock* clock) : limits_(limits), clock_(clock) {}

  // `caller` is a name or an address. `cut` ends the stream; it may call End() itself, and is called at most once.
  // Errors: RESOURCE_EXHAUSTED  as many as there may be, of this caller or of all
  absl::StatusOr<Id> Begin(std::string_view caller, std::function<void()> cut);
  void Moved(Id id, int64_t bytes);
  // `cut` is not running and will not be called. Unknown ids are let pass.
  void End(Id id);

  // Cuts whoever is overdue; returns how many. To be called about once a second.
  int64_t Sweep();

  int64_t cut_count() const;
  int64_t refused_count() const;

 private:
  struct Transfer {
    std::string caller;
    std::function<void()> cut;
    absl::Duration overdue_at;
  };

  const TransferLimits limits_;
  const Clock* const clock_;
  // A stream that is cut may end on the same thread before `cut` returns.
  mutable std::recursive_mutex mutex_;
  std::map<Id, Transfer> transfers_;
  std::map<std::string, int64_t, std::less<>> by_caller_;
  Id next_id_ = 1;
  int64_t cut_count_ = 0, refused_count_ = 0;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_SERVER_TRANSFER_WATCH_H_
