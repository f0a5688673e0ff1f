// An instrument outside the machine, such as a meter in the plug, whose readings another program appends to a file or writes into a named pipe.
//
// energy.source is "watts:FILE" or "joules:FILE". A line is `time,watts` or `time,joules`: the time in seconds since 1970 or as RFC 3339, watts at that time or
// joules since any fixed start. Lines of anything else are skipped, so headers and comments are. Power is integrated by trapezoids, and between two samples
// taken to lie between them; joules are counted as they are and split evenly in time between two samples.
//
// What was spent since the last sample is not known yet when a window ends. It is stated as at the last power, with an interval from nothing to twice the highest
// power seen; the next window begins with what is known by then.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/meter.h"
#include "sysfs.h"

namespace fedwatt {
namespace {

constexpr absl::Duration kMostLag = absl::Seconds(30);  // between samples of power, and since the last of either kind
constexpr absl::Duration kMostAhead = absl::Seconds(2);  // of another machine's clock
constexpr double kMostWatts = 100'000, kMostJoules = 1e15;
constexpr size_t kMostLine = 256, kMostQueued = 4096;
constexpr int64_t kMostBytesPerLook = 1 << 20, kTail = 1 << 16;

struct Entry {
  absl::Time at;
  double value;
};

std::optional<Entry> ParseLine(absl::string_view line) {
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(',', 1));
  const absl::string_view time = absl::StripAsciiWhitespace(parts.first);
  Entry entry;
  double seconds;
  std::string ignored;
  if (absl::SimpleAtod(time, &seconds)) {
    if (!(seconds >= 0 && seconds < 1e11)) return std::nullopt;
    entry.at = absl::UnixEpoch() + absl::Seconds(seconds);
  } else if (!absl::ParseTime(absl::RFC3339_full, time, &entry.at, &ignored)) {
    return std::nullopt;
  }
  if (!absl::SimpleAtod(absl::StripAsciiWhitespace(parts.second), &entry.value) || !std::isfinite(entry.value) || entry.value < 0) return std::nullopt;
  return entry;
}

// The lines that have come since one looked last, whatever becomes of the file.
class Lines {
 public:
  Lines(std::string path, int descriptor, bool pipe) : path_(std::move(path)), descriptor_(descriptor), pipe_(pipe) {}
  ~Lines() { ::close(descriptor_); }
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;

  // NOT_FOUND, PERMISSION_DENIED; INVALID_ARGUMENT  neither a file nor a pipe
  static absl::StatusOr<std::unique_ptr<Lines>> Open(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return ErrnoStatus(errno, absl::StrCat("opening ", path));
    struct stat info = {};
    if (::fstat(descriptor, &info) != 0 || !(S_ISREG(info.st_mode) || S_ISFIFO(info.st_mode))) {
      ::close(descriptor);
      return absl::InvalidArgumentError(absl::StrCat(path, ": expected a file or a named pipe"));
    }
    return std::make_unique<Lines>(path, descriptor, S_ISFIFO(info.st_mode));
  }

  // Skips all but the end of a file.
  void SkipToEnd() {
    struct stat info = {};
    if (pipe_ || ::fstat(descriptor_, &info) != 0 || info.st_size <= kTail) return;
    offset_ = info.st_size - kTail;
    ::lseek(descriptor_, offset_, SEEK_SET);
    line_.clear();
    overlong_ = true;  // until the next line begins
  }

  // Calls `take` with each whole line. False where the file was cut or replaced, so that lines may be lost.
  template <typename Take>
  bool Drain(Take take) {
    bool whole = true;
    struct stat info = {};
    if (!pipe_ && ::fstat(descriptor_, &info) == 0 && info.st_size < offset_) {
      whole = false;
      Restart();
    }
    char chunk[1 << 14];
    for (int64_t total = 0; total < kMostBytesPerLook;) {
      const ssize_t size = ::read(descriptor_, chunk, sizeof chunk);
      if (size <= 0) {
        if (!pipe_ && Replaced()) whole = false;
        break;
      }
      total += size;
      offset_ += size;
      for (absl::string_view rest(chunk, static_cast<size_t>(size)); !rest.empty();) {
        const size_t end = rest.find('\n');
        const absl::string_view part = rest.substr(0, end);
        overlong_ |= line_.size() + part.size() > kMostLine;
        if (!overlong_) line_.append(part.data(), part.size());
        if (end == rest.npos) break;
        if (!overlong_) take(absl::string_view(line_));
        line_.clear();
        overlong_ = false;
        rest.remove_prefix(end + 1);
      }
    }
    return whole;
  }

 private:
  void Restart() {
    offset_ = 0;
    ::lseek(descriptor_, 0, SEEK_SET);
    line_.clear();
    overlong_ = false;
  }
  // Another file has taken the name: goes on with that.
  bool Replaced() {
    struct stat open = {}, named = {};
    if (::fstat(descriptor_, &open) != 0 || ::stat(path_.c_str(), &named) != 0 || !S_ISREG(named.st_mode)) return false;
    if (open.st_ino == named.st_ino && open.st_dev == named.st_dev) return false;
    const int descriptor = ::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return false;
    ::close(descriptor_);
    descriptor_ = descriptor;
    Restart();
    return true;
  }

  const std::string path_;
  int descriptor_;
  const bool pipe_;
  int64_t offset_ = 0;
  std::string line_;       // begun and not ended
  bool overlong_ = false;  // the line that is being read is skipped
};

class ExternalMeter : public Meter {
 public:
  ExternalMeter(std::unique_ptr<Lines> lines, bool power, std::string path, const Clock* clock)
      : lines_(std::move(lines)), power_(power), path_(std::move(path)), clock_(clock) {}

  std::string_view name() const override { return "external"; }
  EnergyTier tier() const override { return EnergyTier::kWall; }
  absl::Duration SamplePeriod() const override { return absl::Seconds(1); }
  std::string Describe() const override {
    return absl::StrCat("external: ", power_ ? "watts" : "joules", " of the instrument that writes ", path_,
                        "; counts whatever is plugged into it; a window without a reading for ", absl::FormatDuration(kMostLag), " is missing");
  }

  absl::Status Start() override {
    if (!start_.has_value()) lines_->SkipToEnd();
    Open(Now());
    Take();
    Settle(start_->wall);
    Open(*start_);
    return absl::OkStatus();
  }
  void Sample() override {
    if (!start_.has_value()) return;
    Take();
    Settle(clock_->Now());
  }
  EnergyReading Read() override {
    EnergyReading reading;
    const std::optional<Instant> start = start_;
    if (!start.has_value()) return reading;
    const Instant now = Now();
    reading.window = now.monotonic - start->monotonic;
    Take();
    Settle(now.wall);
    const absl::Duration stepped = (now.wall - start->wall) - reading.window;
    const absl::Duration lag = last_.has_value() ? now.wall - last_->at : absl::InfiniteDuration();
    if (!missing_ && covered_ && lag <= kMostLag && stepped < absl::Seconds(1) && stepped > -absl::Seconds(1)) {
      // Since the last sample, or since the window's start where there was none in it.
      const double open = absl::ToDoubleSeconds(now.wall - std::max(last_->at, start->wall));
      reading.energy = Joules(value_ + watts_ * open);
      reading.low = std::min(Joules(least_), *reading.energy);
      reading.high = std::max(Joules(most_ + 2 * peak_ * open), *reading.energy);
      reading.tier = tier();
      reading.source = "external";
      reading.domain = "plug";
    }
    Open(now);
    return reading;
  }

 private:
  struct Instant {
    absl::Time wall;
    absl::Duration monotonic;
  };
  Instant Now() const { return {clock_->Now(), clock_->Monotonic()}; }

  // Queues what has come; times that do not rise, or lie ahead, are not believed.
  void Take() {
    const absl::Time limit = clock_->Now() + kMostAhead;
    const bool whole = lines_->Drain([&](absl::string_view line) {
      const std::optional<Entry> entry = ParseLine(line);
      if (!entry.has_value() || entry->value > (power_ ? kMostWatts : kMostJoules) || entry->at > limit) return;
      const absl::Time newest = !queue_.empty() ? queue_.back().at : last_.has_value() ? last_->at : absl::InfinitePast();
      if (entry->at <= newest) return;
      // Those who write faster than anyone can measure: the window's integral is settled as far as time has come, the rest is lost.
      if (queue_.size() >= kMostQueued) Settle(clock_->Now());
      if (queue_.size() < kMostQueued) queue_.push_back(*entry);
    });
    if (!whole) {
      missing_ = true;
      last_.reset();
    }
  }

  // Books all queued samples up to `until`.
  void Settle(absl::Time until) {
    for (; !queue_.empty() && queue_.front().at <= until; queue_.pop_front()) {
      const Entry now = queue_.front();
      const std::optional<Entry> last = std::exchange(last_, now);
      if (!last.has_value()) {
        watts_ = power_ ? now.value : 0;
        peak_ = std::max(peak_, watts_);
        continue;
      }
      const double span = absl::ToDoubleSeconds(now.at - last->at);
      // The part of the span that lies in the window.
      const double inside = absl::ToDoubleSeconds(now.at - std::max(last->at, start_->wall));
      const double joules = power_ ? (last->value + now.value) / 2 * span : now.value - last->value;
      watts_ = power_ ? now.value : joules / span;
      if (joules < 0 || joules / span > kMostWatts || (power_ && now.at - last->at > kMostLag)) {
        missing_ |= inside > 0;
        watts_ = power_ ? now.value : 0;
      }
      peak_ = std::max(peak_, watts_);
      if (inside <= 0) continue;
      const double share = inside / span;
      if (power_) {
        const double begin = now.value + (last->value - now.value) * share;
        value_ += (begin + now.value) / 2 * inside;
        least_ += std::min(last->value, now.value) * inside;
        most_ += std::max(last->value, now.value) * inside;
      } else {
        value_ += joules * share;
        least_ += share < 1 ? 0 : joules;
        most_ += joules;
      }
    }
    if (last_.has_value() && last_->at <= start_->wall) covered_ = true;
  }

  void Open(const Instant& at) {
    start_ = at;
    value_ = least_ = most_ = 0;
    missing_ = false;
    covered_ = last_.has_value();
  }

  const std::unique_ptr<Lines> lines_;
  const bool power_;
  const std::string path_;
  const Clock* const clock_;
  std::deque<Entry> queue_;     // come and not booked
  std::optional<Entry> last_;   // booked
  std::optional<Instant> start_;  // of the open window
  double value_ = 0, least_ = 0, most_ = 0;  // joules of the open window
  double watts_ = 0, peak_ = 0;              // now, and the highest
  bool missing_ = false;
  bool covered_ = false;  // a sample from before the window's start is known
};

absl::StatusOr<std::unique_ptr<Meter>> Create(const MeterOptions& options) {
  if (options.thread_scope) return absl::UnimplementedError("an instrument measures what is plugged into it; it cannot tell one thread's joules from another's");
  absl::string_view source = options.source;
  const bool power = absl::ConsumePrefix(&source, "watts:");
  if ((!power && !absl::ConsumePrefix(&source, "joules:")) || source.empty()) {
    return absl::UnimplementedError("energy.source names no instrument; remedy: set it to watts:FILE or joules:FILE, a file or pipe of time,value lines");
  }
  const std::string path = Below(options.root, std::string(source));
  absl::StatusOr<std::unique_ptr<Lines>> lines = Lines::Open(path);
  if (options.on_domain) options.on_domain({"plug", std::string(lines.status().message())});
  FEDWATT_RETURN_IF_ERROR(lines.status());
  return std::make_unique<ExternalMeter>(*std::move(lines), power, path, options.clock);
}

}  // namespace

namespace internal {

void InstallMeter_external(MeterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("external", MeterEntry{Create, /*preference=*/140}).ok());
}

}  // namespace internal
}  // namespace fedwatt
