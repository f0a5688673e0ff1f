// fedwatt architectures, channels, codecs, fits, formats, meters, reports, selections, strategies: what is registered, one name a line.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/aggregation/server_optimizer.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/pipeline.h"
#include "fedwatt/report/report_format.h"
#include "fedwatt/model/plan.h"
#include "fedwatt/round/fitting.h"
#include "fedwatt/round/model_chain.h"
#include "fedwatt/round/selection.h"
#include "fedwatt/energy/meter.h"
#ifdef FEDWATT_HAS_TORCH
#include "fedwatt/model/torch/architecture.h"
#endif
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct Options {
  Format format = Format::kText;
};

absl::StatusOr<ExitCode> List(const Options& options, const std::vector<std::string>& names) {
  Print(options.format == Format::kJson ? nlohmann::json(names).dump() + "\n" : absl::StrJoin(names, "\n") + "\n");
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> ListArchitectures(const Options& options) {
#ifdef FEDWATT_HAS_TORCH
  return List(options, ArchitectureNames());
#else
  return absl::UnimplementedError("this fedwatt was built without LibTorch (FEDWATT_WITH_TORCH=OFF) and knows no architectures");
#endif
}

absl::StatusOr<ExitCode> ListChannels(const Options& options) { return List(options, ChannelPolicies().Names()); }
absl::StatusOr<ExitCode> ListCodecs(const Options& options) {
  std::vector<std::string> names = StageNames();
  names.insert(std::upper_bound(names.begin(), names.end(), kChainStage), std::string(kChainStage));
  return List(options, names);
}
absl::StatusOr<ExitCode> ListFits(const Options& options) { return List(options, FitPolicies().Names()); }
absl::StatusOr<ExitCode> ListNumberFormats(const Options& options) { return List(options, AskedNumberFormats()); }
absl::StatusOr<ExitCode> ListMeters(const Options& options) { return List(options, Meters().Names()); }
absl::StatusOr<ExitCode> ListReports(const Options& options) { return List(options, ReportFormats().Names()); }
absl::StatusOr<ExitCode> ListSelections(const Options& options) { return List(options, SelectionPolicies().Names()); }
absl::StatusOr<ExitCode> ListStrategies(const Options& options) { return List(options, StrategyNames()); }

void AddList(CLI::App& app, Action& chosen, const std::string& name, const std::string& help,
             absl::StatusOr<ExitCode> (*run)(const Options&)) {
  auto [verb, options] = Declare<Options>(app, chosen, name, help, run);
  AddFormat(verb, options->format);
}

}  // namespace

void AddArchitectures(CLI::App& app, Action& chosen) {
  AddList(app, chosen, "architectures", "names that model.architecture may have", ListArchitectures);
}
void AddChannels(CLI::App& app, Action& chosen) {
  AddList(app, chosen, "channels", "names that fit.channels and prune.channels may have", ListChannels);
}
void AddCodecs(CLI::App& app, Action& chosen) {
  AddList(app, chosen, "codecs", "names that compression.uplink and compression.downlink may have", ListCodecs);
}
void AddFits(CLI::App& app, Action& chosen) {
  AddList(app, chosen, "fits", "names that fit.policy may have; fedwatt formats lists those of fit.format", ListFits);
}
void AddNumberFormats(CLI::App& app, Action& chosen) {
  AddList(app, chosen, "formats", "names that fit.format may have: number formats of training", ListNumberFormats);
}
void AddMeters(CLI::App& app, Action& chosen) {
  AddList(app, chosen, "meters", "names that energy.meter may have; doctor says which work here", ListMeters);
}
void AddReports(CLI::App& app, Action& chosen) {
  AddList(app, chosen, "reports", "names that report --format may have", ListReports);
}
void AddSelections(CLI::App& app, Action& chosen) {
  AddList(app, chosen, "selections", "names that selection.policy may have", ListSelections);
}
void AddStrategies(CLI::App& app, Action& chosen) {
  AddList(app, chosen, "strategies", "names that aggregation.strategy may have", ListStrategies);
}

}  // namespace fedwatt::tool
