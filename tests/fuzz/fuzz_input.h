// Cuts a fuzzer's bytes into choices and the bytes to decode.
#ifndef FEDWATT_TESTS_FUZZ_FUZZ_INPUT_H_
#define FEDWATT_TESTS_FUZZ_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fedwatt/compression/codec.h"

// The fuzzer's entry, one a target.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace fedwatt::testing {

// Inputs that the target accepts, made by the code as it is: where replays and fuzzers start.
std::vector<std::string> FuzzSeeds();
// Whether the last input was decoded, not refused.
inline bool fuzz_accepted = false;

class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const uint8_t byte = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return byte;
  }
  size_t Below(size_t bound) { return Byte() % bound; }
  // Up to three segments, from one value to a few thousand.
  std::vector<Segment> Segments() {
    std::vector<Segment> segments(1 + Below(3));
    for (Segment& segment : segments) segment = {1 + static_cast<int64_t>(Below(64)), 1 + static_cast<int64_t>(Below(64))};
    return segments;
  }
  // What Segments reads.
  static std::string PutSegments(const std::vector<Segment>& segments) {
    std::string bytes(1, static_cast<char>(segments.size() - 1));
    for (const Segment& segment : segments) {
      bytes += static_cast<char>(segment.rows - 1);
      bytes += static_cast<char>(segment.columns - 1);
    }
    return bytes;
  }
  std::string_view Rest() const { return rest_; }

 private:
  std::string_view rest_;
};

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_FUZZ_FUZZ_INPUT_H_
