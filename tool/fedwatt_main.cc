// `fedwatt`: one binary of verbs for people who look after a federation. stdout is data, stderr is talk.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/nearest.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/config/program.h"
#include "fedwatt/config/run_options.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

absl::Status Usage(const std::string& problem, const std::string& command) {
  return WithExitCode(absl::InvalidArgumentError(absl::StrCat(problem, "; see ", command, " --help")), ExitCode::kUsage);
}

// A missing or unknown verb in our words; CLI11 would only say that an argument was not expected.
absl::Status CheckVerbs(const CLI::App& app, const std::vector<std::string>& arguments) {
  const CLI::App* level = &app;
  std::string command = "fedwatt";
  for (const std::string& word : arguments) {
    if (word.empty() || word[0] == '-') return absl::OkStatus();
    std::vector<std::string> names;
    for (const CLI::App* verb : level->get_subcommands([](const CLI::App*) { return true; })) names.push_back(verb->get_name());
    if (names.empty()) return absl::OkStatus();
    if (std::find(names.begin(), names.end(), word) == names.end()) {
      const std::string nearest = NearestName(word, names);
      return Usage(
          absl::StrCat("unknown verb '", word, "'", nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?")),
          command);
    }
    level = level->get_subcommand(word);
    absl::StrAppend(&command, " ", word);
  }
  return level->get_require_subcommand_min() > 0 ? Usage("a verb is missing", command) : absl::OkStatus();
}

// The verbs typed so far, for messages: "fedwatt keys show".
std::string Command(const CLI::App& app) {
  std::string command = "fedwatt";
  for (const CLI::App* level = &app; !level->get_subcommands().empty();) {
    level = level->get_subcommands().front();
    absl::StrAppend(&command, " ", level->get_name());
  }
  return command;
}

absl::StatusOr<ExitCode> Run(const std::vector<std::string>& arguments) {
  CLI::App app("Looks after a federation: reports, live state, keys and diagnosis.", "fedwatt");
  app.set_version_flag("--version", absl::StrCat("fedwatt ", std::string(kVersion)));
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.footer("fedwatt VERB --help tells more. Exit codes: fedwatt explain.");
  Action chosen;
  AddReport(app, chosen);
#ifdef FEDWATT_HAS_TORCH
  AddAudit(app, chosen);
#endif
#ifdef FEDWATT_HAS_GRPC
  AddStatus(app, chosen);
  AddWatch(app, chosen);
  AddStop(app, chosen);
  AddKeys(app, chosen);
  AddEnrol(app, chosen);
#endif
  AddDoctor(app, chosen);
  AddConfig(app, chosen);
  AddExplain(app, chosen);
  AddArchitectures(app, chosen);
#ifdef FEDWATT_HAS_TORCH
  AddArchive(app, chosen);
#endif
  AddCalibrate(app, chosen);
  AddCarbon(app, chosen);
  AddChannels(app, chosen);
  AddCodecs(app, chosen);
  AddFits(app, chosen);
  AddNumberFormats(app, chosen);
  AddAuditLog(app, chosen);
  AddLedger(app, chosen);
  AddMeters(app, chosen);
  AddReports(app, chosen);
  AddSelections(app, chosen);
  AddStrategies(app, chosen);

  FEDWATT_RETURN_IF_ERROR(CheckVerbs(app, arguments));
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));  // reversed, as CLI11 wants them
  } catch (const CLI::CallForHelp&) {
    Print(app.help());
    return ExitCode::kDone;
  } catch (const CLI::CallForVersion&) {
    Print(absl::StrCat(app.version(), "\n"));
    return ExitCode::kDone;
  } catch (const CLI::ParseError& error) {
    return Usage(error.what(), Command(app));
  }
  return chosen();
}

}  // namespace
}  // namespace fedwatt::tool

int main(int argc, char** argv) {
  return fedwatt::RunProgram(
      argc, argv, [](const std::vector<std::string>& arguments, const std::string&) -> absl::StatusOr<fedwatt::ExitCode> {
        FEDWATT_ASSIGN_OR_RETURN(const fedwatt::ExitCode code, fedwatt::tool::Run(arguments));
        if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
          return absl::ResourceExhaustedError("standard output cannot be written");
        return code;
      });
}
