#include "fedwatt/round/model_chain.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/bytes.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/compression/symbol_coder.h"

namespace fedwatt {
namespace {

constexpr std::string_view kStateMagic = "FWCHAIN1";
// A tensor's values stay below 2^exponent, its unit is 2^(exponent - 24). Room for weights that grow 32-fold, and for 8 at least.
constexpr int kLeastExponent = 3;
constexpr int kGrowthExponent = 5;
constexpr int kGreatestExponent = 60;
constexpr double kLeastStep = 0x1p-18, kGreatestStep = 0x1p3;
// Increments that are summed may share no step but a small one.
constexpr double kLeastCommonStep = kLeastStep / 8;
// How strongly one round's rate moves the dead zone, and where the step takes over.
constexpr double kControlGain = 0.25;
constexpr double kLeastDeadzone = 0.5, kGreatestDeadzone = 0.75;

// Steps have three significant bits: few enough to leave all increments exact, enough to choose among.
double NearestStep(double step) {
  int exponent;
  const double mantissa = std::frexp(std::clamp(step, kLeastStep, kGreatestStep), &exponent);
  return std::ldexp(std::round(mantissa * 8), exponent - 3);
}

bool IsStep(double step) { return step >= kLeastStep && step <= kGreatestStep && NearestStep(step) == step; }

// The greatest step of which both are whole multiples. Steps are multiples of an eighth of the least one.
double CommonStep(double a, double b) {
  constexpr double kGrain = kLeastStep / 8;
  return static_cast<double>(std::gcd(std::llround(a / kGrain), std::llround(b / kGrain))) * kGrain;
}

// The last bit of a step.
double GrainOf(double step) {
  int exponent;
  std::frexp(step, &exponent);
  return std::ldexp(1.0, exponent - 3);
}

int ExponentOf(absl::Span<const float> values) {
  float most = 0;
  for (float value : values) most = std::max(most, std::fabs(value));
  if (most == 0) return kLeastExponent;
  int exponent = 0;
  std::frexp(most, &exponent);  // most <= 2^exponent
  return std::max(kLeastExponent, exponent + kGrowthExponent);
}

template <typename Visit>
void ForEachEntry(const ParameterLayout& layout, EntryKind kind, Visit visit) {
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    const LayoutEntry& entry = layout.entries()[i];
    if (entry.kind == kind) visit(static_cast<size_t>(layout.offset(i)), static_cast<size_t>(entry.element_count()));
  }
}

std::vector<int64_t> ParameterCounts(const ParameterLayout& layout) {
  std::vector<int64_t> counts;
  ForEachEntry(layout, EntryKind::kParameter, [&](size_t, size_t count) { counts.push_back(static_cast<int64_t>(count)); });
  return counts;
}

// Where the parameters lie in the flat vector, for numbers that count parameters alone.
class ParameterMap {
 public:
  explicit ParameterMap(const ParameterLayout& layout) {
    ForEachEntry(layout, EntryKind::kParameter, [&](size_t offset, size_t count) {
      begins_.push_back(total_);
      offsets_.push_back(offset);
      total_ += count;
    });
  }
  size_t total() const { return total_; }
  // For rising `index` values; amortised constant.
  size_t FlatOf(size_t index) {
    while (next_ + 1 < begins_.size() && begins_[next_ + 1] <= index) ++next_;
    return offsets_[next_] + (index - begins_[next_]);
  }

 private:
  std::vector<size_t> begins_, offsets_;
  size_t total_ = 0;
  size_t next_ = 0;
};

}  // namespace

bool IsChain(std::string_view spec) { return spec == kChainStage || spec.starts_with(absl::StrCat(std::string(kChainStage), ":")); }

absl::StatusOr<ChainOptions> ParseChain(std::string_view spec) {
  FEDWATT_ASSIGN_OR_RETURN(StageSpec stage, ParseStage(spec));
  ChainOptions options;
  const auto number = [](const std::string& key, const std::string& text, double least, double most) -> absl::StatusOr<double> {
    double value;
    if (!absl::SimpleAtod(text, &value) || !(value >= least && value <= most)) {
      return absl::InvalidArgumentError(absl::StrCat("chain: ", key, " = '", text, "', expected [", least, ", ", most, "]"));
    }
    return value;
  };
  for (const auto& [key, text] : stage.options) {
    if (key == "step") {
      FEDWATT_ASSIGN_OR_RETURN(options.step, number(key, text, kLeastStep, kGreatestStep));
    } else if (key == "rate") {
      FEDWATT_ASSIGN_OR_RETURN(options.rate, number(key, text, 0.001, 8));
    } else if (key == "deadzone") {
      FEDWATT_ASSIGN_OR_RETURN(options.deadzone, number(key, text, 0.5, 1));
    } else if (key == "length") {
      FEDWATT_ASSIGN_OR_RETURN(double length, number(key, text, 1, 4096));
      options.length = static_cast<int64_t>(length);
    } else {
      return absl::InvalidArgumentError(absl::StrCat("chain: no option '", key, "'; it has step, rate, deadzone, length"));
    }
  }
  if ((options.step > 0) == (options.rate > 0)) return absl::InvalidArgumentError("chain: give either step or rate, as in 'chain:step=0.03'");
  return options;
}

void SnapToLattice(const ParameterLayout& layout, absl::Span<float> values) {
  ForEachEntry(layout, EntryKind::kParameter, [&](size_t offset, size_t count) {
    absl::Span<float> tensor = values.subspan(offset, count);
    const double unit = std::ldexp(1.0, ExponentOf(tensor) - 24);
    for (float& value : tensor) value = static_cast<float>(std::nearbyint(value / unit) * unit);
  });
}

absl::Status ApplyChainDelta(const ParameterLayout& layout, std::string_view payload, absl::Span<float> values) {
  FEDWATT_CHECK(static_cast<int64_t>(values.size()) == layout.value_count());
  ByteReader reader(payload, "chain delta");
  FEDWATT_ASSIGN_OR_RETURN(float step, reader.Get<float>("step"));
  if (!(step >= kLeastCommonStep && step <= kGreatestStep)) return absl::DataLossError(absl::StrCat("chain delta: step ", step, " is out of range"));
  absl::Status buffers = absl::OkStatus();
  ForEachEntry(layout, EntryKind::kAveragedBuffer, [&](size_t offset, size_t count) {
    if (!buffers.ok()) return;
    absl::StatusOr<std::string_view> bytes = reader.GetBytes(count * sizeof(float), "buffers");
    buffers = bytes.status();
    if (!buffers.ok()) return;
    std::memcpy(values.data() + offset, bytes->data(), bytes->size());
    for (float value : values.subspan(offset, count)) {
      if (!std::isfinite(value)) buffers = absl::DataLossError("chain delta: a buffer value is not finite");
    }
  });
  FEDWATT_RETURN_IF_ERROR(buffers);
  SparseSymbols increment;
  ParameterMap map(layout);
  FEDWATT_RETURN_IF_ERROR(DecodeSymbols(payload.substr(reader.offset()), ParameterCounts(layout), static_cast<int64_t>(map.total()), increment));
  for (size_t i = 0; i < increment.indices.size(); ++i) {
    float& value = values[map.FlatOf(increment.indices[i])];
    const double moved = static_cast<double>(value) + static_cast<double>(increment.symbols[i]) * step;
    value = static_cast<float>(moved);
    if (static_cast<double>(value) != moved) return absl::DataLossError("chain delta: a value leaves the lattice");
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelChain> ModelChain::Create(const ParameterLayout& layout, const ChainOptions& options, absl::Span<const float> initial,
                                              bool reproducible) {
  FEDWATT_CHECK(static_cast<int64_t>(initial.size()) == layout.value_count());
  ModelChain chain;
  chain.layout_ = layout;
  chain.options_ = options;
  chain.reproducible_ = reproducible;
  chain.initial_.assign(initial.begin(), initial.end());
  SnapToLattice(layout, absl::MakeSpan(chain.initial_));
  ForEachEntry(layout, EntryKind::kParameter, [&](size_t offset, size_t count) {
    if (ExponentOf(absl::MakeConstSpan(chain.initial_).subspan(offset, count)) > kGreatestExponent) chain.layout_ = ParameterLayout();
  });
  if (chain.layout_.value_count() == 0) return absl::InvalidArgumentError("chain: the initial model holds values beyond 2^55");
  chain.initial_digest_ = ModelDigest(layout, chain.initial_);
  chain.values_ = chain.initial_;
  // A rate is approached from a step that suits weights of ordinary size.
  chain.step_ = NearestStep(options.step > 0 ? options.step : 0x1p-5);
  chain.deadzone_ = options.deadzone;
  chain.common_step_ = chain.step_;
  return chain;
}

absl::Status ModelChain::Append(absl::Span<const float> master) {
  FEDWATT_CHECK(master.size() == values_.size());
  SparseSymbols increment;
  std::vector<float> next = values_;
  const double round_up = 1 - deadzone_;
  absl::Status moved = absl::OkStatus();
  uint32_t index = 0;
  ForEachEntry(layout_, EntryKind::kParameter, [&](size_t offset, size_t count) {
    // Judged by the tensor as it was at the start, as clients do nothing but add.
    const int exponent = ExponentOf(absl::MakeConstSpan(initial_).subspan(offset, count));
    const double limit = std::ldexp(1.0, exponent);
    // Where weights are so large that a step is finer than their unit, several steps are taken at a time.
    const double at_once = std::max(1.0, std::ldexp(1.0, exponent - 24) / GrainOf(step_));
    const double step = step_ * at_once;
    for (size_t i = offset; i < offset + count; ++i, ++index) {
      const double residual = static_cast<double>(master[i]) - values_[i];
      const double symbol = std::floor(std::fabs(residual) / step + round_up) * at_once;
      if (symbol < 1) continue;
      if (symbol > kMaxSymbol) {
        moved = absl::ResourceExhaustedError("chain: a value moved by more than 2^24 steps in one round");
        return;
      }
      const double value = values_[i] + std::copysign(symbol * step_, residual);
      if (std::fabs(value) >= limit) moved = absl::ResourceExhaustedError(absl::StrCat("chain: value ", value, " leaves the lattice, which ends at ", limit));
      next[i] = static_cast<float>(value);
      increment.indices.push_back(index);
      increment.symbols.push_back(static_cast<int32_t>(std::copysign(symbol, residual)));
    }
  });
  FEDWATT_RETURN_IF_ERROR(moved);
  ForEachEntry(layout_, EntryKind::kAveragedBuffer, [&](size_t offset, size_t count) {
    std::copy(master.begin() + offset, master.begin() + offset + count, next.begin() + offset);
  });
  Version version;
  FEDWATT_ASSIGN_OR_RETURN(version.symbols, EncodeSymbols(ParameterCounts(layout_), increment));
  version.step = step_;
  version.digest = ModelDigest(layout_, next);
  last_rate_ = 8.0 * static_cast<double>(version.symbols.size()) / static_cast<double>(std::max<uint32_t>(1, index));
  common_step_ = CommonStep(common_step_, step_);
  values_ = std::move(next);
  versions_.push_back(std::move(version));
  while (static_cast<int64_t>(versions_.size()) > options_.length) versions_.pop_front();
  ++version_;
  Control();
  return absl::OkStatus();
}

// Holds the rate: the dead zone fine, the step by factors of two.
void ModelChain::Control() {
  if (options_.rate <= 0) return;
  deadzone_ *= std::pow(std::max(last_rate_, options_.rate / 64) / options_.rate, kControlGain);
  if (deadzone_ > kGreatestDeadzone && step_ < kGreatestStep) {
    step_ *= 2;
    deadzone_ = kLeastDeadzone;
  } else if (deadzone_ < kLeastDeadzone && step_ > kLeastStep) {
    // Far enough from the upper end to stay for a while.
    step_ /= 2;
    deadzone_ = kGreatestDeadzone;
  }
  deadzone_ = std::clamp(deadzone_, kLeastDeadzone, kGreatestDeadzone);
}

absl::StatusOr<ChainDelta> ModelChain::DeltaFrom(const Digest& held) const {
  ChainDelta delta;
  delta.base = held;
  delta.target = digest();
  double step = common_step_;
  SparseSymbols increment;
  if (held == initial_digest_) {
    // The way from the start needs no versions: the difference is on the lattice.
    uint32_t index = 0;
    bool too_far = false;
    ForEachEntry(layout_, EntryKind::kParameter, [&](size_t offset, size_t count) {
      for (size_t i = offset; i < offset + count; ++i, ++index) {
        const double steps = (static_cast<double>(values_[i]) - initial_[i]) / step;
        if (steps == 0) continue;
        too_far |= std::fabs(steps) > kMaxSymbol;
        increment.indices.push_back(index);
        increment.symbols.push_back(static_cast<int32_t>(std::clamp<double>(steps, -kMaxSymbol, kMaxSymbol)));
      }
    });
    if (too_far) return absl::NotFoundError("chain: the way from the start is too long for one increment");
  } else {
    size_t first = versions_.size();  // of the increments after `held`
    while (first > 0 && versions_[first - 1].digest != held) --first;
    if (first == 0 && held != delta.target) {
      return absl::NotFoundError(absl::StrCat("chain: version ", held.Hex().substr(0, 12), " is not among the last ", versions_.size()));
    }
    step = first < versions_.size() ? versions_[first].step : step_;
    for (size_t v = first; v < versions_.size(); ++v) step = CommonStep(step, versions_[v].step);
    const std::vector<int64_t> counts = ParameterCounts(layout_);
    const size_t total = ParameterMap(layout_).total();
    std::vector<int64_t> sum(total);
    for (size_t v = first; v < versions_.size(); ++v) {
      SparseSymbols one;
      FEDWATT_RETURN_IF_ERROR(DecodeSymbols(versions_[v].symbols, counts, static_cast<int64_t>(total), one));
      const int64_t scale = std::llround(versions_[v].step / step);
      for (size_t i = 0; i < one.indices.size(); ++i) sum[one.indices[i]] += one.symbols[i] * scale;
    }
    for (size_t i = 0; i < total; ++i) {
      if (sum[i] == 0) continue;
      if (std::llabs(sum[i]) > kMaxSymbol) return absl::NotFoundError("chain: the sum of increments is too large for one");
      increment.indices.push_back(static_cast<uint32_t>(i));
      increment.symbols.push_back(static_cast<int32_t>(sum[i]));
    }
  }
  ByteWriter writer;
  writer.Put<float>(static_cast<float>(step));
  ForEachEntry(layout_, EntryKind::kAveragedBuffer, [&](size_t offset, size_t count) {
    writer.PutBytes({reinterpret_cast<const char*>(values_.data() + offset), count * sizeof(float)});
  });
  FEDWATT_ASSIGN_OR_RETURN(std::string symbols, EncodeSymbols(ParameterCounts(layout_), increment));
  writer.PutBytes(symbols);
  delta.payload = std::move(writer).str();
  return delta;
}

std::string ModelChain::Save() const {
  ByteWriter writer;
  writer.PutBytes(kStateMagic);
  writer.PutBytes(layout_.digest().Raw());
  writer.PutBytes(initial_digest_.Raw());
  writer.Put<uint8_t>(reproducible_);
  if (!reproducible_) writer.PutBytes({reinterpret_cast<const char*>(initial_.data()), initial_.size() * sizeof(float)});
  writer.Put<int64_t>(version_);
  writer.Put<double>(step_);
  writer.Put<double>(deadzone_);
  writer.Put<double>(common_step_);
  writer.Put<double>(last_rate_);
  writer.PutBytes({reinterpret_cast<const char*>(values_.data()), values_.size() * sizeof(float)});
  writer.Put<uint32_t>(static_cast<uint32_t>(versions_.size()));
  for (const Version& version : versions_) {
    writer.PutBytes(version.digest.Raw());
    writer.Put<double>(version.step);
    writer.Put<uint64_t>(version.symbols.size());
    writer.PutBytes(version.symbols);
  }
  return std::move(writer).str();
}

absl::Status ModelChain::Restore(std::string_view state) {
  ByteReader reader(state, "chain state");
  FEDWATT_ASSIGN_OR_RETURN(std::string_view magic, reader.GetBytes(kStateMagic.size(), "magic"));
  if (magic != kStateMagic) return absl::DataLossError("chain state: wrong magic");
  FEDWATT_ASSIGN_OR_RETURN(std::string_view layout, reader.GetBytes(32, "layout digest"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view initial, reader.GetBytes(32, "initial digest"));
  ModelChain restored = *this;
  FEDWATT_ASSIGN_OR_RETURN(uint8_t reproducible, reader.Get<uint8_t>("start"));
  restored.reproducible_ = reproducible != 0;
  if (!restored.reproducible_) {
    FEDWATT_ASSIGN_OR_RETURN(std::string_view start, reader.GetBytes(initial_.size() * sizeof(float), "initial values"));
    std::memcpy(restored.initial_.data(), start.data(), start.size());
    restored.initial_digest_ = ModelDigest(layout_, restored.initial_);
  }
  if (layout != layout_.digest().Raw() || initial != restored.initial_digest_.Raw()) {
    return absl::InvalidArgumentError("chain state: it began with another model; use another --out folder, or the same settings and initial model");
  }
  FEDWATT_ASSIGN_OR_RETURN(restored.version_, reader.Get<int64_t>("version"));
  FEDWATT_ASSIGN_OR_RETURN(restored.step_, reader.Get<double>("step"));
  FEDWATT_ASSIGN_OR_RETURN(restored.deadzone_, reader.Get<double>("dead zone"));
  FEDWATT_ASSIGN_OR_RETURN(restored.common_step_, reader.Get<double>("common step"));
  FEDWATT_ASSIGN_OR_RETURN(restored.last_rate_, reader.Get<double>("last rate"));
  if (!IsStep(restored.step_) || !(restored.common_step_ >= kLeastCommonStep && restored.common_step_ <= kGreatestStep)) {
    return absl::DataLossError("chain state: a step is out of range");
  }
  // A new dead zone in the settings counts from now on; a controlled one goes on where it was.
  if (options_.rate <= 0) {
    restored.step_ = step_;
    restored.deadzone_ = deadzone_;
  }
  FEDWATT_ASSIGN_OR_RETURN(std::string_view values, reader.GetBytes(values_.size() * sizeof(float), "values"));
  std::memcpy(restored.values_.data(), values.data(), values.size());
  FEDWATT_ASSIGN_OR_RETURN(uint32_t count, reader.Get<uint32_t>("version count"));
  restored.versions_.clear();
  for (uint32_t i = 0; i < count; ++i) {
    Version version;
    FEDWATT_ASSIGN_OR_RETURN(std::string_view digest, reader.GetBytes(32, "digest"));
    FEDWATT_ASSIGN_OR_RETURN(version.digest, Digest::FromRaw(digest));
    FEDWATT_ASSIGN_OR_RETURN(version.step, reader.Get<double>("step"));
    if (!IsStep(version.step)) return absl::DataLossError("chain state: a step is out of range");
    FEDWATT_ASSIGN_OR_RETURN(uint64_t size, reader.Get<uint64_t>("increment length"));
    FEDWATT_ASSIGN_OR_RETURN(std::string_view symbols, reader.GetBytes(size, "increment"));
    version.symbols = std::string(symbols);
    restored.versions_.push_back(std::move(version));
  }
  if (reader.remaining() != 0) return absl::DataLossError("chain state: trailing bytes");
  if (restored.digest() != ModelDigest(layout_, restored.values_)) return absl::DataLossError("chain state: the values are not those of the last version");
  *this = std::move(restored);
  return absl::OkStatus();
}

}  // namespace fedwatt
