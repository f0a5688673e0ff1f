// Blocks of an update, written out one by one in plain C++.
#ifndef FEDWATT_TESTS_TESTING_VALUE_BLOCKS_H_
#define FEDWATT_TESTS_TESTING_VALUE_BLOCKS_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "fedwatt/model/value_block.h"

namespace fedwatt::testing {

inline std::vector<float> ValuesOf(const ValueBlock& block) {
  std::vector<float> values(block.count);
  for (size_t i = 0; i < block.count; ++i) {
    if (block.kind == ValueBlock::Kind::kFloat32) {
      std::memcpy(&values[i], block.data + 4 * i, 4);
    } else if (block.kind == ValueBlock::Kind::kBfloat16) {
      uint16_t upper;
      std::memcpy(&upper, block.data + 2 * i, 2);
      values[i] = std::bit_cast<float>(static_cast<uint32_t>(upper) << 16);
    } else {
      float scale;
      std::memcpy(&scale, block.scales + (block.skipped + i) / block.per_scale * 4, 4);
      values[i] = static_cast<float>(static_cast<int8_t>(block.data[i])) * scale;
    }
  }
  return values;
}

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_TESTING_VALUE_BLOCKS_H_
