// Cuts an attempt's wall time into phases without gaps, with the joules and CPU time of each.
#ifndef FEDWATT_ENERGY_PHASE_TRACKER_H_
#define FEDWATT_ENERGY_PHASE_TRACKER_H_

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
  absl::Duration cpu;       // of the calling thread
  EnergyReading energy;
};

// Owned by one thread. Phases tile: Enter ends the current phase at the instant it starts the next.
class PhaseTracker {
 public:
  // `meter` may be null (every reading is missing) and must outlive the tracker, as must `clock`.
  PhaseTracker(const Clock* clock, Meter* meter);

  // Ends the running phase, if any, and starts `phase`. Entering a phase again adds to its span.
  void Enter(Phase phase);
  // Ends the running phase and returns one span per phase entered, in order of first entry; the tracker is empty again.
  std::vector<PhaseSpan> Finish();

 private:
  void Close();

  const Clock* clock_;
  Meter* meter_;
  bool running_ = false;
  Phase current_ = Phase::kInit;
  absl::Duration wall_start_;
  absl::Duration cpu_start_;
  std::vector<PhaseSpan> spans_;
};

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_PHASE_TRACKER_H_
