#include "fedwatt/energy/carbon.h"

#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using testing::IsOk;
using testing::StatusIs;
using ::testing::HasSubstr;

absl::Time At(const std::string& text) {
  absl::Time time;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, text, &time, nullptr)) << text;
  return time;
}

IntensityRow Row(const std::string& start, double hours, double g, std::optional<std::string> issued = std::nullopt) {
  IntensityRow row;
  row.start = At(start);
  row.end = row.start + absl::Hours(hours);
  row.zone = "T:1";
  row.g_per_kwh = g;
  row.factor = EmissionFactor::kLifecycle;
  if (issued) row.issued = At(*issued);
  row.source = "test";
  return row;
}

IntensitySeries Series(const std::vector<IntensityRow>& rows) {
  absl::StatusOr<IntensitySeries> series = IntensitySeries::Create(rows, "T:1", IntensityKind::kAverage, std::nullopt);
  EXPECT_THAT(series, IsOk());
  return *std::move(series);
}

TEST(CarbonMassTest, ConvertsByHand) {
  // 3.6 MJ are 1 kWh.
  EXPECT_EQ(OperationalCarbon(Joules(3'600'000), 475).micrograms(), 475'000'000);
  EXPECT_EQ(OperationalCarbon(Joules(1), 475).micrograms(), 132);  // 131.94
  EXPECT_EQ(OperationalCarbon(Energy(), 475).micrograms(), 0);
  // 53 kg over 3 years are 2.015 g an hour.
  EXPECT_NEAR(EmbodiedCarbon({53, 3, ""}, absl::Hours(1), 1).grams(), 53000.0 / (3 * 8766), 1e-6);
  EXPECT_NEAR(EmbodiedCarbon({53, 3, ""}, absl::Hours(1), 0.25).grams(), 53000.0 / (3 * 8766) / 4, 1e-6);
}

TEST(IntensityCsvTest, RoundTrips) {
  std::vector<IntensityRow> rows = {Row("2026-01-01T00:00:00Z", 1, 100.25), Row("2026-01-01T01:00:00Z", 0.5, 1.0 / 3, "2025-12-31T23:30:00Z")};
  rows[0].estimated = true;
  rows[0].source = "a, \"b\"";
  rows[1].kind = IntensityKind::kMarginal;
  rows[1].factor = EmissionFactor::kDirect;
  rows[1].licence = "CC BY 4.0";
  ASSERT_OK_AND_ASSIGN(std::vector<IntensityRow> back, ReadIntensityCsv(WriteIntensityCsv(rows), "x.csv"));
  EXPECT_EQ(back, rows);
}

TEST(IntensityCsvTest, RefusesEachBadFieldByLineAndColumn) {
  const std::string header = "start_utc,end_utc,zone,g_per_kwh,kind,factor,issued_utc,estimated,source,licence\n";
  const std::string good = "2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,T:1,100,average,lifecycle,,0,s,l";
  EXPECT_THAT(ReadIntensityCsv("# note\n" + header + "\n" + good + "\r\n", "x"), IsOk());
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"2026-01-01T00:00:00Z,2", "2026-01-01T00:00:00+01:00,2"},  // not UTC
      {"2026-01-01T01:00:00Z", "2026-01-01T00:00:00Z"},           // empty interval
      {"T:1", ""},          {",100,", ",-1,"},       {",100,", ",nan,"},    {",100,", ",inf,"}, {",100,", ",1e9,"}, {"average", "mean"},
      {"lifecycle", "all"}, {"cycle,,0", "cycle,now,0"}, {",0,s", ",2,s"}, {",l", ""},          {",l", ",l,m"},     {",s,", ",\"s,"}};
  for (const auto& [from, to] : bad) {
    const std::string line = absl::StrReplaceAll(good, {{from, to}});
    ASSERT_NE(line, good) << from;
    EXPECT_THAT(ReadIntensityCsv(header + line + "\n", "x.csv"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("x.csv:2"))) << line;
  }
  EXPECT_THAT(ReadIntensityCsv("", "x"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("header")));
  EXPECT_THAT(ReadIntensityCsv("a,b\n", "x"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("header")));
}

TEST(IntensitySeriesTest, NeverSeesTheFuture) {
  const IntensitySeries series = Series({
      Row("2026-01-01T00:00:00Z", 1, 10),
      Row("2026-01-01T01:00:00Z", 1, 20),
      Row("2026-01-01T02:00:00Z", 1, 300),                              // what came
      Row("2026-01-01T02:00:00Z", 1, 30, "2026-01-01T00:00:00Z"),       // what was thought
      Row("2026-01-01T02:00:00Z", 1, 290, "2026-01-01T01:30:00Z"),      // and thought again
  });
  const absl::Time two = At("2026-01-01T02:30:00Z");
  EXPECT_FALSE(series.At(two, At("2025-12-31T23:00:00Z")).has_value());
  EXPECT_EQ(series.At(two, At("2026-01-01T00:00:00Z"))->g_per_kwh, 30);
  EXPECT_EQ(series.At(two, At("2026-01-01T01:29:59Z"))->g_per_kwh, 30);
  EXPECT_EQ(series.At(two, At("2026-01-01T01:29:59Z"))->basis, IntensityBasis::kForecast);
  EXPECT_EQ(series.At(two, At("2026-01-01T01:30:00Z"))->g_per_kwh, 290);
  EXPECT_EQ(series.At(two, At("2026-01-01T02:59:59Z"))->g_per_kwh, 290);  // an hour is known when it is over
  EXPECT_EQ(series.At(two, At("2026-01-01T03:00:00Z"))->g_per_kwh, 300);
  EXPECT_EQ(series.At(two, At("2026-01-01T03:00:00Z"))->basis, IntensityBasis::kObserved);
  EXPECT_EQ(series.At(two, At("2026-01-01T01:45:00Z"))->age, absl::Minutes(15));
}

TEST(IntensitySeriesTest, FallsBackToTheSameHourOfAnEarlierDayAndSaysHowOldItIs) {
  const IntensitySeries series = Series({Row("2026-01-01T05:00:00Z", 1, 55)});
  const std::optional<Intensity> next_day = series.At(At("2026-01-02T05:30:00Z"), At("2026-01-02T05:30:00Z"));
  ASSERT_TRUE(next_day.has_value());
  EXPECT_EQ(next_day->g_per_kwh, 55);
  EXPECT_EQ(next_day->basis, IntensityBasis::kPersistence);
  EXPECT_EQ(next_day->age, absl::Hours(23.5));
  EXPECT_FALSE(series.At(At("2026-01-02T06:30:00Z"), At("2026-01-02T06:30:00Z")).has_value());  // no such hour
  EXPECT_TRUE(series.At(At("2026-01-08T05:30:00Z"), At("2026-01-08T05:30:00Z")).has_value());
  EXPECT_FALSE(series.At(At("2026-01-09T05:30:00Z"), At("2026-01-09T05:30:00Z")).has_value());  // stale
}

TEST(IntensitySeriesTest, KeepsAverageAndMarginalAndTheFactorsApart) {
  std::vector<IntensityRow> rows = {Row("2026-01-01T00:00:00Z", 1, 10), Row("2026-01-01T00:00:00Z", 1, 900)};
  rows[1].kind = IntensityKind::kMarginal;
  ASSERT_OK_AND_ASSIGN(IntensitySeries average, IntensitySeries::Create(rows, "T:1", IntensityKind::kAverage, std::nullopt));
  ASSERT_OK_AND_ASSIGN(IntensitySeries marginal, IntensitySeries::Create(rows, "T:1", IntensityKind::kMarginal, std::nullopt));
  EXPECT_EQ(average.Settled(rows[0].start)->g_per_kwh, 10);
  EXPECT_EQ(marginal.Settled(rows[0].start)->g_per_kwh, 900);
  rows[1] = rows[0];
  rows[1].factor = EmissionFactor::kDirect;
  EXPECT_THAT(IntensitySeries::Create(rows, "T:1", IntensityKind::kAverage, std::nullopt),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("carbon.factor")));
  EXPECT_THAT(IntensitySeries::Create(rows, "T:1", IntensityKind::kAverage, EmissionFactor::kDirect), IsOk());
  EXPECT_THAT(IntensitySeries::Create(rows, "T:2", IntensityKind::kAverage, std::nullopt),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("T:1 average lifecycle")));
  EXPECT_THAT(IntensitySeries::Create(rows, "T:1", IntensityKind::kMarginal, std::nullopt), StatusIs(absl::StatusCode::kNotFound, HasSubstr("marginal")));
}

TEST(IntensitySeriesTest, RefusesIntervalsThatOverlap) {
  EXPECT_THAT(IntensitySeries::Create(std::vector<IntensityRow>{Row("2026-01-01T00:00:00Z", 1, 1), Row("2026-01-01T00:30:00Z", 1, 1)}, "T:1",
                                      IntensityKind::kAverage, std::nullopt),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("overlap at 2026-01-01T00:30:00Z")));
  // Two forecasts of one hour are two issues, not an overlap.
  Series({Row("2026-01-01T00:00:00Z", 1, 1, "2025-12-31T00:00:00Z"), Row("2026-01-01T00:00:00Z", 1, 1, "2025-12-31T01:00:00Z")});
}

CarbonModel Model(const std::string& site, const std::vector<IntensityRow>& rows) {
  absl::StatusOr<CarbonSite> parsed = ParseCarbonSite(site);
  EXPECT_THAT(parsed, IsOk());
  absl::StatusOr<CarbonModel> model = CarbonModel::Create({*parsed}, rows, IntensityKind::kAverage, std::nullopt);
  EXPECT_THAT(model, IsOk());
  return *std::move(model);
}

TEST(CarbonModelTest, SplitsEnergyAtTheBordersOfTheIntensities) {
  const CarbonModel model = Model("a zone=T:1", {Row("2026-01-01T00:00:00Z", 1, 100), Row("2026-01-01T01:00:00Z", 1, 400)});
  // A quarter of the span in the first hour: 0.25 * 100 + 0.75 * 400 = 325.
  const CarbonReading reading = model.Account(0, Joules(3'600'000), At("2026-01-01T00:45:00Z"), At("2026-01-01T01:45:00Z"));
  EXPECT_EQ(reading.operational->micrograms(), 325'000'000);
  EXPECT_EQ(reading.g_per_kwh, 325);
  EXPECT_EQ(reading.basis, IntensityBasis::kObserved);
  EXPECT_FALSE(reading.embodied.has_value());
  // An instant has an intensity, too.
  EXPECT_EQ(model.Account(0, Joules(3'600'000), At("2026-01-01T01:00:00Z"), At("2026-01-01T01:00:00Z")).operational->micrograms(), 400'000'000);
}

TEST(CarbonModelTest, MissingHoursAreMissingUnlessThereIsAStaticFactor) {
  const std::vector<IntensityRow> rows = {Row("2026-01-01T00:00:00Z", 1, 100), Row("2026-01-01T02:00:00Z", 1, 400)};
  const absl::Time from = At("2026-01-01T00:30:00Z"), to = At("2026-01-01T02:30:00Z");
  const CarbonReading hole = Model("a zone=T:1 embodied_kg=53 lifetime_years=3", rows).Account(0, Joules(3600), from, to);
  EXPECT_FALSE(hole.operational.has_value());
  EXPECT_EQ(hole.basis, IntensityBasis::kMissing);
  EXPECT_TRUE(hole.embodied.has_value());  // that of manufacture is known all the same
  const CarbonReading filled = Model("a zone=T:1 g_per_kwh=200", rows).Account(0, Joules(3'600'000), from, to);
  // 0.25 * 100 + 0.5 * 200 + 0.25 * 400.
  EXPECT_EQ(filled.operational->micrograms(), 225'000'000);
  EXPECT_EQ(filled.basis, IntensityBasis::kStatic);
  EXPECT_EQ(filled.source, "static+test");
  // No joules, no grams: not zero.
  EXPECT_FALSE(Model("a zone=T:1", rows).Account(0, std::nullopt, from, from).operational.has_value());
}

TEST(CarbonModelTest, PueMultipliesGramsAndWueGivesLitres) {
  const CarbonModel model = Model("dc g_per_kwh=world pue=1.5 wue=1.8 embodied_kg=1215 lifetime_years=5", {});
  const CarbonReading reading = model.Account(0, Joules(7'200'000), absl::UnixEpoch(), absl::UnixEpoch() + absl::Hours(1));
  EXPECT_EQ(reading.operational->micrograms(), 1'425'000'000);  // 2 kWh * 475 * 1.5
  EXPECT_DOUBLE_EQ(*reading.water_l, 3.6);
  EXPECT_NEAR(reading.embodied->grams(), 1215000.0 / (5 * 8766), 1e-5);
  EXPECT_EQ(model.IntensityAt(0, absl::UnixEpoch(), absl::UnixEpoch())->g_per_kwh, 475 * 1.5);
}

TEST(CarbonModelTest, UnderstandsDaysOfAnyLength) {
  // Local clocks in Berlin jump at 01:00 UTC on these days and the year has a 29th of February; a series in UTC has 24 hours each.
  for (const std::string day : {"2028-03-26", "2028-10-29", "2028-02-29"}) {
    std::vector<IntensityRow> rows;
    for (int hour = 0; hour < 24; ++hour) rows.push_back(Row(absl::StrCat(day, "T", hour < 10 ? "0" : "", hour, ":00:00Z"), 1, hour));
    const CarbonModel model = Model("a zone=T:1", rows);
    const absl::Time from = At(day + "T00:00:00Z");
    EXPECT_EQ(model.Account(0, Joules(3'600'000), from, from + absl::Hours(24)).g_per_kwh, 11.5) << day;
  }
}

TEST(CarbonSiteTest, RefusesWhatItDoesNotKnow) {
  for (const char* text : {"", "zone=a", "a pue=0.9", "a pue=x", "a color=red", "a zone=", "a share=0", "a lifetime_years=0", "a g_per_kwh=-1", "a g_per_kwh=cole"}) {
    EXPECT_THAT(ParseCarbonSite(text), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("carbon.sites"))) << text;
  }
  ASSERT_OK_AND_ASSIGN(CarbonSite a, ParseCarbonSite("a g_per_kwh=wind"));
  EXPECT_EQ(a.static_g_per_kwh, 26);
  EXPECT_THAT(CarbonModel::Create({a, a}, {}, IntensityKind::kAverage, std::nullopt), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'a'")));
  ASSERT_OK_AND_ASSIGN(CarbonSite bare, ParseCarbonSite("b"));
  EXPECT_THAT(CarbonModel::Create({bare}, {}, IntensityKind::kAverage, std::nullopt), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("neither")));
}

TEST(SciTest, FollowsItsDefinition) {
  EXPECT_EQ(SciScore(GramsOfCarbon(6), GramsOfCarbon(4), 5), 2);
  EXPECT_FALSE(SciScore(std::nullopt, GramsOfCarbon(4), 5).has_value());
  EXPECT_FALSE(SciScore(GramsOfCarbon(6), std::nullopt, 5).has_value());
  EXPECT_FALSE(SciScore(GramsOfCarbon(6), GramsOfCarbon(4), 0).has_value());
}

}  // namespace
}  // namespace fedwatt
