// fedwatt calibrate: measures this machine's idle power and fits its CPU model against a meter that measures.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/config/run_options.h"
#include "fedwatt/energy/calibration.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct Flags {
  SettingsFlags settings;
  std::string meter = "auto", out;
  double seconds = 120;
};

absl::StatusOr<ExitCode> Run(const Flags& flags) {
  FEDWATT_ASSIGN_OR_RETURN(const SettingsSources sources, Sources(flags.settings));
  FEDWATT_ASSIGN_OR_RETURN(const LoadedSettings loaded, LoadSettings(sources));
  CalibrateOptions options;
  options.meter_options = MakeMeterOptions(loaded.settings);
  const std::string path = flags.out.empty() ? options.meter_options.calibration : flags.out;
  if (path.empty()) return WithExitCode(absl::InvalidArgumentError("neither XDG_CONFIG_HOME nor HOME is set: say where with --out FILE"), ExitCode::kUsage);
  options.duration = absl::Seconds(flags.seconds);
  options.meter = flags.meter;
  options.progress = [](const std::string& step) { Say(step); };
  FEDWATT_ASSIGN_OR_RETURN(const Calibration calibration, Calibrate(options));
  FEDWATT_ASSIGN_OR_RETURN(const CpuModel model, CpuModel::Fit(calibration.samples));
  FEDWATT_RETURN_IF_ERROR(WriteCalibration(path, calibration));
  const IdlePower& idle = calibration.idle;
  const auto& c = model.coefficients();
  Print(absl::StrFormat("meter    %s, tier %s, %s\n"
                        "idle     %.2f W, blocks of %.1f s between %.2f and %.2f W\n"
                        "model    %.3g W + %.3g W/GHz (threads of a core apart) + %.3g W/GHz (together)\n"
                        "error    %.1f %% of a step that was left out, mean of %d steps\n"
                        "written  %s\n",
                        calibration.meter, std::string(EnergyTierName(calibration.meter_tier)), calibration.covers, idle.power.watts(), absl::ToDoubleSeconds(idle.block),
                        idle.low.watts(), idle.high.watts(), c[0], c[1], c[2], 100 * model.left_out_error_fraction(), calibration.samples.size(), path));
  return ExitCode::kDone;
}

}  // namespace

void AddCalibrate(CLI::App& app, Action& chosen) {
  auto [verb, flags] = Declare<Flags>(app, chosen, "calibrate",
                                      "measures idle power and fits the CPU model of this machine, which must have nothing else to do meanwhile", Run);
  AddSettings(verb, flags->settings);
  verb->add_option("--seconds", flags->seconds, "how long, from 10; a quarter of it idle (default 120)")->check(CLI::Range(10.0, 86400.0));
  verb->add_option("--meter", flags->meter, "what to calibrate against (default auto: the best that measures)");
  verb->add_option("--out", flags->out, "where to write (default: energy.calibration, which clients read)")->type_name("FILE");
}

}  // namespace fedwatt::tool
