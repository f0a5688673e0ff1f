// What every codec says in the same words.
#ifndef FEDWATT_COMPRESSION_CODEC_SUPPORT_H_
#define FEDWATT_COMPRESSION_CODEC_SUPPORT_H_

#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/compression/codec.h"

namespace fedwatt::internal {

// Errors: INVALID_ARGUMENT  an option is not among `known`
inline absl::Status CheckOptionNames(std::string_view codec, const CodecOptions& options,
                                     std::initializer_list<std::string_view> known = {}) {
  for (const auto& [key, value] : options) {
    bool found = false;
    for (std::string_view name : known) found |= name == key;
    if (!found) return absl::InvalidArgumentError(absl::StrCat("codec '", std::string(codec), "' has no option '", key, "'"));
  }
  return absl::OkStatus();
}

// Errors: DATA_LOSS  `got` is not `expected`
inline absl::Status CheckEncodedSize(std::string_view codec, uint64_t expected, uint64_t got) {
  if (expected == got) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(std::string(codec), ": ", got, " bytes, expected ", expected));
}

}  // namespace fedwatt::internal

#endif  // FEDWATT_COMPRESSION_CODEC_SUPPORT_H_
