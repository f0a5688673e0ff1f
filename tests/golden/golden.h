// The golden files and what they hold; make_golden.py writes them.
#ifndef FEDWATT_TESTS_GOLDEN_GOLDEN_H_
#define FEDWATT_TESTS_GOLDEN_GOLDEN_H_

#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/layout.h"

namespace fedwatt::testing {

// The bytes of tests/golden/<name>, a file of hexadecimal digits.
inline std::string Golden(const std::string& name) {
  absl::StatusOr<std::string> text = ReadFile(std::string(FEDWATT_GOLDEN_DIR) + "/" + name);
  FEDWATT_CHECK(text.ok());
  std::string digits;
  for (char c : *text) {
    if (absl::ascii_isxdigit(static_cast<unsigned char>(c))) digits += c;
  }
  return absl::HexStringToBytes(digits);
}

inline ParameterLayout GoldenLayout() {
  return *ParameterLayout::Create({{"fc.weight", {2, 3}},
                                   {"bn.running_mean", {2}, EntryKind::kAveragedBuffer},
                                   {"bn.num_batches_tracked", {}, EntryKind::kLocal, Dtype::kInt64},
                                   {"fc.bias", {2}}});
}

inline std::vector<float> GoldenModel() { return {0.5f, -1.25f, 3.0f, 0.0f, 0.1f, -0.1f, 1000.0f, 1e-40f, -2.75f, 0.25f}; }

// What the codec files encode, with seed 42.
inline std::vector<float> GoldenVector() {
  std::vector<float> values;
  for (int i = 0; i < 300; ++i) values.push_back(static_cast<float>((i * 37) % 101 - 50) / 64);
  return values;
}

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_GOLDEN_GOLDEN_H_
