#include "fedwatt/energy/meter.h"

#include <time.h>

#include <algorithm>
#include <utility>

#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/attribution.h"
#include "sampled_meter.h"

namespace fedwatt {

namespace internal {
void InstallMeters(MeterRegistry& registry);
}  // namespace internal

absl::Duration SuspendedTime() {
  struct timespec boot = {}, monotonic = {};
  clock_gettime(CLOCK_MONOTONIC, &monotonic);
  clock_gettime(CLOCK_BOOTTIME, &boot);
  return absl::DurationFromTimespec(boot) - absl::DurationFromTimespec(monotonic);
}

MeterRegistry& Meters() {
  static auto* registry = [] {
    auto* made = new MeterRegistry("meter");
    internal::InstallMeters(*made);
    return made;
  }();
  return *registry;
}

namespace {

absl::StatusOr<std::unique_ptr<Meter>> Make(const MeterEntry& entry, const MeterOptions& options) {
  absl::StatusOr<std::unique_ptr<Meter>> meter = entry.create(options);
  if (!absl::IsUnimplemented(meter.status()) || !options.thread_scope || !options.share) return meter;
  // What covers the machine can be shared out to a thread as well as to a process.
  MeterOptions whole = options;
  whole.thread_scope = false;
  absl::StatusOr<std::unique_ptr<Meter>> covering = entry.create(whole);
  return covering.ok() && (*covering)->CoversMachine() ? std::move(covering) : std::move(meter);
}

// With sampling in the background and shares, as the options say.
std::unique_ptr<Meter> Complete(std::unique_ptr<Meter> meter, const MeterOptions& options) {
  meter = SampleInBackground(std::move(meter));
  return options.share && meter->CoversMachine() ? ShareByCpuTime(std::move(meter), options) : std::move(meter);
}

}  // namespace

Refusal SplitRefusal(std::string_view text) {
  static constexpr std::string_view kMark = "; remedy: ";
  const size_t at = text.find(kMark);
  if (at == text.npos) return {std::string(text), ""};
  return {std::string(text.substr(0, at)), std::string(text.substr(at + kMark.size()))};
}

absl::StatusOr<MeterChoice> ChooseMeter(std::string_view name, const MeterOptions& options) {
  MeterChoice choice;
  if (name == "none") return choice;
  if (name != "auto") {
    FEDWATT_ASSIGN_OR_RETURN(MeterEntry entry, Meters().Find(name));
    FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<Meter> meter, Make(entry, options));
    choice.meter = Complete(std::move(meter), options);
    return choice;
  }

  std::vector<std::pair<std::string, MeterEntry>> candidates;
  for (const std::string& candidate : Meters().Names()) {
    FEDWATT_ASSIGN_OR_RETURN(MeterEntry entry, Meters().Find(candidate));
    if (entry.preference >= 0) candidates.emplace_back(candidate, std::move(entry));
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const auto& a, const auto& b) { return a.second.preference > b.second.preference; });
  // Whatever is preferred at equal tiers: a better tier is never hidden behind it.
  std::unique_ptr<Meter> best;
  std::vector<RefusedMeter> refused;
  for (const auto& [candidate, entry] : candidates) {
    absl::StatusOr<std::unique_ptr<Meter>> meter = Make(entry, options);
    if (!meter.ok()) {
      refused.push_back({candidate, std::string(meter.status().message())});
    } else if (best == nullptr || (*meter)->tier() < best->tier()) {
      best = *std::move(meter);
      choice.refused = refused;
    }
  }
  if (best == nullptr) {
    choice.refused = std::move(refused);
  } else {
    choice.meter = Complete(std::move(best), options);
  }
  return choice;
}

}  // namespace fedwatt
