// Carbon series, providers' responses and sites are read to finite values or refused; a series is the same after it was written.
// Input: which reader, text.
#include <cmath>

#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/carbon.h"
#include "tests/fuzz/fuzz_input.h"

namespace fedwatt {

std::vector<std::string> testing::FuzzSeeds() {
  IntensityRow row;
  row.zone = "DE";
  row.start = absl::UnixEpoch();
  row.end = absl::UnixEpoch() + absl::Hours(1);
  row.g_per_kwh = 312.5;
  row.source = "test";
  IntensityRow next = row;
  next.start = row.end;
  next.end = row.end + absl::Hours(1);
  next.estimated = true;
  return {'\0' + WriteIntensityCsv(std::vector<IntensityRow>{row, next})};
}

}  // namespace fedwatt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fedwatt;
  testing::FuzzInput input(data, size);
  const std::vector<std::string> importers = IntensityImporters().Names();
  const size_t which = input.Below(2 + importers.size());
  const std::string_view text = input.Rest();
  absl::StatusOr<std::vector<IntensityRow>> rows = absl::DataLossError("");
  if (which == 0) {
    rows = ReadIntensityCsv(text, "fuzz");
    FEDWATT_CHECK(rows.ok() || absl::IsDataLoss(rows.status()));
    if (rows.ok()) {
      const absl::StatusOr<std::vector<IntensityRow>> again = ReadIntensityCsv(WriteIntensityCsv(*rows), "again");
      FEDWATT_CHECK(again.ok() && *again == *rows);
    }
  } else if (which == 1) {
    testing::fuzz_accepted = ParseCarbonSite(text).ok();
    return 0;
  } else {
    const absl::StatusOr<IntensityImporter> importer = IntensityImporters().Find(importers[which - 2]);
    rows = (*importer)(text, {.zone = "DE", .kind = IntensityKind::kAverage});
  }
  testing::fuzz_accepted = rows.ok();
  if (rows.ok()) {
    for (const IntensityRow& row : *rows) FEDWATT_CHECK(std::isfinite(row.g_per_kwh));
  }
  return 0;
}
