// Recorded readings, played back.
#include "absl/strings/str_cat.h"
#include "tests/energy/meter_fixture.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::MeterFixture;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

class ReplayTest : public MeterFixture {
 protected:
  ReplayTest() : MeterFixture("replay") { options_.source = "/series.csv"; }
  void Series(const std::string& rows) { root_.Write("series.csv", "start_s,end_s,low_uj,energy_uj,high_uj,tier\n" + rows); }
};

TEST_F(ReplayTest, GivesWholeRowsAsTheyWere) {
  Series("0,1,90,100,110,wall\n1,2.5,0,7,9,calibrated_here\n");
  auto meter = Started();
  const EnergyReading reading = ReadAfter(*meter);
  EXPECT_EQ(reading.energy, Microjoules(100));
  EXPECT_EQ(reading.low, Microjoules(90));
  EXPECT_EQ(reading.high, Microjoules(110));
  EXPECT_EQ(reading.tier, EnergyTier::kCalibratedHere);  // the worst of the series: an estimate stays one
  EXPECT_EQ(reading.source, "replay");
  EXPECT_EQ(ReadAfter(*meter, absl::Seconds(1.5)).energy, Microjoules(7));
  EXPECT_TRUE(ReadAfter(*meter).missing());  // the series has ended
}

TEST_F(ReplayTest, SharesARowBetweenWindowsToTheMicrojoule) {
  Series("0,10,90,101,110,component\n");
  auto meter = Started();
  Energy sum;
  for (int i = 0; i < 9; ++i) {
    const EnergyReading reading = ReadAfter(*meter, absl::Seconds(i == 8 ? 2 : 1));
    ASSERT_FALSE(reading.missing());
    EXPECT_EQ(reading.low, Energy());
    EXPECT_EQ(reading.high, Microjoules(110));
    sum += *reading.energy;
  }
  EXPECT_EQ(sum, Microjoules(101));
}

TEST_F(ReplayTest, MissesWhatWasMissingOrIsNotCovered) {
  Series("0,1,,,,missing\n1,2,5,5,5,wall\n3,4,6,6,6,wall\n");
  auto meter = Started();
  EXPECT_TRUE(ReadAfter(*meter).missing());
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(5));
  EXPECT_TRUE(ReadAfter(*meter, absl::Seconds(2)).missing());
}

TEST_F(ReplayTest, RefusesABrokenSeriesByItsLine) {
  for (const char* row : {"0,1,1,1,1", "0,0,1,1,1,wall", "1,0,1,1,1,wall", "-1,1,1,1,1,wall", "0,nan,1,1,1,wall", "0,1e99,1,1,1,wall", "0,1,2,1,3,wall", "0,1,1,3,2,wall",
                          "0,1,-1,1,1,wall", "0,1,,1,1,wall", "0,1,1,1,1,missing", "0,1,1,1,1,gold", "0,1,1,1,9223372036854775807,wall", "0,1,1.5,2,3,wall"}) {
    Series(absl::StrCat("\n", row, "\n"));
    EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("series.csv: line 3: "))) << row;
  }
  Series("0,2,1,1,1,wall\n1,3,1,1,1,wall\n");
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("line 3: begins before")));
  Series("0,2,,,,missing\n");
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no reading")));
  root_.Write("series.csv", "");
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected the header")));
  root_.Remove("series.csv");
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("series.csv")));
  options_.source = "";
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("; remedy: ")));
}

}  // namespace
}  // namespace fedwatt
