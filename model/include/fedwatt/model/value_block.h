// A dense update as it lies in its bytes, so that it can be added to sums without being written out first.
#ifndef FEDWATT_MODEL_VALUE_BLOCK_H_
#define FEDWATT_MODEL_VALUE_BLOCK_H_

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"

namespace fedwatt {

// The values of coordinates [begin, begin + count), borrowed. Nothing need be aligned.
struct ValueBlock {
  enum class Kind {
    kFloat32,   // data: the values
    kBfloat16,  // data: the upper halves of float32
    kCodes,     // data: int8; a value is the float32 product of its code and its scale
  };
  Kind kind = Kind::kFloat32;
  size_t begin = 0;
  size_t count = 0;
  const char* data = nullptr;
  // Of kCodes: float32, each for `per_scale` codes, of which the first has `skipped` before this block. per_scale > skipped.
  const char* scales = nullptr;
  size_t per_scale = 1;
  size_t skipped = 0;

  // Leaves out the first `n` <= count values.
  void RemovePrefix(size_t n) {
    begin += n;
    count -= n;
    data += n * (kind == Kind::kFloat32 ? sizeof(float) : kind == Kind::kBfloat16 ? sizeof(uint16_t) : sizeof(int8_t));
    if (kind != Kind::kCodes) return;
    scales += (skipped + n) / per_scale * sizeof(float);
    skipped = (skipped + n) % per_scale;
  }
};

// Takes a block that is borrowed for the call; returns false to see no more.
using BlockVisitor = absl::FunctionRef<bool(const ValueBlock& block)>;
// Shows all blocks of an update, none of which overlap; coordinates in none of them are 0. Returns whether the update is well-formed to its end and
// the visitor never said no. Each call shows the same blocks; the bytes may be hostile.
using BlockSource = absl::FunctionRef<bool(BlockVisitor visit)>;

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_VALUE_BLOCK_H_
