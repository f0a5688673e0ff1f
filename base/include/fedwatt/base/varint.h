// Whole numbers in as few bytes as they need: LEB128, seven bits a byte, the lowest first.
#ifndef FEDWATT_BASE_VARINT_H_
#define FEDWATT_BASE_VARINT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace fedwatt {

inline void PutVarint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

// Takes a varint off the front. Errors: DATA_LOSS  truncated, longer than 64 bits, or not the shortest spelling
inline absl::StatusOr<uint64_t> TakeVarint(std::string_view& bytes) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
    const uint8_t byte = static_cast<uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    if (shift == 63 && byte > 1) break;
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) {
      if (byte == 0 && shift > 0) break;
      return value;
    }
  }
  return absl::DataLossError("a length is truncated or too long");
}

}  // namespace fedwatt

#endif  // FEDWATT_BASE_VARINT_H_
