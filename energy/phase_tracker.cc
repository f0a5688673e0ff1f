#include "fedwatt/energy/phase_tracker.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"

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

void AddSpans(std::vector<PhaseSpan>& sum, const std::vector<PhaseSpan>& more) {
  for (const PhaseSpan& piece : more) {
    auto span = std::find_if(sum.begin(), sum.end(), [&piece](const PhaseSpan& known) { return known.phase == piece.phase; });
    if (span == sum.end()) {
      sum.push_back(piece);
      continue;
    }
    span->wall += piece.wall;
    span->cpu += piece.cpu;
    span->energy = AddWindows(span->energy, piece.energy);
  }
}

EnergyReading SumOfSpans(const std::vector<PhaseSpan>& spans) {
  EnergyReading sum;
  bool first = true;
  for (const PhaseSpan& span : spans) {
    if (span.wall <= absl::ZeroDuration() && span.energy.missing()) continue;
    sum = first ? span.energy : AddWindows(sum, span.energy);
    first = false;
  }
  return sum;
}

std::string DescribeSpans(std::vector<PhaseSpan> spans) {
  std::stable_sort(spans.begin(), spans.end(), [](const PhaseSpan& a, const PhaseSpan& b) { return a.wall > b.wall; });
  return absl::StrJoin(spans, ", ", [](std::string* out, const PhaseSpan& span) {
    absl::StrAppendFormat(out, "%s %.2f s ", std::string(PhaseName(span.phase)), absl::ToDoubleSeconds(span.wall));
    if (span.energy.missing()) {
      absl::StrAppend(out, "unmetered");
    } else {
      absl::StrAppendFormat(out, "%s%.2f J", IsEstimate(span.energy.tier) ? "~" : "", span.energy.energy->joules());
    }
  });
}

PhaseTracker::PhaseTracker(const Clock* clock, Meter* meter, Cpu cpu) : clock_(clock), meter_(meter), cpu_(cpu) {}

absl::Duration PhaseTracker::CpuNow() const {
  switch (cpu_) {
    case Cpu::kThread: return ThreadCpuTime();
    case Cpu::kProcess: return ProcessCpuTime();
    case Cpu::kNone: break;
  }
  return absl::ZeroDuration();
}

void PhaseTracker::Start() {
  // A meter that cannot start yields missing readings, so its status needs no second path here.
  if (meter_ != nullptr) meter_->Start().IgnoreError();
}

void PhaseTracker::Enter(Phase phase) {
  if (running_) {
    Close();
  } else {
    Start();
    wall_start_ = clock_->Monotonic();
    cpu_start_ = CpuNow();
    running_ = true;
  }
  current_ = phase;
}

void PhaseTracker::UseMeter(Meter* meter) {
  if (meter == meter_) return;
  if (running_) {
    Close();
    // What the last reading of the old meter cost is in no window of the new one: the phase takes it.
    wall_start_ -= std::exchange(metering_wall_, absl::ZeroDuration());
    cpu_start_ -= std::exchange(metering_cpu_, absl::ZeroDuration());
  }
  meter_ = meter;
  if (running_) Start();
}

std::vector<PhaseSpan> PhaseTracker::Cut(Phase phase) {
  FEDWATT_CHECK(running_);
  Enter(phase);
  return std::exchange(spans_, {});
}

std::vector<PhaseSpan> PhaseTracker::Finish() {
  if (running_) Close();
  running_ = false;
  metering_wall_ = metering_cpu_ = absl::ZeroDuration();
  return std::exchange(spans_, {});
}

// One reading of each clock is both the end of one piece and the start of the next: no gap, no overlap.
void PhaseTracker::Close() {
  PhaseSpan piece;
  piece.phase = current_;
  const absl::Duration wall_end = clock_->Monotonic(), cpu_end = CpuNow();
  piece.wall = wall_end - std::exchange(wall_start_, wall_end);
  piece.cpu = cpu_end - std::exchange(cpu_start_, cpu_end);
  if (meter_ == nullptr) {
    piece.energy.window = piece.wall;
    return Add(std::move(piece));
  }
  piece.energy = meter_->Read();
  if (metering_wall_ > absl::ZeroDuration()) {
    // The reading before this one took a part of this one's window.
    PhaseSpan metering{Phase::kMetering, metering_wall_, metering_cpu_, piece.energy};
    const double fraction = absl::FDivDuration(metering_wall_, metering_wall_ + piece.wall);
    metering.energy.window = std::min(metering_wall_, piece.energy.window);
    piece.energy.window -= metering.energy.window;
    for (std::optional<Energy> EnergyReading::*field :
         {&EnergyReading::energy, &EnergyReading::low, &EnergyReading::high, &EnergyReading::gross, &EnergyReading::idle}) {
      std::optional<Energy>&mine = metering.energy.*field, &rest = piece.energy.*field;
      if (!mine) continue;
      // Rounding keeps the order of these, for both parts.
      mine = Microjoules(std::llround(static_cast<double>(mine->microjoules()) * fraction));
      rest = *rest - *mine;
    }
    Add(std::move(piece));
    Add(std::move(metering));
  } else {
    Add(std::move(piece));
  }
  const absl::Duration wall_read = clock_->Monotonic(), cpu_read = CpuNow();
  metering_wall_ = wall_read - std::exchange(wall_start_, wall_read);
  metering_cpu_ = cpu_read - std::exchange(cpu_start_, cpu_read) + (cpu_ == Cpu::kThread ? meter_->TakeSamplingCpu() : absl::ZeroDuration());
}

void PhaseTracker::Add(PhaseSpan piece) { AddSpans(spans_, {std::move(piece)}); }

}  // namespace fedwatt
