// What the verbs of `fedwatt` share: how one is declared, and the options that several take.
#ifndef FEDWATT_TOOL_VERB_H_
#define FEDWATT_TOOL_VERB_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "fedwatt/config/exit_codes.h"
#include "fedwatt/config/settings.h"
#ifdef FEDWATT_HAS_GRPC
#include "fedwatt/client/connection.h"
#endif

namespace fedwatt::tool {

// Does the work of the verb that was typed; called once the whole line has parsed. Data goes to stdout, talk to stderr.
using Action = std::function<absl::StatusOr<ExitCode>()>;

// Declares a verb. The returned options belong to the verb: bind flags to them; `run` reads them after parsing.
template <typename Options>
std::pair<CLI::App*, Options*> Declare(CLI::App& parent, Action& chosen, const std::string& name, const std::string& help,
                                       absl::StatusOr<ExitCode> (*run)(const Options&)) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = parent.add_subcommand(name, help);
  verb->callback([options, run, &chosen] {
    // A verb's verbs are called before it; the innermost one counts.
    if (!chosen) chosen = [options, run] { return run(*options); };
  });
  return {verb, options.get()};
}

// One function a file of verbs/. Each adds its verb and sets `chosen` when it is typed.
void AddArchitectures(CLI::App& app, Action& chosen);
#ifdef FEDWATT_HAS_TORCH
void AddArchive(CLI::App& app, Action& chosen);
void AddAudit(CLI::App& app, Action& chosen);
#endif
void AddAuditLog(CLI::App& app, Action& chosen);
void AddCalibrate(CLI::App& app, Action& chosen);
void AddCarbon(CLI::App& app, Action& chosen);
void AddChannels(CLI::App& app, Action& chosen);
void AddCodecs(CLI::App& app, Action& chosen);
void AddConfig(CLI::App& app, Action& chosen);
void AddDoctor(CLI::App& app, Action& chosen);
void AddExplain(CLI::App& app, Action& chosen);
void AddFits(CLI::App& app, Action& chosen);
void AddNumberFormats(CLI::App& app, Action& chosen);
void AddLedger(CLI::App& app, Action& chosen);
void AddMeters(CLI::App& app, Action& chosen);
void AddReport(CLI::App& app, Action& chosen);
void AddReports(CLI::App& app, Action& chosen);
void AddSelections(CLI::App& app, Action& chosen);
void AddStrategies(CLI::App& app, Action& chosen);
#ifdef FEDWATT_HAS_GRPC
void AddEnrol(CLI::App& app, Action& chosen);
void AddKeys(CLI::App& app, Action& chosen);
void AddStatus(CLI::App& app, Action& chosen);
void AddStop(CLI::App& app, Action& chosen);
void AddWatch(CLI::App& app, Action& chosen);
#endif

enum class Format { kText, kJson };
// --format text|json
void AddFormat(CLI::App* verb, Format& format);

// --config FILE and --set KEY=VALUE.
struct SettingsFlags {
  std::string file;
  std::vector<std::string> assignments;
};
void AddSettings(CLI::App* verb, SettingsFlags& flags);
// With this process's environment. Errors: INVALID_ARGUMENT marked usage  --set without '='
absl::StatusOr<SettingsSources> Sources(const SettingsFlags& flags);

// --server, --security-directory, --insecure beside SettingsFlags: how to reach a coordinator. What is not typed comes from the
// settings.
struct ConnectionFlags {
  SettingsFlags settings;
  std::string server, security_directory;
  bool insecure = false;
};
void AddConnection(CLI::App* verb, ConnectionFlags& flags);
absl::StatusOr<SettingsSources> Sources(const ConnectionFlags& flags);
#ifdef FEDWATT_HAS_GRPC
absl::StatusOr<ConnectionOptions> Resolve(const ConnectionFlags& flags);
#endif

void Print(std::string_view data);  // to stdout
void Say(std::string_view line);    // to stderr, with a line end

// Rows in columns that are as wide as their widest cell, two spaces between; the last column is not padded.
std::string Columns(const std::vector<std::vector<std::string>>& rows);

}  // namespace fedwatt::tool

#endif  // FEDWATT_TOOL_VERB_H_
