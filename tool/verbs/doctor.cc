// fedwatt doctor: is this machine ready, and what to do where it is not.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "doctor/check.h"
#include "fedwatt/base/status_macros.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct Options {
  ConnectionFlags connection;
  std::string out;
  bool energy = false;
  std::string root = "/";
  Format format = Format::kText;
};

const char* Name(Verdict verdict) { return verdict == Verdict::kOk ? "ok" : verdict == Verdict::kWarn ? "warn" : "fail"; }

// All but the meters and the coordinator.
void CheckRest(const Settings& settings, Checks& checks) {
  CheckMachine(checks);
  CheckSandbox(settings, checks);
  CheckKernels(settings, checks);
  CheckClock(absl::Now(), checks);
  CheckListen(settings, checks);
  CheckCertificates(settings, checks);
  CheckData(settings, checks);
  CheckDisk(settings, checks);
}

absl::StatusOr<ExitCode> Run(const Options& options) {
  Checks checks;
  FEDWATT_ASSIGN_OR_RETURN(SettingsSources sources, Sources(options.connection));
  if (!options.out.empty()) sources.flags.push_back({"out", options.out, "--out"});
  absl::StatusOr<LoadedSettings> loaded = LoadSettings(sources);
  Settings settings;
  if (loaded.ok()) {
    settings = loaded->settings;
    checks.push_back(
        {"config", Verdict::kOk, sources.file ? *sources.file : std::string("defaults; none was named with --config")});
  } else {
    // The machine can be looked at all the same.
    settings.security.directory = "security";
    checks.push_back(
        {"config", Verdict::kFail, std::string(loaded.status().message()), "fedwatt config lists every key with its range"});
  }
  CheckMeters(settings, options.energy, options.root, checks);
  if (!options.energy) CheckRest(settings, checks);
  if (!options.connection.server.empty() && loaded.ok()) {
#ifdef FEDWATT_HAS_GRPC
    CheckServer(settings, checks);
#else
    checks.push_back(
        {"server", Verdict::kWarn, "not asked: built without gRPC (FEDWATT_WITH_GRPC=OFF)", "build with FEDWATT_WITH_GRPC=ON"});
#endif
  }

  bool failed = false;
  nlohmann::ordered_json items = nlohmann::ordered_json::array();
  std::vector<std::vector<std::string>> rows;
  for (const Check& check : checks) {
    failed |= check.verdict == Verdict::kFail;
    items.push_back({{"name", check.name}, {"verdict", Name(check.verdict)}, {"detail", check.detail}, {"remedy", check.remedy}});
    rows.push_back(
        {Name(check.verdict), check.name, absl::StrCat(check.detail, check.remedy.empty() ? "" : "; remedy: ", check.remedy)});
  }
  if (options.format == Format::kJson) {
    // Names of files may hold any bytes.
    Print(nlohmann::ordered_json{{"schema", "fedwatt.doctor.v1"}, {"ok", !failed}, {"checks", items}}.dump(
              2, ' ', false, nlohmann::json::error_handler_t::replace) +
          "\n");
  } else {
    Print(Columns(rows));
  }
  return failed ? ExitCode::kConfiguration : ExitCode::kDone;
}

}  // namespace

void AddDoctor(CLI::App& app, Action& chosen) {
  auto [verb, options] = Declare<Options>(
      app, chosen, "doctor",
      "whether this machine is ready, with a remedy for each finding; asks the coordinator when --server is given", Run);
  AddConnection(verb, options->connection);
  verb->add_flag("--energy", options->energy, "only the meters: every one, and every counter and sensor it finds, why it is counted or not and what to do");
  verb->add_option("--root", options->root, "where to look for meters: the folder under which another system's /sys and /proc are mounted")->type_name("DIR");
  verb->add_option("--out", options->out, "folder of the run record, whose disk is looked at")->type_name("DIR");
  AddFormat(verb, options->format);
}

}  // namespace fedwatt::tool
