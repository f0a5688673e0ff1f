// Named points at which a test kills this process or lets a system call fail.
#ifndef FEDWATT_BASE_FAILPOINT_H_
#define FEDWATT_BASE_FAILPOINT_H_

#include <atomic>
#include <functional>
#include <string_view>

namespace fedwatt {
namespace internal {
extern std::atomic<bool> failpoints_armed;
int PassFailpoint(std::string_view name, std::string_view what);
}  // namespace internal

// Marks a point that a crash must be survived at. Returns 0, or the errno with which the call that follows is to fail. Armed by the environment variable
// FEDWATT_FAILPOINTS when the program starts, or by ArmFailpoints(): by nothing that comes from a network. Costs one load while nothing is armed. Thread-safe.
inline int Failpoint(std::string_view name, std::string_view what = "") {
  return internal::failpoints_armed.load(std::memory_order_relaxed) ? internal::PassFailpoint(name, what) : 0;
}

// `spec` is a list such as "journal_synced:3,journal_write=ENOSPC:2,file_renamed@global-1": at its third passage the first point kills the process as kill -9 would; the second
// fails from its second passage on, until the next call; of the third only passages count whose `what` (a path) holds that text. "" disarms. EIO and ENOSPC are known. Returns false, and arms nothing, where the spec cannot be read. Thread-safe.
bool ArmFailpoints(std::string_view spec);

// From now on `handler` decides what passages return, and no point kills: a simulation's process holds more than the coordinator that is to die. Empty: as before. Not
// thread-safe, and while a handler is set passages must come from one thread.
void HandleFailpoints(std::function<int(std::string_view name, std::string_view what)> handler);

}  // namespace fedwatt

#endif  // FEDWATT_BASE_FAILPOINT_H_
