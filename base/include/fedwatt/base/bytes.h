// Little-endian writing and bounded reading of bytes that may be hostile.
#ifndef FEDWATT_BASE_BYTES_H_
#define FEDWATT_BASE_BYTES_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace fedwatt {

static_assert(std::endian::native == std::endian::little, "wire structures are little-endian and copied as they are");

// Appends to a string. Thread-compatible.
class ByteWriter {
 public:
  template <typename T>
  void Put(T value) {
    static_assert(std::is_arithmetic_v<T>);
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    out_.append(raw, sizeof(T));
  }
  void PutBytes(std::string_view bytes) { out_.append(bytes); }
  size_t size() const { return out_.size(); }
  const std::string& str() const& { return out_; }
  std::string str() && { return std::move(out_); }

 private:
  std::string out_;
};

// Reads forwards through borrowed bytes; never past their end. Thread-compatible.
class ByteReader {
 public:
  // `what` names the source in messages, for instance "container".
  ByteReader(std::string_view bytes, std::string_view what) : bytes_(bytes), what_(what) {}

  // Errors: DATA_LOSS  fewer than sizeof(T) bytes are left; the message names `field` and the offset
  template <typename T>
  absl::StatusOr<T> Get(std::string_view field) {
    static_assert(std::is_arithmetic_v<T>);
    absl::StatusOr<std::string_view> raw = GetBytes(sizeof(T), field);
    if (!raw.ok()) return raw.status();
    T value;
    std::memcpy(&value, raw->data(), sizeof(T));
    return value;
  }
  // A view of the next `count` bytes. Errors as Get.
  absl::StatusOr<std::string_view> GetBytes(uint64_t count, std::string_view field);

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }

 private:
  std::string_view bytes_;
  std::string_view what_;
  size_t offset_ = 0;
};

}  // namespace fedwatt

#endif  // FEDWATT_BASE_BYTES_H_
