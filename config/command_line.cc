#include "fedwatt/config/command_line.h"

#include <algorithm>
#include <map>
#include <memory>

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"

namespace fedwatt {
namespace {

struct FlagSpec {
  Flag flag;
  const char* spelling;
  const char* key;          // "" = CommandLineOptions::threads_key
  const char* placeholder;  // "" = takes no value
  const char* help;
};

constexpr FlagSpec kFlags[] = {
    {Flag::kOut, "--out", "out", "DIR", "folder of the run record"},
    {Flag::kSeed, "--seed", "seed", "N", "of everything random in the run"},
    {Flag::kThreads, "--threads", "", "N", "worker threads"},
    {Flag::kListen, "--listen", "server.listen", "ADDRESS", "address and port to listen on; port 0 = any free one"},
    {Flag::kServer, "--server", "client.server", "ADDRESS", "the coordinator's address and port"},
    {Flag::kName, "--name", "client.name", "NAME", "pseudonym in records"},
    {Flag::kPartition, "--partition", "client.partition", "I/N", "part or parts to train on: 3/8, 0-24/100"},
    {Flag::kStay, "--stay", "client.stay", "", "wait for the next run when one has finished"},
    {Flag::kInsecure, "--insecure", "security.insecure", "", "no TLS; for tests on one machine only"},
};

const std::map<std::string, LogLevel> kLogLevels = {
    {"debug", LogLevel::kDebug}, {"info", LogLevel::kInfo}, {"warning", LogLevel::kWarning}, {"error", LogLevel::kError}};
const std::map<std::string, LogFormat> kLogFormats = {{"text", LogFormat::kText}, {"json", LogFormat::kJson}};

absl::Status Usage(const std::string& problem) {
  return WithExitCode(absl::InvalidArgumentError(absl::StrCat(problem, "; see --help")), ExitCode::kUsage);
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(const CommandLineOptions& options, const std::vector<std::string>& arguments) {
  // Declared first: the parser writes into them.
  CommandLine line;
  std::string config, log_level = "info", log_format = "text";
  std::vector<std::string> assignments;
  std::map<Flag, std::string> values;
  bool version = false, help = false, help_config = false;

  CLI::App app(options.description, options.program);
  app.set_help_flag();  // our own, so that printing stays with the caller
  app.add_flag("-h,--help", help, "print this and exit");
  app.add_flag("--version", version, "print the version and exit");
  app.add_flag("--help-config", help_config, "print every configuration key and exit");
  app.add_flag("--show-config", line.show_config, "print every effective setting with its origin");
  app.add_option("--config", config, "configuration file (TOML)")->type_name("FILE");
  app.add_option("--set", assignments, "one setting; beats environment and file; may be repeated")
      ->type_name("KEY=VALUE")
      ->type_size(1)
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--log-level", log_level, "least important lines to print: debug, info, warning, error")->type_name("LEVEL");
  app.add_option("--log-format", log_format, "text or json")->type_name("FORMAT");
  std::map<Flag, bool> given;
  for (const FlagSpec& spec : kFlags) {
    if (!options.flags.count(spec.flag)) continue;
    if (*spec.placeholder == '\0')
      app.add_flag(spec.spelling, given[spec.flag], spec.help);
    else
      app.add_option(spec.spelling, values[spec.flag], spec.help)->type_name(spec.placeholder);
  }

  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    return Usage(error.what());
  }

  if (help)
    line.print_and_exit = app.help();
  else if (version)
    line.print_and_exit = absl::StrCat(options.program, " ", options.version, "\n");
  else if (help_config)
    line.print_and_exit = DescribeSchema();
  if (line.print_and_exit) return line;

  const auto level = kLogLevels.find(log_level);
  if (level == kLogLevels.end())
    return Usage(absl::StrCat("--log-level: expected debug, info, warning or error, got '", log_level, "'"));
  line.log_level = level->second;
  const auto format = kLogFormats.find(log_format);
  if (format == kLogFormats.end()) return Usage(absl::StrCat("--log-format: expected text or json, got '", log_format, "'"));
  line.log_format = format->second;

  if (app.count("--config") > 0) line.sources.file = config;
  line.sources.environment = ProcessEnvironment();
  for (const std::string& assignment : assignments) {
    const size_t equals = assignment.find('=');
    if (equals == std::string::npos || equals == 0)
      return Usage(absl::StrCat("--set: expected KEY=VALUE, got '", assignment, "'"));
    line.sources.flags.push_back({assignment.substr(0, equals), assignment.substr(equals + 1), "--set"});
  }
  // After --set: a flag of its own is the plainer wish.
  for (const FlagSpec& spec : kFlags) {
    if (!options.flags.count(spec.flag) || app.count(spec.spelling) == 0) continue;
    line.sources.flags.push_back({*spec.key == '\0' ? options.threads_key : spec.key,
                                  *spec.placeholder == '\0' ? "true" : values[spec.flag], spec.spelling});
  }
  return line;
}

std::string ShowConfig(const LoadedSettings& loaded) {
  size_t key_width = 0, value_width = 0;
  for (const SettingWithOrigin& setting : loaded.effective) {
    key_width = std::max(key_width, setting.key.size());
    value_width = std::max(value_width, std::min<size_t>(setting.value.size(), 32));
  }
  std::string out;
  for (const SettingWithOrigin& setting : loaded.effective) {
    const auto pad = [](size_t width, size_t used) { return std::string(width > used ? width - used : 0, ' '); };
    absl::StrAppend(&out, setting.key, pad(key_width, setting.key.size()), " = ", setting.value,
                    pad(value_width, setting.value.size()), "  (", setting.origin, ")\n");
  }
  return out;
}

std::string ErrorLine(const absl::Status& status) {
  const ExitCode code = ExitCodeFor(status);
  std::string out = absl::StrCat("error: ", status.message());
  if (code != ExitCode::kUsage && code != ExitCode::kDone) {
    const absl::StatusOr<ExitCodeExplanation> explanation = ExplainExitCode(static_cast<int>(code));
    absl::StrAppend(&out, " (", explanation.ok() ? explanation->name : "unknown", "; fedwatt explain ", static_cast<int>(code),
                    ")");
  }
  return out;
}

}  // namespace fedwatt
