// CRC32C with the CPU's instruction where there is one, else by table. Debian has no small library for it.
#include <array>
#include <cstring>

#include "fedwatt/base/digest.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace fedwatt {
namespace {

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? 0x82f63b78u : 0u);
    table[i] = value;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = MakeTable();

uint32_t CrcByTable(const uint8_t* data, size_t size, uint32_t crc) {
  for (size_t i = 0; i < size; ++i) crc = kTable[(crc ^ data[i]) & 0xff] ^ (crc >> 8);
  return crc;
}

#if defined(__x86_64__)
// The instruction answers after three cycles and can be asked again after one: three lanes of this many bytes are read side by side.
constexpr size_t kLane = 1024;

// What kLane zero bytes do to a checksum, which is linear over GF(2): for each byte of it, a table.
struct LaneShift {
  std::array<std::array<uint32_t, 256>, 4> tables;
  uint32_t operator()(uint32_t crc) const {
    return tables[0][crc & 0xff] ^ tables[1][crc >> 8 & 0xff] ^ tables[2][crc >> 16 & 0xff] ^ tables[3][crc >> 24];
  }
};
constexpr LaneShift kLaneShift = [] {
  std::array<uint32_t, 32> powers{};  // what one zero byte does to each bit, then 2, 4, .. of them
  for (size_t bit = 0; bit < 32; ++bit) powers[bit] = kTable[(1u << bit) & 0xff] ^ ((1u << bit) >> 8);
  const auto apply = [&powers](uint32_t crc) {
    uint32_t result = 0;
    for (size_t bit = 0; bit < 32; ++bit) result ^= (crc >> bit & 1) ? powers[bit] : 0u;
    return result;
  };
  for (size_t bytes = 1; bytes < kLane; bytes *= 2) {
    std::array<uint32_t, 32> squared{};
    for (size_t bit = 0; bit < 32; ++bit) squared[bit] = apply(powers[bit]);
    powers = squared;
  }
  LaneShift shift{};
  for (size_t byte = 0; byte < 4; ++byte) {
    for (uint32_t i = 0; i < 256; ++i) shift.tables[byte][i] = apply(i << (8 * byte));
  }
  return shift;
}();

__attribute__((target("sse4.2"))) uint32_t CrcByInstruction(const uint8_t* data, size_t size, uint32_t crc) {
  uint64_t wide = crc;
  for (; size >= 3 * kLane; size -= 3 * kLane, data += 3 * kLane) {
    uint64_t second = 0, third = 0;
    for (size_t i = 0; i < kLane; i += 8) {
      uint64_t words[3];
      for (size_t lane = 0; lane < 3; ++lane) std::memcpy(&words[lane], data + lane * kLane + i, 8);
      wide = _mm_crc32_u64(wide, words[0]);
      second = _mm_crc32_u64(second, words[1]);
      third = _mm_crc32_u64(third, words[2]);
    }
    wide = kLaneShift(kLaneShift(static_cast<uint32_t>(wide)) ^ static_cast<uint32_t>(second)) ^ third;
  }
  while (size >= 8) {
    uint64_t word;
    std::memcpy(&word, data, 8);
    wide = _mm_crc32_u64(wide, word);
    data += 8;
    size -= 8;
  }
  crc = static_cast<uint32_t>(wide);
  while (size-- > 0) crc = _mm_crc32_u8(crc, *data++);
  return crc;
}
#endif

}  // namespace

uint32_t Crc32c(std::string_view data, uint32_t crc) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(data.data());
#if defined(__x86_64__)
  static const bool has_instruction = __builtin_cpu_supports("sse4.2");
  if (has_instruction) return ~CrcByInstruction(bytes, data.size(), ~crc);
#endif
  return ~CrcByTable(bytes, data.size(), ~crc);
}

}  // namespace fedwatt
