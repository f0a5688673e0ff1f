#include "fedwatt/round/rate_control.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace fedwatt {
namespace {

constexpr double kGain = 0.5;
// Where control starts: `dithered` takes about 2.5 bits a value for each step of one root mean square, `ecsq` less at low rates.
constexpr double kFirstGuess = 2.5;
// How far real updates may lie from that. A model so small that its bytes are all overhead can't meet a rate, and must not be driven to noise.
constexpr double kRange = 4;

}  // namespace

absl::StatusOr<RateControl> RateControl::Create(std::string_view spec) {
  RateControl control;
  control.spec_ = std::string(spec);
  const size_t at = spec.find(":rate=");
  if (at == std::string_view::npos) return control;
  const size_t begin = at + 6;
  const size_t end = std::min(spec.find_first_of(":,", begin), spec.size());
  const size_t stage = spec.rfind(',', at) == std::string_view::npos ? 0 : spec.rfind(',', at) + 1;
  const std::string name(spec.substr(stage, std::min(spec.find(':', stage), at) - stage));
  if (name != "dithered" && name != "ecsq") return absl::InvalidArgumentError(absl::StrCat("compression: '", name, "' has no rate; dithered and ecsq have"));
  const std::string text(spec.substr(begin, end - begin));
  if (!absl::SimpleAtod(text, &control.target_) || !(control.target_ >= 0.005 && control.target_ <= 8)) {
    return absl::InvalidArgumentError(absl::StrCat("compression: rate = '", text, "', expected [0.005, 8] bits a parameter"));
  }
  control.before_ = absl::StrCat(std::string(spec.substr(0, at)), ":multiple=");
  control.after_ = std::string(spec.substr(end));
  control.multiple_ = kFirstGuess / control.target_;
  control.Spell();
  return control;
}

void RateControl::Spell() { spec_ = absl::StrCat(before_, absl::StrFormat("%.4g", multiple_), after_); }

void RateControl::NoteUpdate(int64_t bytes, int64_t parameter_count) {
  bytes_ += bytes;
  parameters_ += parameter_count;
}

void RateControl::Commit() {
  if (active() && parameters_ > 0) {
    const double measured = 8.0 * static_cast<double>(bytes_) / static_cast<double>(parameters_);
    const double guess = kFirstGuess / target_;
    multiple_ = std::clamp(multiple_ * std::pow(std::clamp(measured / target_, 1 / kRange, kRange), kGain), guess / kRange, guess * kRange);
    Spell();
  }
  Abandon();
}

void RateControl::Abandon() { bytes_ = parameters_ = 0; }

absl::Status RateControl::Restore(double multiple) {
  if (!active()) return absl::OkStatus();
  const double guess = kFirstGuess / target_;
  if (!(multiple >= guess / kRange && multiple <= guess * kRange)) return absl::DataLossError(absl::StrCat("rate control: multiple ", multiple));
  multiple_ = multiple;
  Spell();
  return absl::OkStatus();
}

}  // namespace fedwatt
