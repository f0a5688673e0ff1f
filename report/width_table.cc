#include "width_table.h"

#include "absl/strings/str_cat.h"
#include "fedwatt/report/table.h"
#include "format.h"

namespace fedwatt::internal {

std::vector<std::vector<std::string>> WidthTable(const std::vector<AttemptRecord>& attempts) {
  const std::vector<WidthTotals> widths = SumByWidth(attempts);
  if (widths.empty() || (widths.size() == 1 && widths[0].width_fraction == 1 && widths[0].number_format == "float32")) return {};
  std::vector<std::vector<std::string>> rows{
      {"width", "format", "parameters", "accepted", "loss", "cpu s", "cpu ms/example", "joules", "MB up", "MB down"}};
  for (const WidthTotals& width : widths) {
    const bool per_example = width.train_examples > 0 && width.train_cpu_seconds > 0;
    rows.push_back({Significant(width.width_fraction), width.number_format, absl::StrCat(width.parameter_count), absl::StrCat(width.accepted), FixedOrDash(width.train_loss, 4),
                    Significant(width.train_cpu_seconds),
                    per_example ? Significant(1e3 * width.train_cpu_seconds / static_cast<double>(width.train_examples)) : "-",
                    EnergyText(width.energy, width.energy_tier, 0, 0), Megabytes(width.uplink_payload_bytes), Megabytes(width.downlink_payload_bytes)});
  }
  return rows;
}

}  // namespace fedwatt::internal
