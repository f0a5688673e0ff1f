#include "audit/metering.h"

#include <cmath>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/config/run_options.h"

namespace fedwatt::tool {
namespace {

// What the estimating meter makes of a little processor time of this thread.
std::optional<WattsModel> ProbeWatts(Meter& meter) {
  if (!meter.Start().ok()) return std::nullopt;
  const absl::Duration start = ProcessCpuTime();
  volatile double sink = 1;
  while (ProcessCpuTime() - start < absl::Milliseconds(200)) sink = std::sqrt(sink + 1);
  const double seconds = absl::ToDoubleSeconds(ProcessCpuTime() - start);
  const EnergyReading reading = meter.Read();
  if (reading.missing()) return std::nullopt;
  return WattsModel{reading.energy->joules() / seconds, reading.low->joules() / seconds, reading.high->joules() / seconds, meter.Describe()};
}

}  // namespace

std::optional<Interval> IdleWatts(Meter& meter) {
  constexpr int kBlocks = 5;
  std::vector<double> watts;
  for (int i = 0; i < kBlocks; ++i) {
    if (!meter.Start().ok()) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::seconds(3));
    const EnergyReading reading = meter.Read();
    if (!reading.missing() && reading.window > absl::ZeroDuration()) watts.push_back(reading.energy->joules() / absl::ToDoubleSeconds(reading.window));
  }
  return MeanInterval(watts);
}

absl::StatusOr<std::unique_ptr<Meter>> FindMeter(const Settings& settings, Findings& findings) {
  MeterOptions options = MakeMeterOptions(settings);
  options.share = false;
  FEDWATT_ASSIGN_OR_RETURN(MeterChoice choice, ChooseMeter(settings.energy.meter, options));
  if (choice.meter != nullptr && !IsEstimate(choice.meter->tier())) {
    findings.meter = choice.meter->Describe();
    findings.tier = choice.meter->tier();
    return std::move(choice.meter);
  }
  findings.meter = "nothing meters it here";
  for (const RefusedMeter& refused : choice.refused) absl::StrAppend(&findings.meter, "; ", refused.name, ": ", refused.reason);
  if (settings.energy.meter == "none") return nullptr;
  // Archives run in another process, so the model is asked for watts, not for joules.
  FEDWATT_ASSIGN_OR_RETURN(const MeterChoice model, ChooseMeter("cpu_time", options));
  findings.watts = ProbeWatts(*model.meter);
  if (findings.watts.has_value()) {
    findings.tier = model.meter->tier();
    absl::StrAppend(&findings.meter, ". ", findings.watts->describe);
  }
  return nullptr;
}

}  // namespace fedwatt::tool
