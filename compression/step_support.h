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

// Payload of a vector that is not empty: the step, 0 where all symbols are, and the symbols.
inline absl::StatusOr<std::string> PutStepAndSymbols(float step, absl::Span<const int64_t> segment_counts, const SparseSymbols& symbols,
                                                     uint64_t salt) {
  absl::StatusOr<std::string> coded = EncodeSymbols(segment_counts, symbols, salt);
  if (!coded.ok()) return coded.status();
  if (coded->empty()) step = 0;
  std::string bytes(sizeof(step), '\0');
  std::memcpy(bytes.data(), &step, sizeof(step));
  return bytes + *coded;
}

// Errors: DATA_LOSS  not what PutStepAndSymbols makes
inline absl::Status TakeStepAndSymbols(std::string_view codec, std::string_view bytes, absl::Span<const int64_t> segment_counts, int64_t count,
                                       uint64_t salt, float& step, SparseSymbols& symbols) {
  if (count == 0) {
    symbols.indices.clear();
    symbols.symbols.clear();
    return bytes.empty() ? absl::OkStatus() : absl::DataLossError(absl::StrCat(std::string(codec), ": bytes of an empty vector"));
  }
  if (bytes.size() < sizeof(step)) return absl::DataLossError(absl::StrCat(std::string(codec), ": the step is truncated"));
  std::memcpy(&step, bytes.data(), sizeof(step));
  if (!(step >= 0 && step <= FLT_MAX) || std::signbit(step)) {
    return absl::DataLossError(absl::StrCat(std::string(codec), ": the step is not a finite number >= 0"));
  }
  if (absl::Status status = DecodeSymbols(bytes.substr(sizeof(step)), segment_counts, count, symbols, salt); !status.ok()) return status;
  if ((step == 0) != symbols.indices.empty()) return absl::DataLossError(absl::StrCat(std::string(codec), ": the step does not fit the symbols"));
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
