// What was measured once on this very machine: its idle power, and the samples that its CPU model is fitted to.
#ifndef FEDWATT_ENERGY_CALIBRATION_H_
#define FEDWATT_ENERGY_CALIBRATION_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/energy/cpu_model.h"
#include "fedwatt/energy/meter.h"
#include "fedwatt/energy/quantities.h"

namespace fedwatt {

// Watts of a machine that does next to nothing: the median of several blocks of time.
struct IdlePower {
  Power power;
  Power low, high;        // the least and the greatest block
  int block_count = 0;
  absl::Duration block;   // length of each
};

struct Calibration {
  std::string host;            // its name; for people
  std::string machine;         // what must be the same for the numbers to hold: processor, number of CPUs, source of the clock, governor, mains or battery
  absl::Time measured_at;
  std::string meter;           // that measured
  EnergyTier meter_tier = EnergyTier::kMissing;
  std::string covers;          // that meter's domains: what the model's watts are of
  IdlePower idle;
  std::vector<CpuModel::Sample> samples;  // under load, the idle blocks included; may be empty: no model

  // FAILED_PRECONDITION, with both, where `root`'s machine is not the one that was measured.
  absl::Status CheckMachine(const std::string& root) const;
};

// As Calibration::machine, of the machine below `root`.
std::string MachineForCalibration(const std::string& root);

// Errors: NOT_FOUND, PERMISSION_DENIED  the file; DATA_LOSS  it is not a calibration: file and field
absl::StatusOr<Calibration> ReadCalibration(const std::string& path);
// Makes the folder where it is missing. Errors: the file's
absl::Status WriteCalibration(const std::string& path, const Calibration& calibration);
// $XDG_CONFIG_HOME/fedwatt/calibration-HOST.json, else under ~/.config; "" where neither is set.
std::string DefaultCalibrationPath();

struct CalibrateOptions {
  absl::Duration duration = absl::Seconds(120);  // >= 10 s: a quarter for idle, the rest for steps of load
  std::string meter = "auto";   // the reference: a registered meter that measures and covers the machine
  MeterOptions meter_options;   // its root is also where the CPUs' activity is read
  std::function<void(const std::string&)> progress;  // told before each step; may be empty
  // Keeps `threads` threads busy for `duty` of the time, in (0, 1], and returns after `span`; the default runs dense floating-point sums. threads = 0: sleeps.
  std::function<absl::Status(int threads, double duty, absl::Duration span)> load;
};
// Measures idle power in blocks, then steps of load, against a meter that measures.
// Errors: INVALID_ARGUMENT  an option; FAILED_PRECONDITION  no meter here measures, with the reasons; UNAVAILABLE  the meter or /proc/stat fell out
absl::StatusOr<Calibration> Calibrate(const CalibrateOptions& options);

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_CALIBRATION_H_
