// Cuts an attempt's wall time into phases without gaps, with the joules and CPU time of each.
#ifndef FEDWATT_ENERGY_PHASE_TRACKER_H_
#define FEDWATT_ENERGY_PHASE_TRACKER_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/energy/meter.h"
#include "fedwatt/energy/quantities.h"

namespace fedwatt {

enum class Phase : uint8_t {
  kInit, kIdleWait, kDownload, kDecode, kTrain, kEvaluate, kFit, kEncode, kUpload, kAggregate, kCheckpoint, kMetering
};
// The run record's spelling: "init", "idle_wait", ...
std::string_view PhaseName(Phase phase);

struct PhaseSpan {
  Phase phase = Phase::kInit;
  absl::Duration wall;
  absl::Duration cpu;       // of the calling thread, or of the process: as the tracker was made
  EnergyReading energy;
};
// Adds `more` to `sum`, phase by phase.
void AddSpans(std::vector<PhaseSpan>& sum, const std::vector<PhaseSpan>& more);
// The joules of all of them; a phase that took no time and has none hides nothing. Missing for no spans.
EnergyReading SumOfSpans(const std::vector<PhaseSpan>& spans);
// "train 61.2 s 240.1 J, idle_wait 5.0 s unmetered", the longest first: for people.
std::string DescribeSpans(std::vector<PhaseSpan> spans);

// Owned by one thread. Phases tile: Enter ends the current phase at the instant it starts the next. The time of reading the meter at such an
// edge, and the CPU time of its sampling in the background, are a phase of their own, `metering`; its joules are the part of the next reading that its wall
// time is of that reading's.
class PhaseTracker {
 public:
  enum class Cpu : uint8_t { kThread, kProcess, kNone };  // kNone: not looked at, as where nothing of the process is one's own
  // `meter` may be null (every reading is missing) and must outlive the tracker, as must `clock`.
  PhaseTracker(const Clock* clock, Meter* meter, Cpu cpu = Cpu::kThread);

  // Ends the running phase, if any, and starts `phase`. Entering a phase again adds to its span.
  void Enter(Phase phase);
  // Goes on with another meter, or none; the running phase is read by both, each for its part.
  void UseMeter(Meter* meter);
  // Enters `phase`, which must not be the first, and returns one span per phase entered since the last cut, in order of first entry.
  std::vector<PhaseSpan> Cut(Phase phase);
  // The same, and nothing runs any more. The last reading's own time is in no span.
  std::vector<PhaseSpan> Finish();

 private:
  absl::Duration CpuNow() const;
  void Start();
  void Close();
  void Add(PhaseSpan piece);

  const Clock* clock_;
  Meter* meter_;
  const Cpu cpu_;
  bool running_ = false;
  Phase current_ = Phase::kInit;
  absl::Duration wall_start_;
  absl::Duration cpu_start_;
  absl::Duration metering_wall_, metering_cpu_;  // between the last reading's start and wall_start_; in no span yet
  std::vector<PhaseSpan> spans_;
};

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_PHASE_TRACKER_H_
