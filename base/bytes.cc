#include "fedwatt/base/bytes.h"

namespace fedwatt {

absl::StatusOr<std::string_view> ByteReader::GetBytes(uint64_t count, std::string_view field) {
  if (count > remaining()) {
    return absl::DataLossError(absl::StrCat(std::string(what_), ": '", std::string(field), "' needs ", count,
                                            " bytes at offset ", offset_, ", ", remaining(), " are left"));
  }
  std::string_view result = bytes_.substr(offset_, count);
  offset_ += count;
  return result;
}

}  // namespace fedwatt
