#include "counter_meter.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

class CounterMeter : public Meter {
 public:
  CounterMeter(CounterMeterOptions options, const MeterOptions& common)
      : options_(std::move(options)), clock_(common.clock), suspended_(common.suspended), pause_(common.pause) {
    for (const CounterSource& source : options_.sources) {
      accumulators_.emplace_back(source.spec);
      sample_period_ = std::min(sample_period_, accumulators_.back().safe_period());
      if (!Provable(source)) sample_period_ = std::min(sample_period_, source.spec.refresh);
    }
    sums_.resize(accumulators_.size());
  }

  std::string_view name() const override { return options_.name; }
  bool CoversMachine() const override { return options_.covers_machine; }
  EnergyTier tier() const override { return options_.tier; }
  absl::Duration SamplePeriod() const override { return sample_period_; }
  std::string Describe() const override {
    const std::string limit = sample_period_ == absl::InfiniteDuration()
                                  ? std::string("wrap limit unknown: a window with a wrap is missing")
                                  : absl::StrFormat("sampled at least every %.0f s against unseen wraps", absl::ToDoubleSeconds(sample_period_));
    return absl::StrCat(options_.name, ": counters of ", Domain(), "; ", options_.covers, "; ", limit,
                        options_.left_out.empty() ? "" : absl::StrCat("; left out: ", absl::StrJoin(options_.left_out, ", ")));
  }

  absl::Status Start() override {
    Open(clock_->Monotonic());
    start_.reset();
    for (CounterAccumulator& accumulator : accumulators_) accumulator.Forget();
    FEDWATT_ASSIGN_OR_RETURN(Edge now, ReadEdge(/*starting=*/true));
    Open(now.at);
    start_ = std::move(now);
    return absl::OkStatus();
  }

  void Sample() override {
    if (!start_.has_value()) return;
    // A failed sample loses nothing: the next one spans it.
    if (absl::StatusOr<Look> now = ReadAll(); now.ok()) Feed(*now);
  }

  EnergyReading Read() override {
    EnergyReading reading;
    absl::StatusOr<Edge> now = ReadEdge(/*starting=*/false);
    const absl::Duration wall = now.ok() ? now->at : clock_->Monotonic();
    if (opened_.has_value()) reading.window = wall - *opened_;
    if (!now.ok()) {
      // What comes next spans this reading, so it belongs to no window. How old the numbers are stays known.
      start_.reset();
      Open(wall);
      return reading;
    }
    const std::optional<Edge> start = std::exchange(start_, *now);
    if (start.has_value()) Add(reading, *start, *now);
    Open(wall);
    return reading;
  }

 private:
  struct Look {
    absl::Duration at, suspended;
    std::vector<int64_t> raw;      // one a source
    std::vector<size_t> mirrored;  // for each source, the first of its group that shows the same number; itself otherwise
  };
  // A look that ends one window and begins the next.
  struct Edge {
    absl::Duration at;
    std::vector<size_t> mirrored;
    std::vector<std::optional<absl::Duration>> staleness;  // one a source; absent where the counter stood still although it was waited for
  };
  struct Sum {
    int64_t least_uj = 0, value_uj = 0, most_uj = 0;
    bool missing = false;
  };

  // A counter that is refreshed so often can be waited for until it moves, which proves its number fresh.
  static bool Provable(const CounterSource& source) { return source.spec.refresh <= kMostProvable; }

  absl::StatusOr<Look> ReadAll() const {
    Look look{clock_->Monotonic(), suspended_(), {}, {}};
    for (const CounterSource& source : options_.sources) {
      FEDWATT_ASSIGN_OR_RETURN(look.raw.emplace_back(), source.read());
    }
    for (size_t i = 0; i < look.raw.size(); ++i) {
      look.mirrored.push_back(i);
      const CounterSource& source = options_.sources[i];
      for (size_t j = 0; j < i && !source.mirror_group.empty(); ++j) {
        const int64_t ahead = look.raw[i] - look.raw[j];
        // One counter cannot move further between two reads in a row.
        if (options_.sources[j].mirror_group != source.mirror_group || ahead < 0 || ahead > kMirrorAheadMicrojoules) continue;
        if (absl::StatusOr<int64_t> again = options_.sources[j].read(); again.ok() && *again >= look.raw[i]) {
          look.mirrored[i] = j;
          break;
        }
      }
    }
    return look;
  }

  // A counter that is too slow to be waited for at every edge is waited for once, when it starts: until it has moved, nothing is known of how old its number is.
  absl::StatusOr<Edge> ReadEdge(bool starting) {
    FEDWATT_ASSIGN_OR_RETURN(Look look, ReadAll());
    Feed(look);
    const absl::Duration first = look.at;
    const auto fresh = [&](size_t i) {
      const CounterSource& source = options_.sources[i];
      return !Provable(source) || accumulators_[i].staleness() <= kFreshRefreshes * source.spec.refresh;
    };
    for (int polls = 0; polls < kMostPolls; ++polls) {
      absl::Duration wait = absl::InfiniteDuration();
      for (size_t i = 0; i < accumulators_.size(); ++i) {
        if (!fresh(i) || (starting && accumulators_[i].staleness() == absl::InfiniteDuration())) wait = std::min(wait, options_.sources[i].spec.refresh / 2);
      }
      if (wait == absl::InfiniteDuration()) break;
      pause_(wait);
      FEDWATT_ASSIGN_OR_RETURN(look, ReadAll());
      Feed(look);
    }
    Edge edge{look.at, std::move(look.mirrored), {}};
    for (size_t i = 0; i < accumulators_.size(); ++i) {
      const absl::Duration staleness = accumulators_[i].staleness();
      const bool moved = staleness <= look.at - first + options_.sources[i].spec.refresh;
      edge.staleness.push_back(fresh(i) || moved ? std::optional(staleness) : std::nullopt);
    }
    return edge;
  }

  void Feed(const Look& now) {
    for (size_t i = 0; i < accumulators_.size(); ++i) {
      const CounterDelta delta = accumulators_[i].Feed(now.at, now.suspended, now.raw[i]);
      sums_[i].missing |= delta.missing();
      if (delta.missing()) continue;
      sums_[i].least_uj += *delta.least_uj;
      sums_[i].value_uj += *delta.value_uj;
      sums_[i].most_uj += *delta.most_uj;
    }
  }

  void Open(absl::Duration at) {
    opened_ = at;
    sums_.assign(accumulators_.size(), Sum());
  }

  // The most that a number of this age leaves out.
  int64_t LeftOutMicrojoules(size_t source, absl::Duration staleness) const {
    const double microjoules = options_.sources[source].spec.max_power.watts() * 1e6 * absl::ToDoubleSeconds(staleness);
    return microjoules < kNoBound ? std::llround(microjoules) : kNoBound;
  }

  void Add(EnergyReading& reading, const Edge& start, const Edge& end) const {
    Sum total;
    std::vector<std::string> labels;
    for (size_t i = 0; i < sums_.size(); ++i) {
      if (start.mirrored[i] != i && start.mirrored[i] == end.mirrored[i]) continue;
      if (sums_[i].missing || !start.staleness[i].has_value() || !end.staleness[i].has_value()) return;
      const int64_t unseen_uj = LeftOutMicrojoules(i, *end.staleness[i]);
      if (unseen_uj == kNoBound) return;
      total.least_uj += std::max<int64_t>(0, sums_[i].least_uj - LeftOutMicrojoules(i, *start.staleness[i]));
      total.value_uj += sums_[i].value_uj;
      total.most_uj += sums_[i].most_uj + unseen_uj;
      labels.push_back(options_.sources[i].label);
    }
    reading.energy = Microjoules(total.value_uj);
    reading.low = Microjoules(total.least_uj);
    reading.high = Microjoules(total.most_uj);
    reading.tier = options_.tier;
    reading.source = options_.name;
    reading.domain = absl::StrJoin(labels, "+");
  }

  std::string Domain() const {
    return absl::StrJoin(options_.sources, "+", [](std::string* out, const CounterSource& source) { *out += source.label; });
  }

  static constexpr int64_t kMirrorAheadMicrojoules = 10'000'000;
  static constexpr absl::Duration kMostProvable = absl::Milliseconds(5);
  static constexpr int kFreshRefreshes = 4;
  static constexpr int kMostPolls = 20;  // of half a refresh each
  static constexpr int64_t kNoBound = int64_t{1} << 60;

  const CounterMeterOptions options_;
  const Clock* const clock_;
  const std::function<absl::Duration()> suspended_;
  const std::function<void(absl::Duration)> pause_;
  absl::Duration sample_period_ = absl::InfiniteDuration();
  std::vector<CounterAccumulator> accumulators_;  // one a source, as are sums_
  std::vector<Sum> sums_;                         // of the open window
  std::optional<Edge> start_;                    // of the open window; absent after a failed read
  std::optional<absl::Duration> opened_;          // kept across failed reads, so that windows still tile
};

}  // namespace

std::unique_ptr<Meter> MakeCounterMeter(CounterMeterOptions options, const MeterOptions& common) {
  FEDWATT_CHECK(!options.sources.empty());
  return std::make_unique<CounterMeter>(std::move(options), common);
}

}  // namespace fedwatt
