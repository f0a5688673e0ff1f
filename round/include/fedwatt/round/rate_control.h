// Holds the uplink at a rate: `compression.uplink = "dithered:rate=0.1"` names bits a parameter, and the coordinator finds the step.
#ifndef FEDWATT_ROUND_RATE_CONTROL_H_
#define FEDWATT_ROUND_RATE_CONTROL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace fedwatt {

// Replaces a codec stage's `rate=R` by `multiple=M`, a step in units of each update's own root mean square, and moves M by what updates really
// took: log M += gain * log(measured / target). At low rates bits fall about as 1 / M, so that a gain of 1/2 settles in a few rounds
// without swinging. Deterministic in the sizes of the committed updates, whatever their order. Thread-compatible.
class RateControl {
 public:
  RateControl() = default;  // controls nothing
  // `spec` as in the settings; without a rate it is left as it is. Errors: INVALID_ARGUMENT  a rate outside [0.005, 8], or on a stage without step
  static absl::StatusOr<RateControl> Create(std::string_view spec);

  // How clients are to encode in the round to come.
  const std::string& spec() const { return spec_; }
  bool active() const { return target_ > 0; }

  // An update of `parameter_count` values of the round under way was folded; its payload took `bytes`.
  void NoteUpdate(int64_t bytes, int64_t parameter_count);
  // The round was committed: draws the consequence. Abandoned: forgets the round's updates.
  void Commit();
  void Abandon();

  // The multiple reached, for the coordinator's state.
  double multiple() const { return multiple_; }
  // Errors: DATA_LOSS  not a multiple that control can reach
  absl::Status Restore(double multiple);

 private:
  void Spell();

  std::string before_, after_;  // the spec around the multiple
  std::string spec_;
  double target_ = 0;
  double multiple_ = 0;
  int64_t bytes_ = 0, parameters_ = 0;
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_RATE_CONTROL_H_
