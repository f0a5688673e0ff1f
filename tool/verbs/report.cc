// fedwatt report: a run record in one or all of the registered formats.
#include "fedwatt/report/report.h"

#include <unistd.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/energy_report.h"
#include "fedwatt/report/report_format.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct Options {
  std::string directory, html, formats, out;
  std::optional<double> g_per_kwh;
  ReportContext context;
};

absl::Status Usage(const std::string& problem) { return WithExitCode(absl::InvalidArgumentError(problem + "; see fedwatt report --help"), ExitCode::kUsage); }

// The tables for people and, beside them, the page.
absl::StatusOr<ExitCode> Show(const Options& options, const RunRecord& run, const EnergyReport& report) {
  // Columns for people also in a file or a pager; who wants to parse asks for JSON.
  RoundTableOptions table = RoundTableOptionsFor(STDOUT_FILENO);
  table.terminal = true;
  Print(RenderTextReport(run, report, table));
  const std::string html = options.html.empty() ? options.directory + "/report.html" : options.html;
  const absl::Status written = WriteFileAtomically(html, RenderHtmlReport(run, report));
  // A record on a read-only medium can still be read in the terminal; a page that was asked for must exist.
  if (!written.ok() && !options.html.empty()) return Annotate(written, "--html");
  Say(written.ok() ? absl::StrCat("page: ", html)
                   : absl::StrCat("no page (", std::string(written.message()), "); --html FILE puts it elsewhere"));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> Run(const Options& options) {
  const bool all = options.formats == "all";
  const std::vector<std::string> names =
      all ? ReportFormats().Names() : std::vector<std::string>(absl::StrSplit(options.formats, ',', absl::SkipEmpty()));
  std::vector<ReportFormat> formats;
  for (const std::string& name : names) {
    absl::StatusOr<ReportFormat> format = ReportFormats().Find(name);
    if (!format.ok()) return Usage(absl::StrCat("--format: ", std::string(format.status().message()), ", all"));
    formats.push_back(*std::move(format));
  }
  if (options.out.empty() && formats.size() > 1) return Usage("--format with several names needs --out FOLDER");
  if (!options.out.empty() && formats.empty()) return Usage("--out needs --format NAME[,NAME...] or --format all");

  if (options.g_per_kwh && !(*options.g_per_kwh >= 0 && *options.g_per_kwh <= 1e6)) {
    return Usage(absl::StrCat("--g-per-kwh: expected a number in [0, 1e6], got ", *options.g_per_kwh));
  }
  FEDWATT_ASSIGN_OR_RETURN(const RunRecord run, ReadRunRecord(options.directory));
  ReportContext context = options.context;
  context.g_per_kwh = options.g_per_kwh;
  const EnergyReport report = MakeEnergyReport(run, context);
  if (formats.empty()) return Show(options, run, report);

  // Everything is rendered before anything is written, so that an error leaves no half set.
  std::vector<ReportFile> files;
  for (size_t i = 0; i < formats.size(); ++i) {
    absl::StatusOr<std::vector<ReportFile>> made = formats[i].render(run, report);
    if (all && absl::IsFailedPrecondition(made.status())) {
      Say(absl::StrCat("left out ", std::string(made.status().message())));
      continue;
    }
    if (!made.ok()) return made.status();
    for (ReportFile& file : *made) files.push_back(std::move(file));
  }
  if (options.out.empty()) {
    if (files.size() > 1) return Usage(absl::StrCat("--format ", options.formats, " makes several files and needs --out FOLDER"));
    Print(files.front().content);
    return ExitCode::kDone;
  }
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(options.out));
  for (const ReportFile& file : files) {
    const std::string path = absl::StrCat(options.out, "/", file.name);
    FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(path, file.content));
    Say(path);
  }
  return ExitCode::kDone;
}

}  // namespace

void AddReport(CLI::App& app, Action& chosen) {
  auto [verb, options] = Declare<Options>(app, chosen, "report", "a run record as tables and a page, or in other formats", Run);
  verb->add_option("DIR", options->directory, "the folder that a run wrote (its --out)")->required();
  CLI::Option* html = verb->add_option("--html", options->html, "where the page goes; default: DIR/report.html")->type_name("FILE");
  verb->add_option("--format", options->formats, absl::StrCat("instead of tables and page: all, or some of ", absl::StrJoin(ReportFormats().Names(), ", ")))
      ->type_name("NAME[,NAME...]")
      ->excludes(html);
  verb->add_option("--out", options->out, "folder for the files of --format; without it one format goes to standard output")->type_name("FOLDER");
  verb->add_option("--g-per-kwh", options->g_per_kwh, "grams of CO2-equivalent a kWh of electricity, instead of what the run recorded at its sites")
      ->type_name("G");
  verb->add_option("--intensity-source", options->context.intensity_source, "where --g-per-kwh is from, with its year")->type_name("TEXT");
  verb->add_option("--location", options->context.location, "where the devices are, for formats that ask")->type_name("PLACE");
}

}  // namespace fedwatt::tool
