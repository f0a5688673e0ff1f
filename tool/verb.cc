#include "verb.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::tool {

void AddFormat(CLI::App* verb, Format& format) {
  verb->add_option_function<std::string>(
          "--format", [&format](const std::string& name) { format = name == "json" ? Format::kJson : Format::kText; },
          "text or json")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"text", "json"}).description(""));
}

void AddSettings(CLI::App* verb, SettingsFlags& flags) {
  verb->add_option("--config", flags.file, "configuration file (TOML)")->type_name("FILE");
  verb->add_option("--set", flags.assignments, "one setting; beats environment and file; may be repeated")
      ->type_name("KEY=VALUE")
      ->type_size(1)
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

absl::StatusOr<SettingsSources> Sources(const SettingsFlags& flags) {
  SettingsSources sources;
  if (!flags.file.empty()) sources.file = flags.file;
  sources.environment = ProcessEnvironment();
  for (const std::string& assignment : flags.assignments) {
    const size_t equals = assignment.find('=');
    if (equals == std::string::npos || equals == 0) {
      return WithExitCode(
          absl::InvalidArgumentError(absl::StrCat("--set: expected KEY=VALUE, got '", assignment, "'; see --help")),
          ExitCode::kUsage);
    }
    sources.flags.push_back({assignment.substr(0, equals), assignment.substr(equals + 1), "--set"});
  }
  return sources;
}

void AddConnection(CLI::App* verb, ConnectionFlags& flags) {
  AddSettings(verb, flags.settings);
  verb->add_option("--server", flags.server, "the coordinator's address and port; default: client.server")->type_name("ADDRESS");
  CLI::Option* directory = verb->add_option("--security-directory", flags.security_directory,
                                            "the coordinator's security directory; default: security.directory")
                               ->type_name("DIR");
  verb->add_flag("--insecure", flags.insecure, "no TLS; for tests on one machine only")->excludes(directory);
}

absl::StatusOr<SettingsSources> Sources(const ConnectionFlags& flags) {
  FEDWATT_ASSIGN_OR_RETURN(SettingsSources sources, Sources(flags.settings));
  if (!flags.server.empty()) sources.flags.push_back({"client.server", flags.server, "--server"});
  if (!flags.security_directory.empty())
    sources.flags.push_back({"security.directory", flags.security_directory, "--security-directory"});
  if (flags.insecure) sources.flags.push_back({"security.insecure", "true", "--insecure"});
  return sources;
}

#ifdef FEDWATT_HAS_GRPC
absl::StatusOr<ConnectionOptions> Resolve(const ConnectionFlags& flags) {
  FEDWATT_ASSIGN_OR_RETURN(SettingsSources sources, Sources(flags));
  FEDWATT_ASSIGN_OR_RETURN(LoadedSettings loaded, LoadSettings(sources));
  ConnectionOptions options;
  options.server = loaded.settings.client.server;
  for (const SettingWithOrigin& setting : loaded.effective) {
    if (setting.key == "client.server") options.server_origin = setting.origin;
  }
  options.security_directory = loaded.settings.security.directory;
  options.insecure = loaded.settings.security.insecure;
  // A person waits for the answer; a folder that is not there is said at once.
  options.security_wait = absl::ZeroDuration();
  return options;
}
#endif

void Print(std::string_view data) { std::fwrite(data.data(), 1, data.size(), stdout); }

void Say(std::string_view line) { std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data()); }

std::string Columns(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const std::vector<std::string>& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const std::vector<std::string>& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - row[i].size() + 2, ' ');
    }
    out += '\n';
  }
  return out;
}

}  // namespace fedwatt::tool
