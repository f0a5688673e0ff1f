#include "fedwatt/energy/phase_tracker.h"

#include <algorithm>
#include <utility>

#include "fedwatt/base/process.h"

namespace fedwatt {

std::string_view PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kInit: return "init";
    case Phase::kIdleWait: return "idle_wait";
    case Phase::kDownload: return "download";
    case Phase::kDecode: return "decode";
    case Phase::kTrain: return "train";
    case Phase::kEvaluate: return "evaluate";
    case Phase::kFit: return "fit";
    case Phase::kEncode: return "encode";
    case Phase::kUpload: return "upload";
    case Phase::kAggregate: return "aggregate";
    case Phase::kCheckpoint: return "checkpoint";
    case Phase::kMetering: break;
  }
  return "metering";
}

PhaseTracker::PhaseTracker(const Clock* clock, Meter* meter) : clock_(clock), meter_(meter) {}

void PhaseTracker::Enter(Phase phase) {
  if (running_) {
    Close();
  } else {
    // A meter that cannot start yields missing readings, so its status needs no second path here.
    if (meter_ != nullptr) meter_->Start().IgnoreError();
    wall_start_ = clock_->Monotonic();
    cpu_start_ = ThreadCpuTime();
    running_ = true;
  }
  current_ = phase;
}

std::vector<PhaseSpan> PhaseTracker::Finish() {
  if (running_) Close();
  running_ = false;
  return std::exchange(spans_, {});
}

// One reading of each clock is both the end of this phase and the start of the next: no gap, no overlap.
void PhaseTracker::Close() {
  PhaseSpan piece;
  piece.phase = current_;
  const absl::Duration wall_end = clock_->Monotonic(), cpu_end = ThreadCpuTime();
  piece.wall = wall_end - std::exchange(wall_start_, wall_end);
  piece.cpu = cpu_end - std::exchange(cpu_start_, cpu_end);
  if (meter_ != nullptr) {
    piece.energy = meter_->Read();
  } else {
    piece.energy.window = piece.wall;
  }

  auto span = std::find_if(spans_.begin(), spans_.end(), [this](const PhaseSpan& known) { return known.phase == current_; });
  if (span == spans_.end()) {
    spans_.push_back(std::move(piece));
    return;
  }
  span->wall += piece.wall;
  span->cpu += piece.cpu;
  span->energy = AddWindows(span->energy, piece.energy);
}

}  // namespace fedwatt
