// Sources of joules. One file each under energy/meters/.
#ifndef FEDWATT_ENERGY_METER_H_
#define FEDWATT_ENERGY_METER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/energy/quantities.h"

namespace fedwatt {

// How long this machine has slept since it booted: the boot-time clock less the monotonic one.
absl::Duration SuspendedTime();
// Its two clocks are read one after the other: less than this is their jitter.
inline constexpr absl::Duration kShortestSleep = absl::Milliseconds(10);

// Opens the performance event (type, config) of everything that runs on `cpu`; the caller closes it. Errors: PERMISSION_DENIED; NOT_FOUND; UNAVAILABLE
absl::StatusOr<int> OpenPerfEvent(uint32_t type, uint64_t config, int cpu);

// One counter or sensor that a meter considered.
struct FoundDomain {
  std::string name;     // "package-0", "VDD_IN"
  std::string refusal;  // why it is not counted, as in a meter's refusal; "" = it is
};

struct MeterOptions {
  std::string root = "/";             // sysfs and procfs are read below it; tests inject a folder
  const Clock* clock = &RealClock();  // must outlive the meter
  std::function<absl::Duration()> suspended = SuspendedTime;  // never goes backwards
  std::function<void(absl::Duration)> pause = absl::SleepFor;  // waits for a counter to move: a millisecond or so a reading
  std::function<absl::StatusOr<int>(uint32_t type, uint64_t config, int cpu)> open_perf_event = OpenPerfEvent;
  // Watts of one busy core, for the generic model; <= 0 takes the built-in table's value.
  double watts_per_core = 0;
  // Which of a meter's sources: `external` and `replay` read this file, `rails` adds the rails named here ("VDD_CPU,VDD_SOC"), `battery` and `nvml` take the
  // batteries and numbers of GPUs named here. "" = all that belong together.
  std::string source;
  // Told of every source that Create finds, also where it fails in the end; may be empty.
  std::function<void(const FoundDomain&)> on_domain;
  // The joules of the calling thread alone: for several participants in one process, each on a thread of its own. A meter that
  // only knows more than that (package, process) refuses to be created. Start and Read then belong to one and the same thread.
  bool thread_scope = false;
  // ChooseMeter only. True: of a meter that covers the machine, this process's part by CPU time, or with thread_scope this thread's (attribution.h).
  // False: all of it.
  bool share = true;
  // File of this machine's calibration (calibration.h): gives `cpu_model` its model, and shares their idle part. "" = none.
  std::string calibration;
};

// Measures windows: Start, then Read any number of times; each Read covers the time since the one before.
// Owned by one thread.
class Meter {
 public:
  virtual ~Meter() = default;
  virtual std::string_view name() const = 0;
  virtual EnergyTier tier() const = 0;
  // One line for people: what it reads and what that covers.
  virtual std::string Describe() const = 0;
  // The joules are those of all processes that the hardware served, so that a process's part may be told by CPU time.
  virtual bool CoversMachine() const { return true; }
  virtual absl::Status Start() = 0;
  // Keeps a long window honest without ending it: looks at the source, so that a counter cannot wrap unseen and power is integrated. Called
  // at least every SamplePeriod() between Start and Read; a meter that needs it says so by a finite period.
  virtual void Sample() {}
  virtual absl::Duration SamplePeriod() const { return absl::InfiniteDuration(); }
  // The CPU time that sampling in the background has taken since this was last asked.
  virtual absl::Duration TakeSamplingCpu() { return absl::ZeroDuration(); }
  // A source that fails in between yields a missing reading, never an error and never zero.
  virtual EnergyReading Read() = 0;
};

// Errors from Create say why the meter is not available here, and may end in "; remedy: " and what to do about it: UNIMPLEMENTED  no such hardware, or it cannot cover the scope asked for;
// PERMISSION_DENIED; UNAVAILABLE  the source is there but unreadable; INVALID_ARGUMENT  a bad option
struct MeterEntry {
  std::function<absl::StatusOr<std::unique_ptr<Meter>>(const MeterOptions&)> create;
  int preference = 0;  // among equal tiers `auto` takes the highest, and never a negative one
};
using MeterRegistry = Registry<MeterEntry>;
MeterRegistry& Meters();

// The parts before and after "; remedy: ".
struct Refusal {
  std::string reason;
  std::string remedy;  // one line; "" = none
};
Refusal SplitRefusal(std::string_view text);

struct RefusedMeter {
  std::string name;
  std::string reason;  // with its remedy
};
struct MeterChoice {
  std::unique_ptr<Meter> meter;        // null when none is available or "none" was asked for
  std::vector<RefusedMeter> refused;   // those preferred to it, in the order tried
};

// The meter shares the machine's joules out as `options.share` says, and samples itself in the background where that keeps long windows honest (SamplePeriod).
// `name` is a registered meter, "auto" (the best available one) or "none".
// Errors: NOT_FOUND  unknown name; the meter's own error when it was named and is not available
absl::StatusOr<MeterChoice> ChooseMeter(std::string_view name, const MeterOptions& options);

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_METER_H_
