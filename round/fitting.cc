#include "fedwatt/round/fitting.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/submodel.h"

namespace fedwatt {
namespace internal {
void InstallFitPolicys(FitPolicyRegistry& registry);
void InstallChannelPolicys(ChannelPolicyRegistry& registry);
}  // namespace internal

FitPolicyRegistry& FitPolicies() {
  static FitPolicyRegistry* registry = [] {
    auto* made = new FitPolicyRegistry("fit policy");
    internal::InstallFitPolicys(*made);
    return made;
  }();
  return *registry;
}

ChannelPolicyRegistry& ChannelPolicies() {
  static ChannelPolicyRegistry* registry = [] {
    auto* made = new ChannelPolicyRegistry("channel policy");
    internal::InstallChannelPolicys(*made);
    return made;
  }();
  return *registry;
}

absl::Status CheckFit(const FitOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(FitPolicy policy, FitPolicies().Find(options.policy));
  FEDWATT_RETURN_IF_ERROR(ChannelPolicies().Find(options.channels).status());
  for (size_t i = 0; i < options.widths.size(); ++i) {
    const double width = options.widths[i];
    if (!(width > 0 && width <= 1)) return absl::InvalidArgumentError(absl::StrCat("fit.widths: expected numbers in (0, 1], got ", width));
    if (i > 0 && !(width < options.widths[i - 1])) {
      return absl::InvalidArgumentError(absl::StrCat("fit.widths: expected the widest first and none twice, got ", width, " after ", options.widths[i - 1]));
    }
  }
  if (options.live < 0 || options.live > 64) return absl::InvalidArgumentError(absl::StrCat("fit.live: expected [0, 64], got ", options.live));
  if (options.first != 0 && !policy.measures) {
    return absl::InvalidArgumentError(absl::StrCat("fit.first belongs to policies that measure ('by_budget'); fit.policy = '", options.policy, "' needs no first width"));
  }
  return policy.check(options);
}

bool SomeAreNarrow(const FitOptions& options) {
  return std::any_of(options.widths.begin(), options.widths.end(), [](double width) { return width < 1; });
}

absl::StatusOr<Fitter> Fitter::Create(FitOptions options, std::vector<ChannelGroup> groups) {
  FEDWATT_RETURN_IF_ERROR(CheckFit(options));
  Fitter fitter;
  FEDWATT_ASSIGN_OR_RETURN(fitter.channels_, ChannelPolicies().Find(options.channels));
  if (groups.empty() && SomeAreNarrow(options)) {
    return absl::InvalidArgumentError(absl::StrCat("fit.policy = '", options.policy, "': this model declares no channels that could be dropped and can only be trained whole; "
                                                   "expected 'full'"));
  }
  fitter.options_ = std::move(options);
  fitter.groups_ = std::move(groups);
  return fitter;
}

int64_t ChannelCount(double width, int64_t size) {
  // A width meets whole numbers of channels more often than binary fractions show.
  return std::clamp<int64_t>(static_cast<int64_t>(std::ceil(width * static_cast<double>(size) - 1e-9)), 1, size);
}

std::vector<int64_t> GreatestPlaces(absl::Span<const double> values, int64_t count) {
  std::vector<int64_t> places(values.size());
  std::iota(places.begin(), places.end(), 0);
  std::stable_sort(places.begin(), places.end(), [&values](int64_t a, int64_t b) { return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)]; });
  places.resize(static_cast<size_t>(count));
  std::sort(places.begin(), places.end());
  return places;
}

std::vector<ChannelRange> ChooseChannels(const ChannelPolicy& policy, int64_t size, int64_t count, int64_t round, absl::Span<const ChannelScore> scores) {
  if (policy.importance == nullptr) return policy.choose(size, count, round);
  FEDWATT_CHECK(static_cast<int64_t>(scores.size()) == size);
  std::vector<double> importance;
  for (const ChannelScore& score : scores) importance.push_back(policy.importance(score));
  return ToRanges(GreatestPlaces(importance, count));
}

Fit Fitter::Cut(double width, int64_t round, const ChannelScores& scores) const {
  Fit fit{width, {}};
  if (width >= 1) return fit;
  for (const ChannelGroup& group : groups_) {
    const int64_t count = ChannelCount(width, group.size);
    if (count == group.size) continue;
    const auto known = scores.find(group.name);
    fit.kept[group.name] = ChooseChannels(channels_, group.size, count, round, known != scores.end() ? absl::MakeConstSpan(known->second) : absl::Span<const ChannelScore>());
  }
  return fit;
}

int64_t Fitter::NarrowCount() const {
  return std::count_if(options_.widths.begin(), options_.widths.end(), [](double width) { return width < 1; });
}

std::vector<Fit> Fitter::Standing() const {
  std::vector<Fit> fits;
  if (channels_.moves) return fits;
  for (double width : options_.widths) {
    if (width < 1 && static_cast<int64_t>(fits.size()) < options_.live) fits.push_back(Cut(width, 1, {}));
  }
  return fits;
}

bool Fitter::sends_snapshots() const { return NarrowCount() > (channels_.moves ? 0 : options_.live); }

}  // namespace fedwatt
