// fedwatt archive: what of a TorchScript archive clients of narrower widths may drop.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/base/text.h"
#include "fedwatt/model/submodel.h"
#include "fedwatt/model/torchscript/torch_script_trainer.h"
#include "fedwatt/round/fitting.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct Options {
  std::string file;
  std::vector<int64_t> input_shape;
  SandboxPolicy sandbox;
  Format format = Format::kText;
};

// What a client of this width would train.
struct Width {
  double fraction = 1;
  double parameters = 0, macs = 0;
};

absl::StatusOr<ExitCode> Run(const Options& options) {
  ArchitectureSpec spec{.name = "torchscript", .input_shape = options.input_shape, .output_count = 1};  // nothing is scored: any number of outputs will do
  FEDWATT_ASSIGN_OR_RETURN(std::string bytes, ReadFile(options.file));
  FEDWATT_ASSIGN_OR_RETURN(const std::shared_ptr<const ArchiveChannels> channels, FindArchiveChannels(spec, bytes, {.sandbox = options.sandbox}));
  FEDWATT_ASSIGN_OR_RETURN(const std::unique_ptr<TorchScriptTrainer> trainer, MakeTorchScriptTrainerFromBytes(spec, std::move(bytes), {.sandbox = options.sandbox, .channels = channels}));
  std::vector<Width> widths;
  for (const double fraction : {1.0, 0.5, 0.25}) {
    if (fraction < 1 && channels->groups.empty()) break;
    FEDWATT_ASSIGN_OR_RETURN(const Fitter fitter, Fitter::Create({.policy = "fixed", .widths = {fraction}}, channels->groups));
    FEDWATT_ASSIGN_OR_RETURN(const Submodel part, Submodel::Create(trainer->layout(), channels->groups, fitter.Cut(fraction, 1).kept));
    widths.push_back({fraction, static_cast<double>(part.layout().value_count()), MacsPerExample(part.layout(), channels->uses)});
  }

  if (options.format == Format::kJson) {
    nlohmann::ordered_json groups = nlohmann::ordered_json::array(), whole = groups, sizes = groups;
    for (const ChannelGroup& group : channels->groups) {
      nlohmann::ordered_json entries = nlohmann::ordered_json::array();
      for (const ChannelAxis& axis : group.axes) entries.push_back({{"entry", axis.entry}, {"axis", axis.axis}});
      groups.push_back({{"name", group.name}, {"channels", group.size}, {"axes", entries}});
    }
    for (const WholeChannels& one : channels->whole) whole.push_back({{"name", one.name}, {"channels", one.size}, {"reason", one.reason}});
    for (const Width& width : widths) sizes.push_back({{"width_fraction", width.fraction}, {"parameters", width.parameters}, {"macs_per_example", width.macs}});
    // The archive may have put any bytes into its names.
    Print(nlohmann::ordered_json{{"schema", "fedwatt.archive.v1"}, {"groups", groups}, {"whole", whole}, {"widths", sizes}}.dump(
              2, ' ', false, nlohmann::json::error_handler_t::replace) +
          "\n");
    return ExitCode::kDone;
  }
  std::vector<std::vector<std::string>> rows = {{"group", "channels", "of"}};
  for (const ChannelGroup& group : channels->groups) {
    rows.push_back({OneLine(group.name), absl::StrCat(group.size), absl::StrJoin(group.axes, " ", [](std::string* out, const ChannelAxis& axis) {
                      absl::StrAppend(out, OneLine(axis.entry), "[", axis.axis, "]");
                    })});
  }
  for (const WholeChannels& one : channels->whole) rows.push_back({OneLine(one.name), absl::StrCat(one.size), "whole: " + OneLine(one.reason)});
  std::vector<std::vector<std::string>> table = {{"width", "parameters", "share", "multiply-adds", "share"}};
  for (const Width& width : widths) {
    table.push_back({absl::StrCat(width.fraction), absl::StrFormat("%.0f", width.parameters), absl::StrFormat("%.1f %%", 100 * width.parameters / widths[0].parameters),
                     absl::StrFormat("%.0f", width.macs), absl::StrFormat("%.1f %%", 100 * width.macs / widths[0].macs)});
  }
  Print(absl::StrCat(Columns(rows), "\n", Columns(table)));
  return ExitCode::kDone;
}

}  // namespace

void AddArchive(CLI::App& app, Action& chosen) {
  auto [verb, options] = Declare<Options>(app, chosen, "archive", "which channels of a TorchScript archive narrower clients may drop, and what stays whole; runs it in a sandbox", Run);
  verb->add_option("FILE", options->file, "the archive, as model.torchscript names it")->required();
  verb->add_option("--input-shape", options->input_shape, "shape of one example, as in 1,28,28")->required()->delimiter(',')->check(CLI::Range(int64_t{1}, int64_t{1} << 24))->type_name("N,...");
  verb->add_flag("!--any-sandbox", options->sandbox.required, "run it also where the kernel can't filter its system calls");
  AddFormat(verb, options->format);
}

}  // namespace fedwatt::tool
