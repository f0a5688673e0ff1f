// SHA-256 names published blobs; CRC32C guards chunks on the hot path.
#ifndef FEDWATT_BASE_DIGEST_H_
#define FEDWATT_BASE_DIGEST_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace fedwatt {

// 32 bytes. Comparable, usable as a key.
struct Digest {
  std::array<uint8_t, 32> bytes{};

  friend bool operator==(const Digest&, const Digest&) = default;
  friend auto operator<=>(const Digest&, const Digest&) = default;

  // Lower-case hexadecimal, 64 characters.
  std::string Hex() const;
  // The raw 32 bytes.
  std::string Raw() const { return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()); }
  // Errors: INVALID_ARGUMENT  not 64 hexadecimal digits
  static absl::StatusOr<Digest> FromHex(std::string_view hex);
  // Errors: INVALID_ARGUMENT  not 32 bytes
  static absl::StatusOr<Digest> FromRaw(std::string_view raw);
};

Digest Sha256(std::string_view data);

// Streaming SHA-256. Update any number of times, Finish once. Thread-compatible.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(Sha256Stream&&) noexcept;
  Sha256Stream& operator=(Sha256Stream&&) noexcept;
  void Update(std::string_view data);
  Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// CRC32C (Castagnoli) of `data`, continuing from `crc` (0 to start).
uint32_t Crc32c(std::string_view data, uint32_t crc = 0);

}  // namespace fedwatt

#endif  // FEDWATT_BASE_DIGEST_H_
