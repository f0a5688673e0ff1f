#include "fedwatt/round/model_chain.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "chain_order.h"
#include "fedwatt/base/bytes.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/block_dct.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/compression/symbol_coder.h"

namespace fedwatt {
namespace {

constexpr std::string_view kStateMagic = "FWCHAIN3";
// A tensor's values stay below 2^exponent, its unit is 2^(exponent - 24). Room for weights that grow 32-fold, and for 8 at least.
constexpr int kLeastExponent = 3;
constexpr int kGrowthExponent = 5;
constexpr int kGreatestExponent = 60;
constexpr double kLeastStep = 0x1p-18, kGreatestStep = 0x1p3;
// In a delta's 16 bits of step, where a sign would be.
constexpr uint16_t kHasBasis = 0x8000;
// Increments that are summed may share no step but a small one.
constexpr double kLeastCommonStep = kLeastStep / 32;
// How strongly one round's rate moves the dead zone, and where the step takes over.
constexpr double kControlGain = 0.25;
constexpr double kLeastDeadzone = 0.5, kGreatestDeadzone = 0.75;

// Steps have five significant bits: few enough to leave all increments exact, enough to choose among.
constexpr int kStepBits = 5;
double NearestStep(double step) {
  int exponent;
  const double mantissa = std::frexp(std::clamp(step, kLeastStep, kGreatestStep), &exponent);
  return std::ldexp(std::round(mantissa * (1 << kStepBits)), exponent - kStepBits);
}

bool IsStep(double step) { return step >= kLeastStep && step <= kGreatestStep && NearestStep(step) == step; }

// The greatest step of which both are whole multiples.
double CommonStep(double a, double b) {
  constexpr double kGrain = kLeastStep / (1 << kStepBits);
  return static_cast<double>(std::gcd(std::llround(a / kGrain), std::llround(b / kGrain))) * kGrain;
}

// The last bit of a step.
double GrainOf(double step) {
  int exponent;
  std::frexp(step, &exponent);
  return std::ldexp(1.0, exponent - kStepBits);
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

std::vector<int> Exponents(const ParameterLayout& layout, absl::Span<const float> values) {
  std::vector<int> exponents;
  ForEachEntry(layout, EntryKind::kParameter, [&](size_t offset, size_t count) { exponents.push_back(ExponentOf(values.subspan(offset, count))); });
  return exponents;
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
    } else if (key == "multiple") {
      FEDWATT_ASSIGN_OR_RETURN(options.multiple, number(key, text, 0.001, 100));
    } else if (key == "rate") {
      FEDWATT_ASSIGN_OR_RETURN(options.rate, number(key, text, 0.001, 8));
    } else if (key == "deadzone") {
      FEDWATT_ASSIGN_OR_RETURN(options.deadzone, number(key, text, 0.5, 1));
    } else if (key == "reversal") {
      FEDWATT_ASSIGN_OR_RETURN(options.reversal, number(key, text, 0.5, 2));
    } else if (key == "transform") {
      if (text != "dct" && text != "none") return absl::InvalidArgumentError(absl::StrCat("chain: transform = '", text, "', expected dct or none"));
      options.dct = text == "dct";
    } else if (key == "length") {
      FEDWATT_ASSIGN_OR_RETURN(double length, number(key, text, 1, 4096));
      options.length = static_cast<int64_t>(length);
    } else {
      return absl::InvalidArgumentError(absl::StrCat("chain: no option '", key, "'; it has step, multiple, rate, deadzone, reversal, length, transform"));
    }
  }
  if ((options.step > 0) + (options.multiple > 0) + (options.rate > 0) != 1) {
    return absl::InvalidArgumentError("chain: give one of step, multiple or rate, as in 'chain:multiple=2'");
  }
  return options;
}

void SnapToLattice(const ParameterLayout& layout, absl::Span<float> values) {
  ForEachEntry(layout, EntryKind::kParameter, [&](size_t offset, size_t count) {
    absl::Span<float> tensor = values.subspan(offset, count);
    const double unit = std::ldexp(1.0, ExponentOf(tensor) - 24);
    // Plus zero: a negative zero would stay one for clients whose increments cancel, and become positive for those that follow each of them.
    for (float& value : tensor) value = static_cast<float>(std::nearbyint(value / unit) * unit + 0.0);
  });
}

namespace {

size_t BasisBytes(const ParameterLayout& layout) { return ParameterCounts(layout).size(); }

// Calls visit(shape, rows, columns, offset) for each parameter tensor; `basis` has BasisBytes().
template <typename Visit>
void ForEachShape(const ParameterLayout& layout, std::string_view basis, Visit visit) {
  size_t tensor = 0;
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    const LayoutEntry& entry = layout.entries()[i];
    if (entry.kind != EntryKind::kParameter) continue;
    const int64_t rows = entry.shape.empty() ? 1 : entry.shape[0];
    visit(static_cast<DctShape>(basis[tensor++]), rows, entry.element_count() / rows, static_cast<size_t>(layout.offset(i)));
  }
}

absl::Status CheckBasis(const ParameterLayout& layout, std::string_view basis, std::string_view what) {
  absl::Status status = absl::OkStatus();
  ForEachShape(layout, basis, [&](DctShape shape, int64_t, int64_t columns, size_t) {
    if (!IsDctShape(shape, columns)) status = absl::DataLossError(absl::StrCat(std::string(what), ": no shape ", int{shape}, " for rows of ", columns));
  });
  return status;
}

// Transforms the tensors of the basis, there or back. None is no transform.
void ChangeBasis(const ParameterLayout& layout, std::string_view basis, bool forward, absl::Span<float> values) {
  if (basis.empty()) return;
  ForEachShape(layout, basis, [&](DctShape shape, int64_t rows, int64_t columns, size_t offset) {
    absl::Span<float> tensor = values.subspan(offset, static_cast<size_t>(rows * columns));
    forward ? ForwardDct(shape, rows, columns, tensor) : InverseDct(shape, rows, columns, tensor);
  });
}

// The coefficients with which a chain of this basis starts.
std::vector<float> StartIn(const ParameterLayout& layout, std::string_view basis, std::vector<float> values) {
  ChangeBasis(layout, basis, /*forward=*/true, absl::MakeSpan(values));
  // Values are on their lattice already; coefficients have one of their own.
  SnapToLattice(layout, absl::MakeSpan(values));
  return values;
}

absl::Status CheckFinite(absl::Span<const float> values, std::string_view what) {
  for (float value : values) {
    if (!std::isfinite(value)) return absl::DataLossError(absl::StrCat(std::string(what), ": a value is not finite"));
  }
  return absl::OkStatus();
}

// Symbols are coded as positive where they lead further away from version 0.
template <typename Symbol>
Symbol Onwards(float moved, Symbol symbol) {
  return moved < 0 ? -symbol : symbol;
}

bool AddExactly(double move, float& value) {
  const double sum = static_cast<double>(value) + move;
  value = static_cast<float>(sum);
  return static_cast<double>(value) == sum;
}

}  // namespace

std::vector<float> ChainValues(const ParameterLayout& layout, const ChainPosition& position) {
  std::vector<float> values = position.coefficients;
  ChangeBasis(layout, position.basis, /*forward=*/false, absl::MakeSpan(values));
  return values;
}

std::string WriteChainPosition(const ChainPosition& position) {
  std::string payload;
  payload.push_back(position.basis.empty() ? 0 : 1);
  payload += position.basis;
  payload.append(reinterpret_cast<const char*>(position.coefficients.data()), position.coefficients.size() * sizeof(float));
  payload.append(reinterpret_cast<const char*>(position.moved.data()), position.moved.size() * sizeof(float));
  return payload;
}

absl::StatusOr<ChainPosition> ReadChainPosition(const ParameterLayout& layout, std::string_view payload) {
  ByteReader reader(payload, "chain position");
  FEDWATT_ASSIGN_OR_RETURN(uint8_t has_basis, reader.Get<uint8_t>("basis"));
  if (has_basis > 1) return absl::DataLossError("chain position: unknown basis");
  FEDWATT_ASSIGN_OR_RETURN(std::string_view basis, reader.GetBytes(has_basis != 0 ? BasisBytes(layout) : 0, "basis"));
  ChainPosition position;
  if (has_basis != 0) FEDWATT_RETURN_IF_ERROR(CheckBasis(layout, basis, "chain position"));
  position.basis = std::string(basis);
  const auto take = [&](std::vector<float>& out, std::string_view what) -> absl::Status {
    FEDWATT_ASSIGN_OR_RETURN(std::string_view bytes, reader.GetBytes(static_cast<uint64_t>(layout.value_count()) * sizeof(float), what));
    out.resize(bytes.size() / sizeof(float));
    std::memcpy(out.data(), bytes.data(), bytes.size());
    return CheckFinite(out, "chain position");
  };
  FEDWATT_RETURN_IF_ERROR(take(position.coefficients, "coefficients"));
  if (has_basis != 0) FEDWATT_RETURN_IF_ERROR(take(position.moved, "movement"));
  if (reader.remaining() != 0) return absl::DataLossError("chain position: trailing bytes");
  return position;
}

absl::Status ApplyChainDelta(const ParameterLayout& layout, std::string_view payload, ChainPosition& position) {
  FEDWATT_CHECK(static_cast<int64_t>(position.coefficients.size()) == layout.value_count());
  ByteReader reader(payload, "chain delta");
  FEDWATT_ASSIGN_OR_RETURN(uint16_t step_bits, reader.Get<uint16_t>("step"));
  const bool has_basis = (step_bits & kHasBasis) != 0;
  const float step = std::bit_cast<float>(static_cast<uint32_t>(step_bits & ~kHasBasis) << 16);
  if (!(step >= kLeastCommonStep && step <= kGreatestStep)) return absl::DataLossError(absl::StrCat("chain delta: step ", step, " is out of range"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view basis, reader.GetBytes(has_basis ? BasisBytes(layout) : 0, "basis"));
  if (position.basis.empty()) {
    if (!has_basis) return absl::DataLossError("chain delta: from version 0, but without a basis");
    FEDWATT_RETURN_IF_ERROR(CheckBasis(layout, basis, "chain delta"));
    position.basis = std::string(basis);
    position.coefficients = StartIn(layout, basis, std::move(position.coefficients));
    position.moved.assign(position.coefficients.size(), 0);
  } else if (has_basis && position.basis != basis) {
    return absl::DataLossError("chain delta: in another basis than the version held");
  }
  FEDWATT_CHECK(position.moved.size() == position.coefficients.size());
  absl::Status buffers = absl::OkStatus();
  ForEachEntry(layout, EntryKind::kAveragedBuffer, [&](size_t offset, size_t count) {
    if (!buffers.ok()) return;
    absl::StatusOr<std::string_view> bytes = reader.GetBytes(count * sizeof(float), "buffers");
    buffers = bytes.status();
    if (!buffers.ok()) return;
    std::memcpy(position.coefficients.data() + offset, bytes->data(), bytes->size());
    buffers = CheckFinite(absl::MakeConstSpan(position.coefficients).subspan(offset, count), "chain delta");
  });
  FEDWATT_RETURN_IF_ERROR(buffers);
  const internal::ChainOrder order = internal::OrderByMovement(layout, position.moved, step);
  SparseSymbols increment;
  FEDWATT_RETURN_IF_ERROR(
      DecodeSymbols(payload.substr(reader.offset()), order.counts, static_cast<int64_t>(order.values.size()), increment));
  for (size_t i = 0; i < increment.indices.size(); ++i) {
    const uint32_t at = order.values[increment.indices[i]];
    float& moved = position.moved[at];
    const double move = static_cast<double>(Onwards(moved, increment.symbols[i])) * step;
    if (!AddExactly(move, position.coefficients[at]) || !AddExactly(move, moved)) {
      return absl::DataLossError("chain delta: a value leaves the lattice");
    }
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
  const std::vector<int> exponents = Exponents(layout, chain.initial_);
  if (std::any_of(exponents.begin(), exponents.end(), [](int exponent) { return exponent > kGreatestExponent; })) {
    return absl::InvalidArgumentError("chain: the initial model holds values beyond 2^55");
  }
  chain.initial_digest_ = ModelDigest(layout, chain.initial_);
  chain.values_ = chain.initial_;
  chain.position_.coefficients = chain.initial_;
  // A rate is approached from a step that suits weights of ordinary size.
  chain.step_ = NearestStep(options.step > 0 ? options.step : 0x1p-5);
  chain.deadzone_ = options.deadzone;
  chain.common_step_ = chain.step_;
  return chain;
}

// A tensor moves in the cosine domain when its first move is smaller there in sum of magnitudes, by enough to tell.
void ModelChain::ChooseBasis(absl::Span<const float> master) {
  constexpr double kLeastGain = 0.9;
  position_.basis.assign(BasisBytes(layout_), static_cast<char>(kNoDct));
  std::vector<float> move(master.begin(), master.end());
  for (size_t i = 0; i < move.size(); ++i) move[i] -= values_[i];
  size_t tensor = 0;
  if (options_.dct) {
    ForEachShape(layout_, position_.basis, [&](DctShape, int64_t rows, int64_t columns, size_t offset) {
      const absl::Span<const float> values = absl::MakeConstSpan(move).subspan(offset, static_cast<size_t>(rows * columns));
      position_.basis[tensor++] = static_cast<char>(ChooseDct(rows, columns, values, kLeastGain));
    });
  }
  position_.coefficients = StartIn(layout_, position_.basis, initial_);
  position_.moved.assign(position_.coefficients.size(), 0);
  exponents_ = Exponents(layout_, position_.coefficients);
}

// What is small depends on the model: on its weights, or, where these start at zero, on how far they go.
void ModelChain::ChooseStep(absl::Span<const float> master) {
  if (options_.multiple <= 0) return;
  constexpr double kMoves = 5;
  double weights = 0, moves = 0, count = 0;
  ForEachEntry(layout_, EntryKind::kParameter, [&](size_t offset, size_t size) {
    for (size_t i = offset; i < offset + size; ++i) {
      weights += static_cast<double>(values_[i]) * values_[i];
      moves += std::pow(static_cast<double>(master[i]) - values_[i], 2);
    }
    count += static_cast<double>(size);
  });
  const double scale = std::sqrt(std::max(weights, kMoves * kMoves * moves) / std::max(1.0, count));
  step_ = common_step_ = NearestStep(std::max(options_.multiple * scale, kLeastStep));
}

void ModelChain::Continue(const ModelChain& before) {
  FEDWATT_CHECK(versions_.empty());
  if (before.versions_.empty()) return;
  step_ = common_step_ = before.step_;
  deadzone_ = before.deadzone_;
  continues_ = true;
}

absl::Status ModelChain::Append(absl::Span<const float> master_values) {
  FEDWATT_CHECK(master_values.size() == values_.size());
  if (position_.basis.empty()) {
    if (!continues_) ChooseStep(master_values);
    ChooseBasis(master_values);
  }
  std::vector<float> master(master_values.begin(), master_values.end());
  ChangeBasis(layout_, position_.basis, /*forward=*/true, absl::MakeSpan(master));
  SparseSymbols increment;
  std::vector<float> next = position_.coefficients, moved_so_far = position_.moved;
  absl::Status moved = absl::OkStatus();
  uint32_t index = 0;
  size_t tensor = 0;
  ForEachEntry(layout_, EntryKind::kParameter, [&](size_t offset, size_t count) {
    // Judged by the tensor as it was at the start, as clients do nothing but add.
    const int exponent = exponents_[tensor++];
    const double limit = std::ldexp(1.0, exponent);
    // Where weights are so large that a step is finer than their unit, several steps are taken at a time.
    const double at_once = std::max(1.0, std::ldexp(1.0, exponent - 24) / GrainOf(step_));
    const double step = step_ * at_once;
    for (size_t i = offset; i < offset + count; ++i, ++index) {
      const double residual = static_cast<double>(master[i]) - position_.coefficients[i];
      const double deadzone = residual * position_.moved[i] < 0 ? options_.reversal : deadzone_;
      const double symbol = std::floor(std::max(0.0, std::fabs(residual) / step + 1 - deadzone)) * at_once;
      if (symbol < 1) continue;
      if (symbol > kMaxSymbol) {
        moved = absl::ResourceExhaustedError("chain: a value moved by more than 2^24 steps in one round");
        return;
      }
      const double move = std::copysign(symbol * step_, residual);
      const bool exact = AddExactly(move, next[i]) && AddExactly(move, moved_so_far[i]);
      if (!exact || std::fabs(next[i]) >= limit) {
        moved = absl::ResourceExhaustedError(absl::StrCat("chain: value ", next[i], " leaves the lattice, which ends at ", limit));
      }
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
  position_.coefficients = std::move(next);
  position_.moved = std::move(moved_so_far);
  values_ = ChainValues(layout_, position_);
  version.digest = ModelDigest(layout_, values_);
  const double rate = 8.0 * static_cast<double>(version.symbols.size()) / static_cast<double>(std::max<uint32_t>(1, index));
  common_step_ = CommonStep(common_step_, step_);
  versions_.push_back(std::move(version));
  while (static_cast<int64_t>(versions_.size()) > options_.length) versions_.pop_front();
  Control(rate);
  return absl::OkStatus();
}

// Holds the rate: the dead zone fine, the step by factors of two.
void ModelChain::Control(double rate) {
  if (options_.rate <= 0) return;
  deadzone_ *= std::pow(std::max(rate, options_.rate / 64) / options_.rate, kControlGain);
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
  std::vector<float> moved = position_.moved;   // at `held`
  std::vector<double> increment(position_.coefficients.size());  // in layout order, in steps
  if (held == initial_digest_) {
    // The way from the start needs no versions: it is what has moved.
    for (size_t i = 0; i < moved.size(); ++i) increment[i] = moved[i] / step;
    moved.clear();
  } else {
    size_t first = versions_.size();  // of the increments after `held`
    while (first > 0 && versions_[first - 1].digest != held) --first;
    if (first == 0 && held != delta.target) {
      return absl::NotFoundError(absl::StrCat("chain: version ", held.Hex().substr(0, 12), " is not among the last ", versions_.size()));
    }
    step = first < versions_.size() ? versions_[first].step : step_;
    for (size_t v = first; v < versions_.size(); ++v) step = CommonStep(step, versions_[v].step);
    const std::vector<int64_t> counts = ParameterCounts(layout_);
    for (size_t v = first; v < versions_.size(); ++v) {
      SparseSymbols one;
      ParameterMap map(layout_);
      FEDWATT_RETURN_IF_ERROR(DecodeSymbols(versions_[v].symbols, counts, static_cast<int64_t>(map.total()), one));
      const double scale = versions_[v].step / step;
      for (size_t i = 0; i < one.indices.size(); ++i) increment[map.FlatOf(one.indices[i])] += one.symbols[i] * scale;
    }
    for (size_t i = 0; i < moved.size(); ++i) AddExactly(-increment[i] * step, moved[i]);
  }
  const internal::ChainOrder order = internal::OrderByMovement(layout_, moved, step);
  SparseSymbols symbols;
  for (size_t place = 0; place < order.values.size(); ++place) {
    const uint32_t at = order.values[place];
    if (increment[at] == 0) continue;
    if (std::fabs(increment[at]) > kMaxSymbol) return absl::NotFoundError("chain: the way to the newest version is too long for one increment");
    symbols.indices.push_back(static_cast<uint32_t>(place));
    symbols.symbols.push_back(static_cast<int32_t>(moved.empty() ? increment[at] : Onwards(moved[at], increment[at])));
  }
  ByteWriter writer;
  const uint32_t step_bits = std::bit_cast<uint32_t>(static_cast<float>(step));
  FEDWATT_CHECK((step_bits & 0xffff) == 0);  // a step has at most kStepBits significant bits, as has what steps have in common
  // Whoever is past version 0 knows the basis.
  const bool has_basis = held == initial_digest_;
  writer.Put<uint16_t>(static_cast<uint16_t>(step_bits >> 16 | (has_basis ? kHasBasis : 0)));
  if (has_basis) writer.PutBytes(position_.basis.empty() ? std::string(BasisBytes(layout_), '\0') : position_.basis);
  ForEachEntry(layout_, EntryKind::kAveragedBuffer, [&](size_t offset, size_t count) {
    writer.PutBytes({reinterpret_cast<const char*>(position_.coefficients.data() + offset), count * sizeof(float)});
  });
  FEDWATT_ASSIGN_OR_RETURN(std::string coded, EncodeSymbols(order.counts, symbols));
  writer.PutBytes(coded);
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
  writer.Put<double>(step_);
  writer.Put<double>(deadzone_);
  writer.Put<double>(common_step_);
  const std::string position = WriteChainPosition(position_);
  writer.Put<uint64_t>(position.size());
  writer.PutBytes(position);
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
  FEDWATT_ASSIGN_OR_RETURN(restored.step_, reader.Get<double>("step"));
  FEDWATT_ASSIGN_OR_RETURN(restored.deadzone_, reader.Get<double>("dead zone"));
  FEDWATT_ASSIGN_OR_RETURN(restored.common_step_, reader.Get<double>("common step"));
  if (!IsStep(restored.step_) || !(restored.common_step_ >= kLeastCommonStep && restored.common_step_ <= kGreatestStep)) {
    return absl::DataLossError("chain state: a step is out of range");
  }
  // A new dead zone in the settings counts from now on; a controlled one goes on where it was.
  if (options_.rate <= 0) restored.deadzone_ = deadzone_;
  if (options_.step > 0) restored.step_ = step_;
  FEDWATT_ASSIGN_OR_RETURN(uint64_t position_size, reader.Get<uint64_t>("position length"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view position, reader.GetBytes(position_size, "position"));
  FEDWATT_ASSIGN_OR_RETURN(restored.position_, ReadChainPosition(layout_, position));
  restored.values_ = ChainValues(layout_, restored.position_);
  if (!restored.position_.basis.empty()) {
    const std::vector<float> start = StartIn(layout_, restored.position_.basis, restored.initial_);
    restored.exponents_ = Exponents(layout_, start);
    bool consistent = true;
    ForEachEntry(layout_, EntryKind::kParameter, [&](size_t offset, size_t count) {
      for (size_t i = offset; i < offset + count; ++i) {
        consistent &= restored.position_.coefficients[i] - start[i] == restored.position_.moved[i];
      }
    });
    if (!consistent) return absl::DataLossError("chain state: the movement is not that of the coefficients");
  }
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
