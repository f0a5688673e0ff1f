// Waiting that a stop token can end. Private to the room.
#ifndef FEDWATT_CLIENT_WAIT_H_
#define FEDWATT_CLIENT_WAIT_H_

#include <condition_variable>
#include <mutex>
#include <stop_token>

#include "absl/time/time.h"

namespace fedwatt::internal {

// Returns after `span`, or false as soon as `stop` is asked.
inline bool WaitFor(absl::Duration span, std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any woken;
  std::unique_lock<std::mutex> lock(mutex);
  woken.wait_for(lock, stop, absl::ToChronoNanoseconds(span), [] { return false; });
  return !stop.stop_requested();
}

}  // namespace fedwatt::internal

#endif  // FEDWATT_CLIENT_WAIT_H_
