// The symbol coder decodes any bytes to symbols that it could have coded, or to DATA_LOSS; what it codes comes back.
// Input: number of segments + 5 * length of their rows (0: none), their counts, the most symbols, then bytes: to decode, and as symbols to code.
#include <cstdlib>
#include <string>

#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/symbol_coder.h"
#include "tests/fuzz/fuzz_input.h"

namespace fedwatt {

std::vector<std::string> testing::FuzzSeeds() {
  std::vector<std::string> seeds;
  for (uint64_t density : {2, 10, 200}) {
    // Of 200 and 3 * 2^10 positions; at most 2^14 symbols.
    const std::vector<int64_t> counts = {200, 3 << 10};
    Random random(density);
    SparseSymbols symbols;
    for (uint32_t i = 0; i < 200 + (3 << 10); ++i) {
      if (random.Below(density) != 0) continue;
      symbols.indices.push_back(i);
      symbols.symbols.push_back((random.Below(2) == 0 ? -1 : 1) * static_cast<int32_t>(1 + random.Below(3) * random.Below(random.Below(40) + 1)));
    }
    seeds.push_back(std::string{'\2', static_cast<char>(200), '\0', '\3', '\12', '\1', '\16'} + *EncodeSymbols(counts, symbols));
  }
  // Coded densely, in rows of 40; at most 2^15 symbols.
  for (int32_t magnitude : {1, 3, 40}) {
    const std::vector<int64_t> counts = {200, 5 << 10}, rows = {40, 40};
    Random random(static_cast<uint64_t>(magnitude));
    SparseSymbols symbols;
    int32_t value = 0;
    for (uint32_t i = 0; i < 200 + (5 << 10); ++i) {
      if (random.Below(4) == 0) value = static_cast<int32_t>(random.Below(static_cast<uint64_t>(2 * magnitude + 1))) - magnitude;
      if (value == 0) continue;
      symbols.indices.push_back(i);
      symbols.symbols.push_back(value);
    }
    seeds.push_back(std::string{static_cast<char>(2 + 5 * 40), static_cast<char>(200), '\0', '\5', '\12', '\1', '\17'} +
                    *EncodeSymbols(counts, symbols, 0, rows));
  }
  return seeds;
}

}  // namespace fedwatt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fedwatt;
  testing::FuzzInput input(data, size);
  const uint8_t shape = input.Byte();
  std::vector<int64_t> counts(shape % 5), rows;
  if (shape >= 5) rows.assign(counts.size(), shape / 5);
  int64_t total = 0;
  for (int64_t& count : counts) {
    const int64_t mantissa = input.Byte();
    count = mantissa << input.Below(21);
    total += count;
  }
  const int64_t most = static_cast<int64_t>(input.Byte()) << input.Below(16);
  SparseSymbols symbols;
  const absl::Status status = DecodeSymbols(input.Rest(), counts, most, symbols, 0, rows);
  FEDWATT_CHECK(status.ok() || status.code() == absl::StatusCode::kDataLoss);
  testing::fuzz_accepted = status.ok();
  if (status.ok()) {
    FEDWATT_CHECK(symbols.indices.size() == symbols.symbols.size());
    FEDWATT_CHECK(static_cast<int64_t>(symbols.indices.size()) <= most);
    // The encoder checks order, range and magnitude.
    FEDWATT_CHECK(EncodeSymbols(counts, symbols, 0, rows).ok());
  }

  // As symbols: a run and a value from each two bytes, larger ones now and then.
  symbols = {};
  int64_t position = -1;
  while (!input.Rest().empty()) {
    const int64_t run = input.Byte();
    const int32_t value = static_cast<int8_t>(input.Byte());
    position += 1 + (run < 200 ? run : (run - 199) * 1000);
    if (position >= total) break;
    if (value == 0) continue;
    symbols.indices.push_back(static_cast<uint32_t>(position));
    symbols.symbols.push_back(std::abs(value) < 120 ? value : value * 100'000);
  }
  const absl::StatusOr<std::string> bytes = EncodeSymbols(counts, symbols, 5, rows);
  FEDWATT_CHECK(bytes.ok());
  SparseSymbols decoded;
  FEDWATT_CHECK(DecodeSymbols(*bytes, counts, total, decoded, 5, rows).ok());
  FEDWATT_CHECK(decoded.indices == symbols.indices && decoded.symbols == symbols.symbols);
  return 0;
}
