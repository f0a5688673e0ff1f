// The widest model that a client can train within the round's deadline and its allowance of joules, by what its earlier attempts took.
//
// A width meets them when kForecastMargin times the forecast (WorkHistory::Forecast: seconds and joules = a + b * multiply-adds, transfer = a + b * parameters, from
// the client's last 8 attempts) is at most the time and the energy that an attempt may take, and it has not been too much lately. Where joules were never metered, they are taken to be
// the most that the device can draw for the seconds forecast. A client of which nothing finished is known starts with fit.first, or the next narrower width
// that has not been too much.
//
// What a client says bears on its own width alone. One that understates is late, and one that is late gets less; one that overstates trains less. A client that no
// width suits is not asked; after kRetry deadlines without an attempt what was measured counts for nothing and it starts anew. Cost: O(widths * samples).
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/fitting.h"

namespace fedwatt::internal {
namespace {

constexpr double kRetry = 16;

absl::Status Check(const FitOptions& options) {
  if (options.widths.empty()) return absl::InvalidArgumentError("fit.widths: fit.policy = 'by_budget' expects at least one width, got none");
  if (!options.shares.empty() || !options.memory_mb.empty()) {
    return absl::InvalidArgumentError("fit.shares and fit.memory_mb belong to other policies; 'by_budget' goes by what clients measure");
  }
  if (options.first != 0 && std::find(options.widths.begin(), options.widths.end(), options.first) == options.widths.end()) {
    return absl::InvalidArgumentError(absl::StrCat("fit.first: expected one of fit.widths, or 0 for the last of them, got ", options.first));
  }
  return absl::OkStatus();
}

bool Meets(const FitRequest& request, const WidthCost& cost) {
  const std::optional<WorkForecast> forecast = request.history->Forecast(cost.macs_per_example, cost.parameters);
  if (!forecast || kForecastMargin * forecast->seconds() > absl::ToDoubleSeconds(request.time)) return false;
  if (!request.energy) return true;
  const double joules = forecast->joules.value_or(request.max_power.watts() * forecast->seconds());
  return kForecastMargin * joules <= request.energy->joules();
}

std::optional<double> Width(const FitOptions& options, const FitRequest& request) {
  const double first = options.first > 0 ? options.first : options.widths.back();
  if (request.history == nullptr || request.history->samples().empty() || request.costs.size() != options.widths.size()) return first;
  const bool any_finished = std::any_of(request.history->samples().begin(), request.history->samples().end(), [](const WorkSample& sample) { return sample.finished; });
  for (size_t i = 0; i < options.widths.size(); ++i) {
    if (request.history->TooMuch(request.costs[i].macs_per_example)) continue;
    if (any_finished ? Meets(request, request.costs[i]) : options.widths[i] <= first) return options.widths[i];
  }
  if (request.now - request.history->samples().back().at > kRetry * request.time) return first;
  return std::nullopt;
}

}  // namespace

void InstallFitPolicy_by_budget(FitPolicyRegistry& registry) { FEDWATT_CHECK(registry.Register("by_budget", {Check, Width, /*measures=*/true}).ok()); }

}  // namespace fedwatt::internal
