// fedwatt config: the schema of all settings, and the effective ones with their origins.
#include <nlohmann/json.hpp>

#include "fedwatt/base/status_macros.h"
#include "fedwatt/config/command_line.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct SchemaOptions {
  Format format = Format::kText;
};

absl::StatusOr<ExitCode> RunSchema(const SchemaOptions& options) {
  if (options.format == Format::kText) {
    Print(DescribeSchema());
    return ExitCode::kDone;
  }
  nlohmann::ordered_json keys = nlohmann::ordered_json::array();
  for (const SettingDescription& key : SettingDescriptions()) {
    keys.push_back({{"key", key.key}, {"type", key.type}, {"default", key.default_value}, {"help", key.help}});
  }
  Print(keys.dump(2) + "\n");
  return ExitCode::kDone;
}

struct ShowOptions {
  SettingsFlags settings;
  Format format = Format::kText;
};

absl::StatusOr<ExitCode> RunShow(const ShowOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(SettingsSources sources, Sources(options.settings));
  FEDWATT_ASSIGN_OR_RETURN(LoadedSettings loaded, LoadSettings(sources));
  if (options.format == Format::kText) {
    Print(ShowConfig(loaded));
    return ExitCode::kDone;
  }
  nlohmann::ordered_json keys = nlohmann::ordered_json::array();
  for (const SettingWithOrigin& setting : loaded.effective) {
    keys.push_back({{"key", setting.key}, {"value", setting.value}, {"origin", setting.origin}});
  }
  Print(keys.dump(2) + "\n");
  return ExitCode::kDone;
}

}  // namespace

void AddConfig(CLI::App& app, Action& chosen) {
  auto [verb, options] = Declare<SchemaOptions>(app, chosen, "config", "every setting: type, range, default, meaning", RunSchema);
  AddFormat(verb, options->format);
  auto [show, show_options] =
      Declare<ShowOptions>(*verb, chosen, "show", "the effective settings, each with its origin", RunShow);
  AddSettings(show, show_options->settings);
  AddFormat(show, show_options->format);
}

}  // namespace fedwatt::tool
