// Comma-separated numbers: one example a line, the last column is the class (an integer, dense from 0) or the number to predict.
// The first line is a header when none of its fields is a number. Blank lines are skipped. Input shape: {columns - 1}.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/data/reader.h"
#include "reading.h"

namespace fedwatt {
namespace {

struct Table {
  size_t columns = 0;
  std::vector<float> inputs;  // columns - 1 a row
  std::vector<double> targets;
  std::vector<int64_t> lines;  // of each row, counted from 1
  size_t rows() const { return targets.size(); }
};

std::optional<double> ParseNumber(absl::string_view field) {
  field = absl::StripAsciiWhitespace(field);
  if (!field.empty() && field.front() == '+') field.remove_prefix(1);
  double value = 0;
  const auto result = std::from_chars(field.data(), field.data() + field.size(), value);
  if (result.ec != std::errc() || result.ptr != field.data() + field.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

absl::StatusOr<Table> ReadTable(const std::string& path) {
  FEDWATT_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  Table table;
  int64_t line_number = 0;
  bool first = true;
  for (absl::string_view line : absl::StrSplit(absl::string_view(text), '\n')) {
    ++line_number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ',');
    const auto where = [&] { return absl::StrCat(path, ":", line_number, ": "); };
    if (first) {
      table.columns = fields.size();
      if (table.columns < 2)
        return absl::DataLossError(absl::StrCat(where(), "expected at least 2 columns, got ", fields.size()));
      first = false;
      if (std::none_of(fields.begin(), fields.end(), [](absl::string_view field) { return ParseNumber(field).has_value(); }))
        continue;
    }
    if (fields.size() != table.columns) {
      return absl::DataLossError(absl::StrCat(where(), "expected ", table.columns, " columns, got ", fields.size()));
    }
    for (size_t column = 0; column < fields.size(); ++column) {
      const std::optional<double> value = ParseNumber(fields[column]);
      if (!value || std::abs(*value) > std::numeric_limits<float>::max()) {
        return absl::DataLossError(
            absl::StrCat(where(), "column ", column + 1, ": expected a finite number, got '", fields[column].substr(0, 40), "'"));
      }
      if (column + 1 < fields.size())
        table.inputs.push_back(static_cast<float>(*value));
      else
        table.targets.push_back(*value);
    }
    table.lines.push_back(line_number);
  }
  if (table.rows() == 0) return absl::InvalidArgumentError(absl::StrCat(path, ": zero examples"));
  return table;
}

// Both parts of one table: which rows are held out depends on their number alone.
std::pair<Table, Table> HoldOut(const Table& table, double fraction) {
  std::vector<int64_t> order(table.rows());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  Random random(DeriveSeed("held_out", {table.rows()}));
  random.Shuffle(order);
  std::vector<bool> held_out(table.rows());
  const int64_t count = internal::HeldOutCount(static_cast<int64_t>(table.rows()), fraction);
  for (int64_t i = 0; i < count; ++i) held_out[order[i]] = true;
  std::pair<Table, Table> parts;
  const size_t width = table.columns - 1;
  for (size_t row = 0; row < table.rows(); ++row) {
    Table& part = held_out[row] ? parts.second : parts.first;
    part.columns = table.columns;
    part.inputs.insert(part.inputs.end(), table.inputs.begin() + row * width, table.inputs.begin() + (row + 1) * width);
    part.targets.push_back(table.targets[row]);
    part.lines.push_back(table.lines[row]);
  }
  return parts;
}

absl::StatusOr<std::vector<int32_t>> ClassLabels(const std::string& path, const Table& table) {
  std::vector<int32_t> labels;
  for (size_t row = 0; row < table.rows(); ++row) {
    const double target = table.targets[row];
    if (target != std::floor(target) || target < 0 || target >= 1 << 24) {
      return absl::DataLossError(absl::StrCat(path, ":", table.lines[row], ": column ", table.columns,
                                              ": expected a class counted from 0, got ", target,
                                              "; set data.regression for numbers"));
    }
    labels.push_back(static_cast<int32_t>(target));
  }
  return labels;
}

absl::StatusOr<DataSplit> ReadCsv(const DataOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(Table train_table, ReadTable(options.path));
  Table test_table;
  std::string test_path = options.test_path;
  if (!test_path.empty()) {
    FEDWATT_ASSIGN_OR_RETURN(test_table, ReadTable(test_path));
    if (test_table.columns != train_table.columns) {
      return absl::InvalidArgumentError(absl::StrCat(test_path, ": expected ", train_table.columns, " columns as in ",
                                                     options.path, ", got ", test_table.columns));
    }
  } else {
    test_path = options.path;
    if (train_table.rows() < 2)
      return absl::InvalidArgumentError(absl::StrCat(options.path, ": one example cannot be split in two parts"));
  }

  int64_t classes = 0;
  if (!options.regression) {
    FEDWATT_ASSIGN_OR_RETURN(const std::vector<int32_t> all, ClassLabels(options.path, train_table));
    std::vector<bool> seen(*std::max_element(all.begin(), all.end()) + 1);
    for (int32_t label : all) seen[label] = true;
    classes = static_cast<int64_t>(seen.size());
    if (const auto gap = std::find(seen.begin(), seen.end(), false); gap != seen.end()) {
      return absl::InvalidArgumentError(absl::StrCat(options.path, ": classes must be dense from 0, but ", gap - seen.begin(),
                                                     " of 0..", classes - 1, " never occurs; set data.regression for numbers"));
    }
  }
  if (options.test_path.empty()) std::tie(train_table, test_table) = HoldOut(train_table, options.held_out_fraction);

  const auto make_store = [&](const std::string& path, Table table) -> absl::StatusOr<ExampleStore> {
    ExampleStore store;
    store.input_shape = {static_cast<int64_t>(table.columns) - 1};
    if (options.regression) {
      store.regression_targets.assign(table.targets.begin(), table.targets.end());
      store.output_count = 1;
    } else {
      FEDWATT_ASSIGN_OR_RETURN(store.labels, ClassLabels(path, table));
      store.output_count = classes;
      for (size_t row = 0; row < table.rows(); ++row) {
        if (store.labels[row] >= classes) {
          return absl::InvalidArgumentError(absl::StrCat(path, ":", table.lines[row], ": class ", store.labels[row],
                                                         " does not occur in the training data (0..", classes - 1, ")"));
        }
      }
    }
    store.inputs = std::move(table.inputs);
    return store;
  };
  FEDWATT_ASSIGN_OR_RETURN(ExampleStore train, make_store(options.path, std::move(train_table)));
  FEDWATT_ASSIGN_OR_RETURN(ExampleStore test, make_store(test_path, std::move(test_table)));
  internal::Normalize(options, train, test);
  return internal::MakeSplit(std::move(train), std::move(test));
}

}  // namespace

namespace internal {
void InstallReader_csv(ReaderRegistry& registry) { FEDWATT_CHECK(registry.Register("csv", ReadCsv).ok()); }
}  // namespace internal
}  // namespace fedwatt
