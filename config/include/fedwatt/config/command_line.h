// The flags that the binaries share, parsed into settings' sources.
#ifndef FEDWATT_CONFIG_COMMAND_LINE_H_
#define FEDWATT_CONFIG_COMMAND_LINE_H_

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fedwatt/base/log.h"
#include "fedwatt/config/exit_codes.h"
#include "fedwatt/config/settings.h"

namespace fedwatt {

enum class LogFormat { kText, kJson };

// Flags a binary may take beside those that all take: --config FILE, --set key=value (repeated), --log-level, --log-format,
// --show-config,
// --help-config, --version, --help.
enum class Flag { kOut, kSeed, kThreads, kListen, kServer, kName, kPartition, kStay, kInsecure };

struct CommandLineOptions {
  std::string program;      // "fedwatt-server"
  std::string description;  // one sentence
  std::string version;      // printed by --version
  std::set<Flag> flags;
  // A flag --threads sets this key: training.threads for a client, simulation.workers for the fleet.
  std::string threads_key = "training.threads";
};

struct CommandLine {
  SettingsSources sources;  // with the process's environment
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
  bool show_config = false;
  // Set for --help, --version, --help-config: print this on stdout and exit 0.
  std::optional<std::string> print_and_exit;
};

// `arguments` without the program's name. Errors: INVALID_ARGUMENT marked ExitCode::kUsage  unknown, repeated, or malformed flag
absl::StatusOr<CommandLine> ParseCommandLine(const CommandLineOptions& options, const std::vector<std::string>& arguments);

// What --show-config prints: one line a key, "key = value  (origin)".
std::string ShowConfig(const LoadedSettings& loaded);

// "error: ..." with the exit code's name and, where the cause alone does not say what to do, `fedwatt explain CODE`; without a
// line end.
std::string ErrorLine(const absl::Status& status);

}  // namespace fedwatt

#endif  // FEDWATT_CONFIG_COMMAND_LINE_H_
