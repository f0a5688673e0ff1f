// What the quantizers with one step for a whole vector share.
#ifndef FEDWATT_COMPRESSION_STEP_SUPPORT_H_
#define FEDWATT_COMPRESSION_STEP_SUPPORT_H_

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/compression/symbol_coder.h"
#include "fedwatt/model/rejection.h"

namespace fedwatt::internal {

// Candidates are sought in float32 with a limit this much lower than the true one, and decided in float64: so vectors of any width agree.
inline constexpr double kCandidateSlack = 1 - 0x1p-20;

// A step as float32: at least the smallest number above 0, at most the largest.
inline float StepOf(double step) {
  return static_cast<float>(std::clamp<double>(step, FLT_TRUE_MIN, FLT_MAX));
}

inline float DecodeSymbol(int32_t symbol, float step) {
  return static_cast<float>(std::clamp<double>(symbol * static_cast<double>(step), -FLT_MAX, FLT_MAX));
}

// Errors: INVALID_ARGUMENT  value / step is beyond kMaxSymbol, or not finite
inline absl::Status RefuseSymbol(std::string_view codec, float value, float step) {
  if (!std::isfinite(value)) {
    return WithRejection(absl::InvalidArgumentError(absl::StrCat(std::string(codec), ": a value is not finite")), Rejection::kNotFinite);
  }
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(codec), ": a value of ", value, " is more than ", kMaxSymbol, " steps of ", step));
}

inline std::string PutStep(float step) {
  std::string bytes(sizeof(step), '\0');
  std::memcpy(bytes.data(), &step, sizeof(step));
  return bytes;
}

// Takes a step off the front: 0 means that all symbols are 0 and that nothing follows; a vector without values has no bytes.
// Errors: DATA_LOSS  truncated, not a finite number >= 0, or followed by what it should not be
inline absl::Status TakeStep(std::string_view codec, std::string_view& bytes, int64_t count, float& step) {
  const auto damaged = [codec](const char* what) { return absl::DataLossError(absl::StrCat(std::string(codec), ": ", what)); };
  step = 0;
  if (count == 0) return bytes.empty() ? absl::OkStatus() : damaged("bytes of an empty vector");
  if (bytes.size() < sizeof(step)) return damaged("the step is truncated");
  std::memcpy(&step, bytes.data(), sizeof(step));
  bytes.remove_prefix(sizeof(step));
  if (!(step >= 0 && step <= FLT_MAX) || std::signbit(step)) return damaged("the step is not a finite number >= 0");
  if ((step == 0) != bytes.empty()) return damaged("the step does not fit the symbols");
  return absl::OkStatus();
}

// Errors: INVALID_ARGUMENT  not a number in [low, high]
inline absl::StatusOr<double> ParseOption(std::string_view codec, const std::string& name, const std::string& text, double low, double high) {
  double value = 0;
  if (!absl::SimpleAtod(text, &value) || !(value >= low && value <= high)) {
    return absl::InvalidArgumentError(absl::StrCat("codec '", std::string(codec), "': ", name, " = '", text, "', expected [", low, ", ", high, "]"));
  }
  return value;
}

}  // namespace fedwatt::internal

#endif  // FEDWATT_COMPRESSION_STEP_SUPPORT_H_
