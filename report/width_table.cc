#include "width_table.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/text.h"
#include "fedwatt/report/table.h"
#include "format.h"

namespace fedwatt::internal {

std::optional<Energy> JoulesAnUpdate(const WidthTotals& width) {
  if (!width.energy || width.accepted == 0) return std::nullopt;
  return Microjoules(width.energy->microjoules() / width.accepted);
}

std::vector<std::vector<std::string>> WidthTable(const RunRecord& run) {
  const std::vector<WidthTotals> widths = SumByWidth(run.attempts, run.rounds);
  if (widths.empty() || (widths.size() == 1 && widths[0].width_fraction == 1 && widths[0].number_format == "float32")) return {};
  std::vector<std::vector<std::string>> rows{
      {"width", "format", "parameters", "accepted", "accuracy", "J/update", "loss", "cpu s", "cpu ms/example", "joules", "MB up", "MB down"}};
  for (const WidthTotals& width : widths) {
    const bool per_example = width.train_examples > 0 && width.train_cpu_seconds > 0;
    rows.push_back({Significant(width.width_fraction), OneLine(width.number_format), absl::StrCat(width.parameter_count), absl::StrCat(width.accepted), FixedOrDash(width.accuracy, 4),
                    EnergyText(JoulesAnUpdate(width), width.energy_tier, 0, 0), FixedOrDash(width.train_loss, 4),
                    Significant(width.train_cpu_seconds),
                    per_example ? Significant(1e3 * width.train_cpu_seconds / static_cast<double>(width.train_examples)) : "-",
                    EnergyText(width.energy, width.energy_tier, 0, 0), Megabytes(width.uplink_payload_bytes), Megabytes(width.downlink_payload_bytes)});
  }
  return rows;
}

std::vector<std::string> FormatReasons(const std::vector<AttemptRecord>& attempts) {
  constexpr size_t kMost = 5;
  std::map<std::pair<std::string, std::string>, int64_t> counts;  // by format and reason
  for (const AttemptRecord& attempt : attempts) {
    if (attempt.outcome == "accepted" && attempt.fit_format_reason) ++counts[{attempt.fit.number_format, *attempt.fit_format_reason}];
  }
  std::vector<std::pair<int64_t, std::pair<std::string, std::string>>> ranked;
  for (const auto& [said, count] : counts) ranked.push_back({-count, said});
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> lines;
  for (size_t i = 0; i < std::min(ranked.size(), kMost); ++i) {
    std::string reason = ranked[i].second.second;
    for (char& c : reason) {
      if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) c = ' ';
    }
    lines.push_back(absl::StrCat(ranked[i].second.first, ", ", -ranked[i].first, ranked[i].first == -1 ? " attempt: " : " attempts: ", reason));
  }
  if (ranked.size() > kMost) lines.push_back(absl::StrCat("and ", ranked.size() - kMost, " other reasons"));
  return lines;
}

}  // namespace fedwatt::internal
