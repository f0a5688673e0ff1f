// Seeded generators whose output is fixed by this code, not by the standard library in use.
#ifndef FEDWATT_BASE_RANDOM_H_
#define FEDWATT_BASE_RANDOM_H_

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace fedwatt {

// A 64-bit seed that depends on every part and on their order (SHA-256, first 8 bytes, little-endian).
// `purpose` separates streams: "train", "select", "encode".
uint64_t DeriveSeed(std::string_view purpose, std::initializer_list<uint64_t> parts);

// xoshiro256** 1.0 (Blackman, Vigna 2018, public domain algorithm), seeded by SplitMix64. Not for secrets.
// Thread-compatible.
class Random {
 public:
  explicit Random(uint64_t seed);

  uint64_t Next();
  // Uniform in [0, bound), unbiased (Lemire 2019). `bound` > 0.
  uint64_t Below(uint64_t bound);
  // Uniform in [0, 1), 53 bits.
  double Uniform();
  // Standard normal (Marsaglia's polar method).
  double Normal();
  // Gamma(shape, 1), shape > 0 (Marsaglia, Tsang 2000).
  double Gamma(double shape);

  // Fisher-Yates.
  template <typename T>
  void Shuffle(std::vector<T>& values) {
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[Below(i)]);
  }

 private:
  uint64_t state_[4];
  double spare_normal_ = 0;
  bool has_spare_ = false;
};

}  // namespace fedwatt

#endif  // FEDWATT_BASE_RANDOM_H_
