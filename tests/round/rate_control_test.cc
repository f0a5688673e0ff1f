#include "fedwatt/round/rate_control.h"

#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "fedwatt/round/compression_settings.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

double MultipleIn(absl::string_view spec) {
  double multiple = 0;
  EXPECT_TRUE(absl::ConsumePrefix(&spec, "dithered:multiple="));
  EXPECT_TRUE(absl::SimpleAtod(spec, &multiple)) << spec;
  return multiple;
}

TEST(RateControlTest, LeavesOtherSpecsAlone) {
  ASSERT_OK_AND_ASSIGN(RateControl control, RateControl::Create("ef,top_k:fraction=0.01,sign"));
  EXPECT_FALSE(control.active());
  control.NoteUpdate(5, 1000);
  control.Commit();
  EXPECT_EQ(control.spec(), "ef,top_k:fraction=0.01,sign");
  EXPECT_THAT(RateControl::Create("int8:rate=3"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'int8' has no rate")));
  EXPECT_THAT(RateControl::Create("dithered:rate=99"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("[0.005, 8]")));
}

TEST(RateControlTest, KeepsWhatStandsAroundTheRate) {
  ASSERT_OK_AND_ASSIGN(RateControl control, RateControl::Create("ef,ecsq:rate=0.25:deadzone=0.6"));
  EXPECT_EQ(control.spec(), "ef,ecsq:multiple=10:deadzone=0.6");
}

// A world in which an update takes 3 / multiple bits a value, so that rate 0.1 belongs to multiple 30; control starts at 25.
TEST(RateControlTest, SettlesAtTheRate) {
  constexpr int64_t kValues = 100000;
  ASSERT_OK_AND_ASSIGN(RateControl control, RateControl::Create("dithered:rate=0.1"));
  EXPECT_NEAR(MultipleIn(control.spec()), 25, 1e-9);
  for (int round = 0; round < 12; ++round) {
    const double multiple = MultipleIn(control.spec());
    for (int update = 0; update < 3; ++update) control.NoteUpdate(std::llround(kValues * 3 / multiple / 8), kValues);
    control.Commit();
  }
  EXPECT_NEAR(MultipleIn(control.spec()), 30, 0.1);
  // A round that came to nothing, and one without updates, teach nothing.
  const std::string settled = control.spec();
  control.NoteUpdate(1 << 20, kValues);
  control.Abandon();
  control.Commit();
  EXPECT_EQ(control.spec(), settled);
  ASSERT_OK_AND_ASSIGN(RateControl again, RateControl::Create("dithered:rate=0.1"));
  ASSERT_THAT(again.Restore(control.multiple()), IsOk());
  EXPECT_EQ(again.spec(), settled);
  EXPECT_THAT(again.Restore(std::nan("")), StatusIs(absl::StatusCode::kDataLoss, ::testing::_));
}

// Narrow updates count by what they sent: 100 values in 30 bytes and 900 in 90 are 0.96 bits each.
TEST(RateControlTest, CountsBitsOfWhatWasSent) {
  ASSERT_OK_AND_ASSIGN(RateControl mixed, RateControl::Create("dithered:rate=0.5"));
  mixed.NoteUpdate(30, 100);
  mixed.NoteUpdate(90, 900);
  mixed.Commit();
  EXPECT_NEAR(MultipleIn(mixed.spec()), 5 * std::sqrt(0.96 / 0.5), 1e-3);
}

TEST(CompressionSettingsTest, ChecksBothDirections) {
  for (const CompressionPreset& preset : CompressionPresets()) {
    EXPECT_THAT(CheckUplink(preset.uplink), IsOk()) << preset.name;
    EXPECT_THAT(CheckDownlink(preset.downlink), IsOk()) << preset.name;
  }
  EXPECT_THAT(CheckUplink("chain:step=1"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("downlink")));
  for (const char* unbiased : {"ef,dithered:rate=0.1", "ef,random_k:fraction=0.1,float32", "ef,sign:scale=unbiased", "ef,ternary", "ef,int2"}) {
    EXPECT_THAT(CheckUplink(unbiased), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("outgrows error feedback"))) << unbiased;
  }
  EXPECT_THAT(CheckUplink("ef,random_k:fraction=0.1:scale=none,float32"), IsOk());
  EXPECT_THAT(CheckUplink("dct,dct,dct,dct,dct,dct,dct,dct,int8"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than 8 stages")));
  EXPECT_THAT(CheckDownlink("ef,int8"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'ef'")));
  EXPECT_THAT(CheckDownlink("chain:step=-1"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("step")));
  EXPECT_THAT(CheckUplink("int88"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("did you mean 'int8'")));
  EXPECT_THAT(FindCompressionPreset("smalest"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("did you mean 'smallest'")));
}

}  // namespace
}  // namespace fedwatt
