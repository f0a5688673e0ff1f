#include "fedwatt/config/settings.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/nearest.h"
#include "fedwatt/base/status_macros.h"
#include "schema.h"

extern char** environ;

namespace fedwatt {
namespace {

using internal::FindKey;
using internal::Key;
using internal::Schema;

constexpr std::string_view kOptionsPrefix = "model.options.";
constexpr int64_t kMaxFileBytes = 16 << 20;

std::string EnvironmentName(const std::string& key) {
  return absl::StrCat("FEDWATT_", absl::AsciiStrToUpper(absl::StrReplaceAll(key, {{".", "_"}})));
}

absl::Status UnknownKey(const std::string& name, const std::string& where) {
  std::vector<std::string> names;
  for (const Key& key : Schema()) names.push_back(key.name);
  const std::string nearest = NearestName(name, names);
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": unknown key '", name, "'",
                   nearest.empty() ? "; --help-config lists all keys" : absl::StrCat("; did you mean '", nearest, "'?")));
}

std::string NodeText(const toml::node& node) {
  std::ostringstream out;
  node.visit([&out](const auto& value) { out << value; });
  std::string text = out.str();
  if (text.size() > 80) text = absl::StrCat(text.substr(0, 77), "...");
  return text;
}

// Collects values and remembers where the winning one came from. Sources are applied lowest first.
class Merger {
 public:
  Merger() {
    for (const Key& key : Schema()) origins_[key.name] = "default";
  }

  absl::Status Apply(const Key& key, const toml::node& node, const std::string& where, const std::string& got) {
    if (key.name == "security.insecure" && where != "flag --insecure") {
      return absl::InvalidArgumentError(absl::StrCat(
          where, ": security.insecure must be typed as the flag --insecure, so that no file or variable turns TLS off"));
    }
    const std::string expected = key.set(settings_, node);
    if (!expected.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": ", key.name, ": expected ", expected, ", got ", got));
    }
    if (key.check) {
      if (const absl::Status known = key.check(settings_); !known.ok()) {
        return absl::InvalidArgumentError(absl::StrCat(where, ": ", key.name, ": ", known.message()));
      }
    }
    origins_[key.name] = where;
    return absl::OkStatus();
  }

  // A value that came as text: from a flag or a variable.
  absl::Status ApplyText(const std::string& name, const std::string& text, const std::string& where) {
    if (absl::StartsWith(name, kOptionsPrefix.data()) && name.size() > kOptionsPrefix.size()) {
      toml::table table;
      table.insert(name.substr(kOptionsPrefix.size()), text);
      return Apply(*FindKey("model.options"), table, where, text);
    }
    const Key* key = FindKey(name);
    if (key == nullptr) return UnknownKey(name, where);
    const std::string got = absl::StrCat("'", text, "'");
    if (key->text) return Apply(*key, toml::value<std::string>(text), where, got);
    try {
      const toml::table parsed = toml::parse(absl::StrCat("value = ", text));
      if (parsed.size() == 1 && parsed.contains("value")) return Apply(*key, *parsed.get("value"), where, got);
    } catch (const toml::parse_error&) {
    }
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", key->name, ": expected ", key->type, ", got ", got));
  }

  absl::Status ApplyTable(const toml::table& table, const std::string& prefix, const std::string& path) {
    for (const auto& [name, node] : table) {
      const std::string full = absl::StrCat(prefix, std::string(name.str()));
      const std::string where = absl::StrCat("file ", path, ":", node.source().begin.line);
      if (const Key* key = FindKey(full)) {
        FEDWATT_RETURN_IF_ERROR(Apply(*key, node, where, NodeText(node)));
      } else if (const auto* section = node.as_table(); section && (!section->empty() || IsSection(full))) {
        FEDWATT_RETURN_IF_ERROR(ApplyTable(*section, absl::StrCat(full, "."), path));
      } else {
        return UnknownKey(full, where);
      }
    }
    return absl::OkStatus();
  }

  static bool IsSection(const std::string& name) {
    return std::any_of(Schema().begin(), Schema().end(),
                       [&](const Key& key) { return absl::StartsWith(key.name, absl::StrCat(name, ".")); });
  }

  Settings& settings() { return settings_; }
  const std::string& origin(const std::string& key) const { return origins_.at(key); }
  void set_origin(const std::string& key, std::string origin) { origins_[key] = std::move(origin); }
  bool is_default(const std::string& key) const { return origin(key) == "default"; }

 private:
  Settings settings_;
  std::map<std::string, std::string> origins_;
};

absl::Status ApplyFile(Merger& merger, const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, kMaxFileBytes);
  if (!text.ok()) return Annotate(text.status(), "configuration file");
  try {
    return merger.ApplyTable(toml::parse(*text, path), "", path);
  } catch (const toml::parse_error& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("file ", path, ":", error.source().begin.line, ": not TOML: ", std::string(error.description())));
  }
}

// Only variables that name one of our sections are ours: FEDWATT_BUILD_DIR is somebody else's, FEDWATT_FEDERATION_ROUND is a
// slip.
absl::Status ApplyEnvironment(Merger& merger, const std::map<std::string, std::string>& environment) {
  std::map<std::string, std::string> key_of;
  std::set<std::string> sections;
  for (const Key& key : Schema()) {
    key_of[EnvironmentName(key.name)] = key.name;
    if (const size_t dot = key.name.find('.'); dot != std::string::npos) {
      sections.insert(absl::StrCat(EnvironmentName(key.name.substr(0, dot)), "_"));
    }
  }
  const std::string options = EnvironmentName(std::string(kOptionsPrefix));
  for (const auto& [name, value] : environment) {
    const std::string where = absl::StrCat("environment ", name);
    if (const auto known = key_of.find(name); known != key_of.end()) {
      FEDWATT_RETURN_IF_ERROR(merger.ApplyText(known->second, value, where));
    } else if (absl::StartsWith(name, options)) {
      const std::string option = absl::AsciiStrToLower(name.substr(options.size()));
      FEDWATT_RETURN_IF_ERROR(merger.ApplyText(absl::StrCat(std::string(kOptionsPrefix), option), value, where));
    } else {
      for (const std::string& section : sections) {
        if (!absl::StartsWith(name, section)) continue;
        std::vector<std::string> names;
        for (const auto& [variable, key] : key_of) names.push_back(variable);
        const std::string nearest = NearestName(name, names);
        return absl::InvalidArgumentError(
            absl::StrCat(where, ": unknown variable", nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
      }
    }
  }
  return absl::OkStatus();
}

// Fills defaults that depend on other values, and refuses values that do not fit together.
absl::Status Resolve(Merger& merger, const std::optional<std::string>& file) {
  Settings& settings = merger.settings();
  FederationSettings& federation = settings.federation;
  const auto refuse = [&](const std::string& key, const std::string& problem) {
    return absl::InvalidArgumentError(absl::StrCat(merger.origin(key), ": ", key, ": ", problem));
  };

  if (!settings.model.torchscript.empty()) {
    if (!merger.is_default("model.architecture") && settings.model.architecture.name != "torchscript") {
      return refuse("model.architecture",
                    absl::StrCat("'", settings.model.architecture.name, "' and model.torchscript exclude each other"));
    }
    settings.model.architecture.name = "torchscript";
    merger.set_origin("model.architecture", merger.origin("model.torchscript"));
  } else if (settings.model.architecture.name == "torchscript") {
    return refuse("model.architecture", "torchscript needs the archive's path in model.torchscript");
  }

  const int64_t parts = settings.partition.clients;
  if (parts > 0 && federation.clients_per_round > parts) {
    if (!merger.is_default("federation.clients_per_round")) {
      return refuse("federation.clients_per_round",
                    absl::StrCat("expected at most partition.clients = ", parts, " (", merger.origin("partition.clients"),
                                 "), got ", federation.clients_per_round));
    }
    federation.clients_per_round = parts;
  }
  if (merger.is_default("federation.wait_for_clients")) {
    federation.wait_for_clients = federation.clients_per_round > 0 ? federation.clients_per_round : std::max<int64_t>(parts, 1);
  } else if (parts > 0 && federation.wait_for_clients > parts) {
    return refuse("federation.wait_for_clients",
                  absl::StrCat("expected at most partition.clients = ", parts, " (", merger.origin("partition.clients"),
                               "), got ", federation.wait_for_clients));
  }
  if (federation.target_accuracy && federation.evaluation == EvaluationMode::kNone) {
    return refuse("federation.target_accuracy", "cannot be reached with federation.evaluation = none");
  }
  if (federation.target_accuracy && settings.data.regression) {
    return refuse("federation.target_accuracy", "regression has no accuracy");
  }
  if (settings.privacy.clip_norm > 0 && settings.privacy.limits.max_norm > 0 &&
      settings.privacy.clip_norm > settings.privacy.limits.max_norm) {
    return refuse("privacy.clip_norm", absl::StrCat("expected at most privacy.max_norm = ", settings.privacy.limits.max_norm,
                                                    ", got ", settings.privacy.clip_norm));
  }
  absl::Status fits = CheckFit(settings.fit);
  fits.Update(CheckPrune(settings.prune));
  if (settings.prune.target < 1 && settings.prune.unit == "weights" && SomeAreNarrow(settings.fit)) {
    return refuse("prune.unit", "single weights are cut of whole models alone; expected fit.policy = 'full', or channels");
  }
  if (CutsChannels(settings.prune) && settings.prune.regrow > 0 && !settings.model.torchscript.empty()) {
    return refuse("prune.regrow", "what is dropped of a TorchScript archive can't be tried again, since it is not known where channels are read; expected 0, or prune.unit = 'weights'");
  }
  if (settings.prune.target < 1 && settings.prune.end >= federation.rounds) {
    fits.Update(absl::InvalidArgumentError(absl::StrCat("prune.end: what is cut must be trained on; expected less than federation.rounds = ", federation.rounds, ", got ",
                                                        settings.prune.end)));
  }
  if (!fits.ok()) {
    const absl::string_view message = fits.message();
    const std::string key(message.substr(0, message.find_first_of(" :")));
    return absl::InvalidArgumentError(absl::StrCat(merger.origin(key), ": ", message));
  }
  if (absl::Status budget = ValidateBudgetOptions(settings.budget); !budget.ok()) {
    const absl::string_view message = budget.message();
    return absl::InvalidArgumentError(absl::StrCat(merger.origin(std::string(message.substr(0, message.find(':')))), ": ", message));
  }
  // A client that was told "3/8" cuts the data into 8 parts, whatever a configuration shared with others says.
  if (settings.client.partition && settings.partition.clients != settings.client.partition->total) {
    settings.partition.clients = settings.client.partition->total;
    merger.set_origin("partition.clients", merger.origin("client.partition"));
  }
  settings.partition.seed = settings.seed;
  if (settings.security.directory.empty()) {
    const std::filesystem::path folder = file ? std::filesystem::path(*file).parent_path() : std::filesystem::path();
    settings.security.directory = (folder.empty() ? std::filesystem::path(".") : folder) / "security";
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PartitionRange> ParsePartitionRange(std::string_view text) {
  const std::string copy(text);
  const std::vector<std::string> halves = absl::StrSplit(copy, '/');
  PartitionRange range;
  if (halves.size() == 2) {
    const std::vector<std::string> ends = absl::StrSplit(halves[0], '-');
    // SimpleAtoi takes signs and spaces; digits alone are meant here.
    const auto parse = [](const std::string& digits, int64_t& out) {
      return !digits.empty() && std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit) && absl::SimpleAtoi(digits, &out);
    };
    if (ends.size() <= 2 && parse(ends.front(), range.first) && parse(ends.back(), range.last) && parse(halves[1], range.total) &&
        range.first <= range.last && range.last < range.total) {
      return range;
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("partition: expected part/parts counted from 0, such as 3/8 or 0-24/100, got '", copy, "'"));
}

double LearningRateAt(const TrainingSettings& training, int64_t rounds, int64_t round) {
  const double rate = training.recipe.client_learning_rate;
  switch (training.schedule) {
    case LearningRateSchedule::kConstant:
      return rate;
    case LearningRateSchedule::kStep:
      return rate * std::pow(training.learning_rate_decay, static_cast<double>((round - 1) / training.learning_rate_decay_every));
    case LearningRateSchedule::kCosine:
      return rate / 2 * (1 + std::cos(std::numbers::pi * static_cast<double>(round - 1) / static_cast<double>(rounds)));
  }
  return rate;
}

absl::StatusOr<LoadedSettings> LoadSettings(const SettingsSources& sources) {
  Merger merger;
  if (sources.file) FEDWATT_RETURN_IF_ERROR(ApplyFile(merger, *sources.file));
  FEDWATT_RETURN_IF_ERROR(ApplyEnvironment(merger, sources.environment));
  for (const FlagValue& flag : sources.flags) {
    FEDWATT_RETURN_IF_ERROR(merger.ApplyText(flag.key, flag.value, absl::StrCat("flag ", flag.flag)));
  }
  FEDWATT_RETURN_IF_ERROR(Resolve(merger, sources.file));
  LoadedSettings loaded;
  for (const Key& key : Schema()) loaded.effective.push_back({key.name, key.show(merger.settings()), merger.origin(key.name)});
  loaded.settings = std::move(merger.settings());
  return loaded;
}

std::vector<SettingDescription> SettingDescriptions() {
  const Settings defaults;
  std::vector<SettingDescription> descriptions;
  for (const Key& key : Schema()) {
    descriptions.push_back({key.name, key.type, key.name == "federation.wait_for_clients" ? "" : key.show(defaults), key.help});
  }
  return descriptions;
}

std::string DescribeSchema() {
  std::string out;
  for (const SettingDescription& setting : SettingDescriptions()) {
    absl::StrAppend(&out, setting.key, " (", setting.type, setting.default_value.empty() ? "" : "; default ",
                    setting.default_value, "): ", setting.help, "\n");
  }
  return out;
}

std::map<std::string, std::string> ProcessEnvironment() {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::pair<std::string, std::string> pieces = absl::StrSplit(absl::string_view(*entry), absl::MaxSplits('=', 1));
    variables.insert(pieces);
  }
  return variables;
}

}  // namespace fedwatt
