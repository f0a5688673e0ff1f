// Spelling values for other programs: JSON, CSV, YAML, Markdown; private to the room. Non-finite numbers count as missing everywhere.
#ifndef FEDWATT_REPORT_EXPORT_H_
#define FEDWATT_REPORT_EXPORT_H_

#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "fedwatt/base/text.h"
#include "fedwatt/energy/quantities.h"
#include "format.h"

namespace fedwatt::internal {

using OrderedJson = nlohmann::ordered_json;

inline std::string DumpJson(const OrderedJson& json) { return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n"; }

// The shortest text that reads back as the same number; "" when unset or not finite.
inline std::string Number(const std::optional<double>& value) {
  if (!value || !std::isfinite(*value)) return "";
  char buffer[64];
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof(buffer), *value).ptr);
}
inline std::string Number(double value) { return Number(std::optional<double>(value)); }
inline std::string Number(const std::optional<int64_t>& value) { return value ? absl::StrCat(*value) : ""; }

// Null when unset or not finite.
inline OrderedJson OrNull(const std::optional<double>& value) { return value && std::isfinite(*value) ? OrderedJson(*value) : OrderedJson(nullptr); }
inline OrderedJson OrNull(double value) { return OrNull(std::optional<double>(value)); }
inline OrderedJson OrNull(const std::optional<int64_t>& value) { return value ? OrderedJson(*value) : OrderedJson(nullptr); }
inline OrderedJson OrNull(const std::optional<Energy>& value) { return value ? OrderedJson(value->microjoules()) : OrderedJson(nullptr); }
inline OrderedJson OrNull(const std::string& value) { return value.empty() ? OrderedJson(nullptr) : OrderedJson(value); }

inline std::string UtcTime(absl::Time time, std::string_view format) {
  return absl::FormatTime(absl::string_view(format.data(), format.size()), time, absl::UTCTimeZone());
}

// A line of RFC 4180, with its line end.
inline std::string CsvLine(const std::vector<std::string>& cells) {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) line += ',';
    if (cells[i].find_first_of(",\"\r\n") == std::string::npos) {
      line += cells[i];
      continue;
    }
    line += '"';
    for (char c : cells[i]) line += c == '"' ? std::string("\"\"") : std::string(1, c);
    line += '"';
  }
  return line + "\n";
}

// A double-quoted YAML 1.2 scalar, which for text without control characters is JSON's string.
inline std::string YamlString(std::string_view text) { return OrderedJson(OneLine(text)).dump(-1, ' ', true, OrderedJson::error_handler_t::replace); }

// Text inside a Markdown table cell.
inline std::string MarkdownCell(std::string_view text) {
  std::string cell;
  for (char c : OneLine(text)) {
    if (c == '|' || c == '\\' || c == '<' || c == '`' || c == '*' || c == '_' || c == '[') cell += '\\';
    cell += c;
  }
  return cell;
}

}  // namespace fedwatt::internal

#endif  // FEDWATT_REPORT_EXPORT_H_
