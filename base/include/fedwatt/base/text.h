// Text from people and devices, made fit for messages and records.
#ifndef FEDWATT_BASE_TEXT_H_
#define FEDWATT_BASE_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace fedwatt {

// At most `max_bytes` bytes of `text`, never ending inside a character; bytes that are no UTF-8 become '?'. What it returns always fits into a
// protobuf string, which refuses anything else.
std::string TruncateUtf8(std::string_view text, size_t max_bytes);

// As part of one line: control characters, which a terminal would obey, become spaces.
std::string OneLine(std::string_view text);

}  // namespace fedwatt

#endif  // FEDWATT_BASE_TEXT_H_
