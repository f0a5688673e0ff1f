#include "optimizer_base.h"

#include <algorithm>
#include <cfloat>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/bytes.h"
#include "fedwatt/base/status_macros.h"
#include "saved_state.h"

namespace fedwatt::internal {
namespace {

absl::Status Refuse(const char* field, const char* range, double value) {
  return absl::InvalidArgumentError(absl::StrCat("server optimizer: ", field, " = ", value, ", expected ", range));
}

absl::Status CheckDelta(const MeanDelta& delta, int64_t value_count) {
  if (static_cast<int64_t>(delta.values.size()) != value_count) {
    return absl::InvalidArgumentError(absl::StrCat("server optimizer: a delta of ", delta.values.size(), " values, expected ", value_count));
  }
  int64_t last = 0;
  for (const CoordinateRange& range : delta.uncovered) {
    if (range.begin < last || range.end <= range.begin || range.end > value_count) {
      return absl::InvalidArgumentError(absl::StrCat("server optimizer: uncovered range [", range.begin, ", ", range.end, ") after ", last,
                                                     ", expected sorted, disjoint, non-empty ranges within ", value_count));
    }
    last = range.end;
  }
  if (!std::all_of(delta.values.begin(), delta.values.end(), [](float value) { return std::isfinite(value); })) {
    return absl::InvalidArgumentError("server optimizer: a value of the mean delta is not finite");
  }
  return absl::OkStatus();
}

// Calls visit(begin, end) for the parts of [begin, end) outside `holes`.
template <typename Visit>
void ForEachCovered(int64_t begin, int64_t end, const std::vector<CoordinateRange>& holes, Visit visit) {
  auto hole = std::upper_bound(holes.begin(), holes.end(), begin, [](int64_t at, const CoordinateRange& range) { return at < range.end; });
  while (begin < end) {
    const int64_t stop = hole == holes.end() ? end : std::min(end, hole->begin);
    if (begin < stop) visit(begin, stop);
    if (hole == holes.end()) return;
    begin = std::max(begin, hole->end);
    ++hole;
  }
}

}  // namespace

absl::Status ValidateServerOptimizerOptions(const ServerOptimizerOptions& options) {
  if (options.layout.value_count() == 0) return absl::InvalidArgumentError("server optimizer: the layout is empty");
  if (!(options.server_learning_rate >= 0 && std::isfinite(options.server_learning_rate))) {
    return Refuse("server_learning_rate", ">= 0 and finite", options.server_learning_rate);
  }
  if (!(options.momentum >= 0 && options.momentum < 1)) return Refuse("momentum", "[0, 1)", options.momentum);
  if (!(options.beta1 >= 0 && options.beta1 < 1)) return Refuse("beta1", "[0, 1)", options.beta1);
  if (!(options.beta2 >= 0 && options.beta2 < 1)) return Refuse("beta2", "[0, 1)", options.beta2);
  // Its square starts the second moment, a float32.
  if (!(options.tau > 0 && options.tau * options.tau <= FLT_MAX)) return Refuse("tau", "> 0, its square a float32", options.tau);
  return absl::OkStatus();
}

OptimizerBase::OptimizerBase(std::string_view name, const ServerOptimizerOptions& options, double default_learning_rate,
                             const std::vector<float>& initial_moments)
    : name_(name),
      options_(options),
      learning_rate_(options.server_learning_rate == 0 ? default_learning_rate : options.server_learning_rate),
      initial_moments_(initial_moments) {
  for (float initial : initial_moments) moments_.emplace_back(static_cast<size_t>(options.layout.value_count()), initial);
}

absl::Status OptimizerBase::Step(absl::Span<float> global, const MeanDelta& delta) {
  const ParameterLayout& layout = options_.layout;
  if (static_cast<int64_t>(global.size()) != layout.value_count()) {
    return absl::InvalidArgumentError(absl::StrCat("server optimizer: a model of ", global.size(), " values, expected ", layout.value_count()));
  }
  FEDWATT_RETURN_IF_ERROR(CheckDelta(delta, layout.value_count()));
  const absl::Span<const float> values = delta.values;
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    const LayoutEntry& entry = layout.entries()[i];
    if (entry.kind == EntryKind::kLocal) continue;
    const int64_t offset = layout.offset(i);
    ForEachCovered(offset, offset + entry.element_count(), delta.uncovered, [&](int64_t begin, int64_t end) {
      if (entry.kind == EntryKind::kParameter) {
        Move(global.subspan(begin, end - begin), values.subspan(begin, end - begin), static_cast<size_t>(begin));
      } else {
        for (int64_t k = begin; k < end; ++k) global[k] += values[k];
      }
    });
  }
  return absl::OkStatus();
}

void OptimizerBase::Reshape(const ParameterLayout& layout, absl::Span<const int64_t> from) {
  for (size_t which = 0; which < moments_.size(); ++which) {
    std::vector<float> moment(from.size(), initial_moments_[which]);
    for (size_t i = 0; i < from.size(); ++i) {
      if (from[i] >= 0) moment[i] = moments_[which][static_cast<size_t>(from[i])];
    }
    moments_[which] = std::move(moment);
  }
  options_.layout = layout;
}

std::string OptimizerBase::Save() const {
  ByteWriter body;
  for (const std::vector<float>& moment : moments_) {
    body.PutBytes({reinterpret_cast<const char*>(moment.data()), moment.size() * sizeof(float)});
  }
  return SealState(name_, options_.layout.digest(), body.str());
}

absl::Status OptimizerBase::Restore(std::string_view state) {
  FEDWATT_ASSIGN_OR_RETURN(std::string_view body, OpenState(name_, options_.layout.digest(), state));
  const size_t bytes = static_cast<size_t>(options_.layout.value_count()) * sizeof(float);
  if (body.size() != moments_.size() * bytes) {
    return absl::DataLossError(absl::StrCat(name_, ": ", body.size(), " bytes of moments, expected ", moments_.size() * bytes));
  }
  for (size_t i = 0; i < moments_.size(); ++i) std::memcpy(moments_[i].data(), body.data() + i * bytes, bytes);
  return absl::OkStatus();
}

}  // namespace fedwatt::internal
