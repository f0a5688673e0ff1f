#include "fedwatt/base/failpoint.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

struct Point {
  int error = 0;     // 0: kill
  std::string what;  // that passages must hold to count
  int64_t passages_left = 1;
};

struct Points {
  absl::Mutex mutex;
  std::map<std::string, Point, std::less<>> by_name ABSL_GUARDED_BY(mutex);
};

Points& AllPoints() {
  static Points* points = new Points;
  return *points;
}

// A program whose points cannot be read must not run as if it had none.
[[maybe_unused]] const bool kRead = [] {
  const char* spec = std::getenv("FEDWATT_FAILPOINTS");
  FEDWATT_CHECK(spec == nullptr || ArmFailpoints(spec));
  return true;
}();

std::function<int(std::string_view, std::string_view)>& Handler() {
  static auto* handler = new std::function<int(std::string_view, std::string_view)>;
  return *handler;
}

}  // namespace

namespace internal {

std::atomic<bool> failpoints_armed = false;

int PassFailpoint(std::string_view name, std::string_view what) {
  if (Handler()) return Handler()(name, what);
  Points& points = AllPoints();
  absl::MutexLock lock(&points.mutex);
  auto point = points.by_name.find(name);
  if (point == points.by_name.end() || what.find(point->second.what) == std::string_view::npos || --point->second.passages_left > 0) return 0;
  if (point->second.error != 0) return point->second.error;
  ::kill(::getpid(), SIGKILL);
  for (;;) ::pause();
}

}  // namespace internal

bool ArmFailpoints(std::string_view spec) {
  std::map<std::string, Point, std::less<>> by_name;
  for (absl::string_view one : absl::StrSplit(absl::string_view(spec.data(), spec.size()), ',', absl::SkipEmpty())) {
    Point point;
    std::pair<absl::string_view, absl::string_view> counted = absl::StrSplit(one, absl::MaxSplits(':', 1));
    if (!counted.second.empty() && (!absl::SimpleAtoi(counted.second, &point.passages_left) || point.passages_left < 1)) return false;
    std::pair<absl::string_view, absl::string_view> named = absl::StrSplit(counted.first, absl::MaxSplits('=', 1));
    if (named.second == "EIO") {
      point.error = EIO;
    } else if (named.second == "ENOSPC") {
      point.error = ENOSPC;
    } else if (!named.second.empty()) {
      return false;
    }
    const std::pair<std::string, std::string> where = absl::StrSplit(named.first, absl::MaxSplits('@', 1));
    point.what = where.second;
    if (where.first.empty()) return false;
    by_name[where.first] = point;
  }
  Points& points = AllPoints();
  absl::MutexLock lock(&points.mutex);
  points.by_name = std::move(by_name);
  internal::failpoints_armed = !points.by_name.empty();
  return true;
}

void HandleFailpoints(std::function<int(std::string_view name, std::string_view what)> handler) {
  Handler() = std::move(handler);
  Points& points = AllPoints();
  absl::MutexLock lock(&points.mutex);
  internal::failpoints_armed = Handler() != nullptr || !points.by_name.empty();
}

}  // namespace fedwatt
