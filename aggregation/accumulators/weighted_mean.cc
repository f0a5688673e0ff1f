// Example-weighted mean of deltas (FedAvg; McMahan et al. 2017, arXiv 1602.05629, algorithm 1), summed in fixed point.
//
//   mean[i] = sum_k n_k x_k[i] / sum_k n_k        over the clients k that covered coordinate i
//
//   x_k  delta of client k      ClientUpdate::delta, float32, layout().value_count() values
//   n_k  its weight             ClientUpdate::example_count, an integer
//
// Each term enters an int64 sum as q = round(double(x) * (double(n) * 2^e)), halves to even, with
// e = 62 - ceil(log2(max_abs * max_total_weight)). n * 2^e is exact; the product is exact in double for n < 2^29 (24 + 29 bits), so that
// there is one rounding; for larger n the product is first rounded to 53 bits, the same on every machine. Sums of all terms stay below
// 2^62 + (number of updates) / 2, hence integer addition is exact and commutes: neither order, threads, merges nor restarts change a bit.
// A mean is off by at most 2^-e / 2 before it is rounded to float32.
//
// Cost: one pass to check, one to add, or a single one from the update's bytes; 8 bytes a coordinate. Weight sums are kept as steps: nothing per coordinate.
// Breakdown point 0: one client within the limits can move the mean by n / N * max_abs.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/aggregation/accumulator.h"
#include "fedwatt/base/bytes.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/rejection.h"
#include "fixed_point.h"
#include "saved_state.h"

namespace fedwatt {
namespace {

constexpr char kKind[] = "weighted_mean";

absl::Status Refuse(Rejection rejection, const absl::AlphaNum& what) {
  return WithRejection(absl::InvalidArgumentError(absl::StrCat("weighted_mean: ", what)), rejection);
}

// 62 - ceil(log2(bound)), without a logarithm's rounding.
int Exponent(double bound) {
  int power;
  const double mantissa = std::frexp(bound, &power);  // bound = mantissa * 2^power, mantissa in [1/2, 1)
  return 62 - (mantissa == 0.5 ? power - 1 : power);
}

class WeightedMean : public Accumulator {
 public:
  explicit WeightedMean(const AccumulatorOptions& options)
      : options_(options),
        exponent_(Exponent(options.max_abs * static_cast<double>(options.max_total_weight))),
        sums_(static_cast<size_t>(options.layout.value_count())) {}

  absl::Status Accumulate(const ClientUpdate& update) override {
    if (update.is_sparse) return AccumulateSparse(update);
    if (update.delta.size() != sums_.size()) {
      return Refuse(Rejection::kWrongLayout, absl::StrCat(update.delta.size(), " values, expected ", sums_.size()));
    }
    FEDWATT_RETURN_IF_ERROR(CheckWeight(update.example_count));
    FEDWATT_RETURN_IF_ERROR(CheckCoverage(update.covered));

    const CoordinateRange all{0, static_cast<int64_t>(sums_.size())};
    const absl::Span<const CoordinateRange> ranges = update.covered.empty() ? absl::MakeConstSpan(&all, 1) : update.covered;
    float most = 0;
    for (const CoordinateRange& range : ranges) {
      const float magnitude = internal::MaxMagnitude(update.delta.subspan(range.begin, range.end - range.begin));
      FEDWATT_RETURN_IF_ERROR(CheckMagnitude(magnitude, range.begin, range.end));
      most = std::max(most, magnitude);
    }
    const double factor = std::ldexp(static_cast<double>(update.example_count), exponent_);
    for (const CoordinateRange& range : ranges) {
      const size_t begin = static_cast<size_t>(range.begin), count = static_cast<size_t>(range.end - range.begin);
      internal::AddScaled(update.delta.subspan(begin, count), factor, most, absl::MakeSpan(sums_).subspan(begin, count));
    }
    Count(update.example_count, ranges);
    return absl::OkStatus();
  }

  bool AccumulateBlocks(BlockSource blocks, int64_t example_count, double max_abs) override {
    if (!CheckWeight(example_count).ok()) return false;
    const double factor = std::ldexp(static_cast<double>(example_count), exponent_);
    const double most = std::min(max_abs, options_.max_abs);
    size_t added = 0;  // blocks
    bool good = true;  // also where the source pays no heed to the visitor
    good &= blocks([&](const ValueBlock& block) {
      if (!good || block.begin > sums_.size() || block.count > sums_.size() - block.begin) return good = false;
      ++added;
      return good = internal::AddScaledBlock(block, factor, most, sums_.data() + block.begin) <= most;
    });
    if (good) {
      const CoordinateRange all{0, value_count()};
      Count(example_count, absl::MakeConstSpan(&all, 1));
      return true;
    }
    // Sums of integers: the same blocks take away what they brought, to the last bit.
    blocks([&](const ValueBlock& block) {
      if (added == 0) return false;
      internal::SubtractScaledBlock(block, factor, most, sums_.data() + block.begin);
      return --added > 0;
    });
    FEDWATT_CHECK(added == 0);
    return false;
  }

  absl::Status Merge(const Accumulator& other) override {
    const auto* same = dynamic_cast<const WeightedMean*>(&other);
    if (same == nullptr) return absl::InvalidArgumentError("weighted_mean: merged with another kind of accumulator");
    if (same == this) return absl::InvalidArgumentError("weighted_mean: merged with itself");
    if (same->options_.layout != options_.layout || same->options_.max_abs != options_.max_abs ||
        same->options_.max_total_weight != options_.max_total_weight) {
      return absl::InvalidArgumentError("weighted_mean: merged with one of other options");
    }
    if (same->total_weight_ > options_.max_total_weight - total_weight_) return WeightExhausted(same->total_weight_);
    for (size_t i = 0; i < sums_.size(); ++i) sums_[i] += same->sums_[i];
    for (const auto& [coordinate, step] : same->weight_steps_) AddStep(coordinate, step);
    total_weight_ += same->total_weight_;
    update_count_ += same->update_count_;
    return absl::OkStatus();
  }

  std::string Save() const override {
    ByteWriter body;
    body.Put(options_.max_abs);
    body.Put(options_.max_total_weight);
    body.Put(update_count_);
    body.Put(total_weight_);
    body.Put(static_cast<uint64_t>(weight_steps_.size()));
    for (const auto& [coordinate, step] : weight_steps_) {
      body.Put(coordinate);
      body.Put(step);
    }
    body.PutBytes({reinterpret_cast<const char*>(sums_.data()), sums_.size() * sizeof(int64_t)});
    return internal::SealState(kKind, options_.layout.digest(), body.str());
  }

  absl::Status Restore(std::string_view state) override {
    FEDWATT_ASSIGN_OR_RETURN(std::string_view body, internal::OpenState(kKind, options_.layout.digest(), state));
    ByteReader reader(body, kKind);
    FEDWATT_ASSIGN_OR_RETURN(double max_abs, reader.Get<double>("max_abs"));
    FEDWATT_ASSIGN_OR_RETURN(int64_t max_total_weight, reader.Get<int64_t>("max_total_weight"));
    if (max_abs != options_.max_abs || max_total_weight != options_.max_total_weight) {
      return absl::InvalidArgumentError("weighted_mean: saved under other options");
    }
    FEDWATT_ASSIGN_OR_RETURN(int64_t update_count, reader.Get<int64_t>("update count"));
    FEDWATT_ASSIGN_OR_RETURN(int64_t total_weight, reader.Get<int64_t>("total weight"));
    FEDWATT_ASSIGN_OR_RETURN(uint64_t step_count, reader.Get<uint64_t>("step count"));
    if (update_count < 0 || total_weight < update_count || total_weight > max_total_weight) {
      return absl::DataLossError("weighted_mean: counts that no updates make");
    }
    std::map<int64_t, int64_t> steps;
    int64_t weight = 0, last = -1;
    for (uint64_t i = 0; i < step_count; ++i) {
      FEDWATT_ASSIGN_OR_RETURN(int64_t coordinate, reader.Get<int64_t>("step coordinate"));
      FEDWATT_ASSIGN_OR_RETURN(int64_t step, reader.Get<int64_t>("step"));
      const bool in_range = step >= -total_weight && step <= total_weight && coordinate > last && coordinate <= value_count();
      if (!in_range || (weight += step) < 0 || weight > total_weight) {
        return absl::DataLossError("weighted_mean: weight steps that no updates make");
      }
      steps.emplace_hint(steps.end(), coordinate, step);
      last = coordinate;
    }
    if (weight != 0) return absl::DataLossError("weighted_mean: weight steps that no updates make");
    FEDWATT_ASSIGN_OR_RETURN(std::string_view sums, reader.GetBytes(sums_.size() * sizeof(int64_t), "sums"));
    if (reader.remaining() != 0) return absl::DataLossError("weighted_mean: trailing bytes");
    std::memcpy(sums_.data(), sums.data(), sums.size());
    weight_steps_ = std::move(steps);
    update_count_ = update_count;
    total_weight_ = total_weight;
    return absl::OkStatus();
  }

  absl::StatusOr<MeanDelta> Report() const override {
    if (update_count_ == 0) return absl::FailedPreconditionError("weighted_mean: nothing was accumulated");
    MeanDelta mean;
    mean.values.resize(sums_.size());
    mean.update_count = update_count_;
    mean.total_weight = total_weight_;
    int64_t begin = 0, weight = 0;
    auto close = [&](int64_t end) {
      if (begin == end) return;
      if (weight == 0) {
        mean.uncovered.push_back({begin, end});
      } else {
        const double divisor = std::ldexp(static_cast<double>(weight), exponent_);
        for (int64_t i = begin; i < end; ++i) mean.values[i] = static_cast<float>(static_cast<double>(sums_[i]) / divisor);
      }
      begin = end;
    };
    for (const auto& [coordinate, step] : weight_steps_) {
      close(coordinate);
      weight += step;
    }
    close(value_count());
    return mean;
  }

  void Reset() override {
    std::fill(sums_.begin(), sums_.end(), 0);
    weight_steps_.clear();
    total_weight_ = 0;
    update_count_ = 0;
  }

  int64_t update_count() const override { return update_count_; }

 private:
  int64_t value_count() const { return static_cast<int64_t>(sums_.size()); }

  // Costs what the values cost that are there; the sums are those of the same update written out.
  absl::Status AccumulateSparse(const ClientUpdate& update) {
    if (update.indices.size() != update.delta.size()) {
      return Refuse(Rejection::kWrongLayout, absl::StrCat(update.indices.size(), " indices of ", update.delta.size(), " values"));
    }
    FEDWATT_RETURN_IF_ERROR(CheckWeight(update.example_count));
    FEDWATT_RETURN_IF_ERROR(CheckCoverage(update.covered));
    const float most = internal::MaxMagnitude(update.delta);
    FEDWATT_RETURN_IF_ERROR(CheckMagnitude(most, 0, value_count()));
    uint32_t last = 0;
    for (uint32_t index : update.indices) last = std::max(last, index);
    if (!update.indices.empty() && last >= sums_.size()) {
      return Refuse(Rejection::kWrongLayout, absl::StrCat("index ", last, ", expected less than ", sums_.size()));
    }
    const double factor = std::ldexp(static_cast<double>(update.example_count), exponent_);
    if (update.covered.empty()) {
      internal::AddScaledAt(update.indices, update.delta, factor, absl::MakeSpan(sums_));
      const CoordinateRange all{0, value_count()};
      Count(update.example_count, absl::MakeConstSpan(&all, 1));
      return absl::OkStatus();
    }
    for (size_t i = 0; i < update.indices.size(); ++i) {
      const int64_t index = update.indices[i];
      auto after = std::upper_bound(update.covered.begin(), update.covered.end(), index,
                                    [](int64_t at, const CoordinateRange& range) { return at < range.begin; });
      if (after == update.covered.begin() || index >= std::prev(after)->end) continue;
      internal::AddScaledAt(update.indices.subspan(i, 1), update.delta.subspan(i, 1), factor, absl::MakeSpan(sums_));
    }
    Count(update.example_count, update.covered);
    return absl::OkStatus();
  }

  void Count(int64_t example_count, absl::Span<const CoordinateRange> ranges) {
    for (const CoordinateRange& range : ranges) {
      AddStep(range.begin, example_count);
      AddStep(range.end, -example_count);
    }
    total_weight_ += example_count;
    ++update_count_;
  }

  absl::Status CheckWeight(int64_t example_count) const {
    if (example_count < 1) return Refuse(Rejection::kBadWeight, absl::StrCat("example_count = ", example_count, ", expected >= 1"));
    if (example_count > options_.max_total_weight - total_weight_) return WeightExhausted(example_count);
    return absl::OkStatus();
  }

  absl::Status CheckMagnitude(float magnitude, int64_t begin, int64_t end) const {
    if (!std::isfinite(magnitude)) return Refuse(Rejection::kNotFinite, absl::StrCat("a value in [", begin, ", ", end, ") is not finite"));
    if (magnitude > options_.max_abs) {
      return Refuse(Rejection::kValueTooLarge, absl::StrCat("a value of magnitude ", magnitude, " in [", begin, ", ", end, "), at most ",
                                                            options_.max_abs, " is allowed"));
    }
    return absl::OkStatus();
  }

  absl::Status WeightExhausted(int64_t weight) const {
    return WithRejection(absl::ResourceExhaustedError(absl::StrCat("weighted_mean: weight ", weight, " on top of ", total_weight_,
                                                                   " would pass max_total_weight ", options_.max_total_weight)),
                         Rejection::kBadWeight);
  }

  absl::Status CheckCoverage(absl::Span<const CoordinateRange> covered) const {
    int64_t last = 0;
    for (const CoordinateRange& range : covered) {
      if (range.begin < last || range.end <= range.begin || range.end > value_count()) {
        return Refuse(Rejection::kWrongLayout, absl::StrCat("covered range [", range.begin, ", ", range.end, ") after ", last,
                                                            ", expected sorted, disjoint, non-empty ranges within ", value_count()));
      }
      last = range.end;
    }
    return absl::OkStatus();
  }

  // Steps that cancel leave no trace, so that equal sums have equal bytes.
  void AddStep(int64_t coordinate, int64_t step) {
    auto [it, inserted] = weight_steps_.try_emplace(coordinate, step);
    if (!inserted && (it->second += step) == 0) weight_steps_.erase(it);
  }

  const AccumulatorOptions options_;
  const int exponent_;
  std::vector<int64_t> sums_;
  // By how much the weight sum changes at a coordinate; the sum left of all steps is 0.
  std::map<int64_t, int64_t> weight_steps_;
  int64_t total_weight_ = 0;
  int64_t update_count_ = 0;
};

absl::StatusOr<std::unique_ptr<Accumulator>> MakeWeightedMean(const AccumulatorOptions& options) {
  if (options.layout.value_count() == 0) return absl::InvalidArgumentError("weighted_mean: the layout is empty");
  if (!(options.max_abs >= FLT_MIN && options.max_abs <= FLT_MAX)) {
    return absl::InvalidArgumentError(absl::StrCat("weighted_mean: max_abs = ", options.max_abs, ", expected a normal float32 > 0"));
  }
  if (options.max_total_weight < 1 || options.max_total_weight > int64_t{1} << 40) {
    return absl::InvalidArgumentError(absl::StrCat("weighted_mean: max_total_weight = ", options.max_total_weight, ", expected [1, 2^40]"));
  }
  return std::make_unique<WeightedMean>(options);
}

}  // namespace

namespace internal {

void InstallAccumulator_weighted_mean(AccumulatorRegistry& registry) {
  FEDWATT_CHECK(registry.Register(kKind, MakeWeightedMean).ok());
}

}  // namespace internal
}  // namespace fedwatt
