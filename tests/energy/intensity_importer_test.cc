// The bodies below are written after the providers' published forms; the numbers are ours.
#include "absl/strings/str_cat.h"
#include "fedwatt/base/random.h"
#include "fedwatt/energy/carbon.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using testing::IsOk;
using testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::SizeIs;

absl::Time At(const std::string& text) {
  absl::Time time;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, text, &time, nullptr)) << text;
  return time;
}

absl::StatusOr<std::vector<IntensityRow>> Import(const std::string& name, const std::string& json, const ImportOptions& options = {}) {
  absl::StatusOr<IntensityImporter> importer = IntensityImporters().Find(name);
  if (!importer.ok()) return importer.status();
  return (*importer)(json, options);
}

const std::map<std::string, std::string>& Good() {
  static const auto* bodies = new std::map<std::string, std::string>{
      {"uk_carbon_intensity",
       R"({"data":[{"from":"2026-03-29T00:30Z","to":"2026-03-29T01:00Z","intensity":{"forecast":266,"actual":263,"index":"moderate"}},
                   {"from":"2026-03-29T01:00Z","to":"2026-03-29T01:30Z","intensity":{"forecast":250,"actual":null,"index":"moderate"}}]})"},
      {"electricity_maps",
       R"({"zone":"DE","history":[{"zone":"DE","carbonIntensity":302,"datetime":"2026-04-25T18:00:00.000Z","updatedAt":"2026-04-25T18:07:01.000Z",
           "emissionFactorType":"lifecycle","isEstimated":true,"estimationMethod":"TIME_SLICER_AVERAGE"},
           {"zone":"DE","carbonIntensity":null,"datetime":"2026-04-25T19:00:00.000Z","updatedAt":"2026-04-25T19:07:01.000Z"}]})"},
      {"watttime",
       R"({"data":[{"point_time":"2026-07-15T00:00:00+00:00","value":1000},{"point_time":"2026-07-15T00:05:00+00:00","value":500}],
           "meta":{"region":"CAISO_NORTH","signal_type":"co2_moer","units":"lbs_co2_per_mwh","data_point_period_seconds":300,"warnings":[]}})"},
      {"carbon_aware_sdk",
       R"({"Emissions":[{"Location":"eastus","Time":"2026-10-25T01:30:00+02:00","Rating":70.5,"Duration":"00:30:00"}]})"}};
  return *bodies;
}

ImportOptions Options() { return {.kind = IntensityKind::kAverage}; }

// Every registered importer.
class ImporterContractTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ImporterContractTest, ReadsItsProvidersAnswerIntoASeries) {
  ASSERT_TRUE(Good().contains(GetParam())) << "give this importer a body";
  ASSERT_OK_AND_ASSIGN(std::vector<IntensityRow> rows, Import(GetParam(), Good().at(GetParam()), Options()));
  ASSERT_FALSE(rows.empty());
  EXPECT_FALSE(rows[0].source.empty());
  EXPECT_THAT(IntensitySeries::Create(rows, rows[0].zone, rows[0].kind, std::nullopt), IsOk());
  ASSERT_OK_AND_ASSIGN(std::vector<IntensityRow> back, ReadIntensityCsv(WriteIntensityCsv(rows), "csv"));
  EXPECT_EQ(back, rows);
}

TEST_P(ImporterContractTest, TellsErrorsByTheirKind) {
  const std::vector<std::pair<std::string, absl::StatusCode>> errors = {
      {R"({"error":"Invalid auth-token"})", absl::StatusCode::kUnauthenticated},
      {R"({"status":"error","message":"401 Unauthorized"})", absl::StatusCode::kUnauthenticated},
      {R"({"type":"https://tools.ietf.org/html/rfc7235#section-3.1","title":"Unauthorized","status":401})", absl::StatusCode::kUnauthenticated},
      {R"({"error":{"code":"429 Too Many Requests","message":"slow down"}})", absl::StatusCode::kResourceExhausted},
      {R"({"message":"API rate limit exceeded","statusCode":429})", absl::StatusCode::kResourceExhausted},
      {R"({"error":{"code":"503 Service Unavailable","message":"later"}})", absl::StatusCode::kUnavailable},
      {R"({"error":{"code":"400 Bad Request","message":"Please enter a valid date"}})", absl::StatusCode::kInvalidArgument}};
  for (const auto& [body, code] : errors) EXPECT_THAT(Import(GetParam(), body, Options()), StatusIs(code, HasSubstr("error"))) << body;
}

TEST_P(ImporterContractTest, RefusesWhatIsNotItsProviders) {
  for (const std::string body : {"", "x", "[]", "{}", "null", "[1]", R"({"data":3})", R"({"data":[]})", R"({"data":[3]})", "{\"Emissions\":[{}]}",
                                 R"({"forecast":[{"carbonIntensity":"a","datetime":1}],"updatedAt":"2026-01-01T00:00:00Z"})"}) {
    const absl::Status status = Import(GetParam(), body, Options()).status();
    EXPECT_TRUE(status.code() == absl::StatusCode::kDataLoss || status.code() == absl::StatusCode::kInvalidArgument) << body << ": " << status;
  }
  for (const auto& [name, body] : Good()) {
    if (name == GetParam()) continue;
    EXPECT_FALSE(Import(GetParam(), body, Options()).ok()) << name;
  }
}

TEST_P(ImporterContractTest, SurvivesDamagedBytes) {
  Random random(7);
  const std::string& good = Good().at(GetParam());
  for (int i = 0; i < 3000; ++i) {
    std::string bad = good;
    for (uint64_t hits = 1 + random.Below(4); hits > 0; --hits) bad[random.Below(bad.size())] = static_cast<char>(random.Below(256));
    if (random.Below(4) == 0) bad.resize(random.Below(bad.size()));
    const absl::StatusOr<std::vector<IntensityRow>> rows = Import(GetParam(), bad, Options());
    if (!rows.ok()) continue;
    for (const IntensityRow& row : *rows) EXPECT_TRUE(row.g_per_kwh >= 0 && row.g_per_kwh <= 100'000 && row.end > row.start);
  }
}

INSTANTIATE_TEST_SUITE_P(All, ImporterContractTest, ::testing::ValuesIn(IntensityImporters().Names()));

TEST(UkCarbonIntensityTest, TakesActualsAndLeavesForecastsWhoseIssueIsUnknown) {
  const std::string& body = Good().at("uk_carbon_intensity");
  ASSERT_OK_AND_ASSIGN(std::vector<IntensityRow> rows, Import("uk_carbon_intensity", body));
  ASSERT_THAT(rows, SizeIs(1));  // a null is no zero
  EXPECT_EQ(rows[0].g_per_kwh, 263);
  EXPECT_EQ(rows[0].zone, "UK:GB");
  EXPECT_EQ(rows[0].licence, "CC BY 4.0");
  EXPECT_EQ(rows[0].end, At("2026-03-29T01:00:00Z"));  // the hour in which British clocks jump is an hour
  ASSERT_OK_AND_ASSIGN(rows, Import("uk_carbon_intensity", body, {.issued = At("2026-03-29T00:00:00Z")}));
  EXPECT_THAT(rows, SizeIs(3));
  EXPECT_EQ(rows[2].issued, At("2026-03-29T00:00:00Z"));
}

TEST(UkCarbonIntensityTest, ReadsRegions) {
  const std::string region =
      R"({"regionid":13,"dnoregion":"UKPN London","data":[{"from":"2026-03-29T00:30Z","to":"2026-03-29T01:00Z","intensity":{"forecast":266,"index":"moderate"}}]})";
  for (const std::string& body : {absl::StrCat("{\"data\":[", region, "]}"), absl::StrCat("{\"data\":", region, "}")}) {
    EXPECT_THAT(Import("uk_carbon_intensity", body), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("time of issue")));
    ASSERT_OK_AND_ASSIGN(std::vector<IntensityRow> rows, Import("uk_carbon_intensity", body, {.issued = At("2026-03-29T00:00:00Z")}));
    EXPECT_EQ(rows[0].zone, "UK:13");
  }
}

TEST(ElectricityMapsTest, ReadsAllForms) {
  ASSERT_OK_AND_ASSIGN(std::vector<IntensityRow> rows, Import("electricity_maps", Good().at("electricity_maps")));
  ASSERT_THAT(rows, SizeIs(1));
  EXPECT_EQ(rows[0].zone, "EM:DE");
  EXPECT_TRUE(rows[0].estimated);
  EXPECT_EQ(rows[0].factor, EmissionFactor::kLifecycle);
  const std::string latest =
      R"({"zone":"FR","carbonIntensity":41,"datetime":"2026-04-25T18:07:00.350Z","updatedAt":"2026-04-25T18:08:00.000Z","emissionFactorType":"direct","isEstimated":false})";
  ASSERT_OK_AND_ASSIGN(rows, Import("electricity_maps", latest));
  EXPECT_EQ(rows[0].start, At("2026-04-25T18:00:00Z"));
  EXPECT_EQ(rows[0].end, At("2026-04-25T19:00:00Z"));
  EXPECT_EQ(rows[0].factor, EmissionFactor::kDirect);
  const std::string forecast =
      R"({"zone":"FR","forecast":[{"carbonIntensity":50,"datetime":"2026-04-26T00:00:00.000Z"}],"updatedAt":"2026-04-25T18:30:00.000Z"})";
  ASSERT_OK_AND_ASSIGN(rows, Import("electricity_maps", forecast));
  EXPECT_EQ(rows[0].issued, At("2026-04-25T18:30:00Z"));
  EXPECT_THAT(Import("electricity_maps", R"({"zone":"FR","forecast":[{"carbonIntensity":50,"datetime":"2026-04-26T00:00:00.000Z"}]})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("when it was made")));
}

TEST(WattTimeTest, ConvertsPoundsAndKeepsMarginalApart) {
  ASSERT_OK_AND_ASSIGN(std::vector<IntensityRow> rows, Import("watttime", Good().at("watttime")));
  ASSERT_THAT(rows, SizeIs(2));
  EXPECT_DOUBLE_EQ(rows[0].g_per_kwh, 453.59237);  // 1000 lb/MWh
  EXPECT_EQ(rows[0].kind, IntensityKind::kMarginal);
  EXPECT_EQ(rows[0].end - rows[0].start, absl::Minutes(5));
  EXPECT_EQ(rows[0].zone, "WT:CAISO_NORTH");
  EXPECT_THAT(Import("watttime", R"({"data":[{"point_time":"2026-07-15T00:00:00+00:00","value":50}],
      "meta":{"region":"A","signal_type":"co2_moer","units":"percentile"}})"),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("lbs_co2_per_mwh")));
  ASSERT_OK_AND_ASSIGN(rows, Import("watttime", R"({"data":[{"generated_at":"2026-07-14T23:00:00+00:00","forecast":[{"point_time":"2026-07-15T00:00:00+00:00","value":2000}]}],
      "meta":{"region":"A","signal_type":"co2_aoer","units":"lbs_co2_per_mwh"}})"));
  EXPECT_EQ(rows[0].kind, IntensityKind::kAverage);
  EXPECT_EQ(rows[0].issued, At("2026-07-14T23:00:00Z"));
}

TEST(CarbonAwareSdkTest, MustBeToldWhatItsNumbersAre) {
  EXPECT_THAT(Import("carbon_aware_sdk", Good().at("carbon_aware_sdk")), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("average or marginal")));
  ASSERT_OK_AND_ASSIGN(std::vector<IntensityRow> rows, Import("carbon_aware_sdk", Good().at("carbon_aware_sdk"), {.kind = IntensityKind::kMarginal}));
  EXPECT_EQ(rows[0].start, At("2026-10-24T23:30:00Z"));  // an offset is kept in mind
  EXPECT_EQ(rows[0].end, At("2026-10-25T00:00:00Z"));
  EXPECT_EQ(rows[0].kind, IntensityKind::kMarginal);
  EXPECT_EQ(rows[0].zone, "CA:eastus");
  const std::string forecast =
      R"([{"generatedAt":"2026-06-01T00:03:30Z","location":"westus","forecastData":[{"location":"westus","timestamp":"2026-06-01T01:00:00+00:00","duration":5,"value":359.23}]}])";
  ASSERT_OK_AND_ASSIGN(rows, Import("carbon_aware_sdk", forecast, {.kind = IntensityKind::kMarginal}));
  EXPECT_EQ(rows[0].issued, At("2026-06-01T00:03:30Z"));
  EXPECT_EQ(rows[0].end - rows[0].start, absl::Minutes(5));
}

}  // namespace
}  // namespace fedwatt
