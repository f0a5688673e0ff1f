#include "fedwatt/energy/network.h"

#include <gmock/gmock.h>

#include "absl/strings/str_replace.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

RadioModel Lte() {
  RadioModel model;
  model.uplink_mbps = 5;
  model.downlink_mbps = 10;
  model.active_watts = 1.288;
  model.uplink_watts_per_mbps = 0.4384;
  model.downlink_watts_per_mbps = 0.052;
  model.promotion = absl::Seconds(0.26);
  model.promotion_watts = 1.21;
  model.tail = absl::Seconds(11.6);
  model.tail_watts = 1.06;
  model.factor = 2;
  return model;
}
constexpr double kPromotion = 0.26 * 1.21, kTail = 11.6 * 1.06;

TEST(RadioEnergyTest, IsPromotionTransferAndTail) {
  // 8 Mbit at 5 Mbit/s are 1.6 s at 1.288 + 5 x 0.4384 = 3.48 W.
  const RadioBurst upload{absl::Seconds(3), 0, 1'000'000};
  const ModelledJoules joules = RadioEnergy(Lte(), {upload});
  EXPECT_NEAR(joules.value, kPromotion + 1.6 * 3.48 + kTail, 1e-9);
  EXPECT_NEAR(joules.value, 18.2, 0.05);  // 69 % of it not for the bytes
  EXPECT_DOUBLE_EQ(joules.low, joules.value / 2);
  EXPECT_DOUBLE_EQ(joules.high, joules.value * 2);
  // 0.8 Mbit at 10 Mbit/s, at 1.808 W, on top.
  EXPECT_NEAR(RadioEnergy(Lte(), {RadioBurst{absl::Seconds(3), 100'000, 1'000'000}}).value, joules.value + 0.08 * 1.808, 1e-9);
  EXPECT_EQ(RadioEnergy(Lte(), {}).value, 0);
}

TEST(RadioEnergyTest, ATransferWithinTheTailCutsIt) {
  const RadioBurst first{absl::ZeroDuration(), 0, 1'000'000};
  const double transfers = 2 * 1.6 * 3.48;
  // 10 s after the first has ended, 4 s before its tail has.
  EXPECT_NEAR(RadioEnergy(Lte(), {first, {absl::Seconds(11.6), 0, 1'000'000}}).value, kPromotion + transfers + 10 * 1.06 + kTail, 1e-9);
  // Long after.
  EXPECT_NEAR(RadioEnergy(Lte(), {first, {absl::Seconds(100), 0, 1'000'000}}).value, 2 * (kPromotion + kTail) + transfers, 1e-9);
  // Before it has ended: one after the other.
  EXPECT_NEAR(RadioEnergy(Lte(), {first, {absl::Seconds(1), 0, 1'000'000}}).value, kPromotion + transfers + kTail, 1e-9);
}

TEST(RadioEnergyTest, KeepAliveArmsTheTailAgainAndAgain) {
  const std::vector<RadioBurst> bursts = {{absl::ZeroDuration(), 0, 0}, {absl::Seconds(105), 0, 0}};
  EXPECT_NEAR(RadioEnergy(Lte(), bursts).value, 2 * (kPromotion + kTail), 1e-9);
  // Five pings 20 s apart, each a tail and a promotion; the burst comes 5 s after the last.
  EXPECT_NEAR(RadioEnergy(Lte(), bursts, absl::Seconds(20)).value, kPromotion + 5 * (kTail + kPromotion) + 5 * 1.06 + kTail, 1e-9);
  // Ten 10 s apart: the radio never rests.
  EXPECT_NEAR(RadioEnergy(Lte(), bursts, absl::Seconds(10)).value, kPromotion + 105 * 1.06 + kTail, 1e-9);
  // A day of nothing costs no more to compute.
  EXPECT_NEAR(RadioEnergy(Lte(), {{absl::ZeroDuration(), 0, 0}, {absl::Hours(24), 0, 0}}, absl::Seconds(30)).value, kPromotion + 2880 * (kTail + kPromotion) + kTail, 1e-6);
}

TEST(AllocatedJoulesTest, IsBytesTimesTheIntensityOfTheYear) {
  AllocatedIntensity intensity{.name = "n", .kwh_per_gb = 0.06, .year = 2015, .source = "s"};
  EXPECT_DOUBLE_EQ(AllocatedJoules(intensity, 1'000'000, 2026), 216);
  intensity.halving_years = 2;
  EXPECT_DOUBLE_EQ(AllocatedJoules(intensity, 1'000'000, 2015), 216);
  EXPECT_DOUBLE_EQ(AllocatedJoules(intensity, 1'000'000, 2010), 216);
  EXPECT_DOUBLE_EQ(AllocatedJoules(intensity, 1'000'000, 2021), 27);
}

TEST(PowerModelEnergyTest, IsBaseAndSlope) {
  const NetworkPowerModel model{.base_watts = 6.5, .watts_per_mbps = 0.05};
  // 1 MB at 8 Mbit/s: 1 s at 6.5 + 0.4 W.
  const ModelledJoules joules = PowerModelEnergy(model, 1'000'000, 8);
  EXPECT_DOUBLE_EQ(joules.value, 6.9);
  EXPECT_DOUBLE_EQ(joules.low, 0.4);
  EXPECT_DOUBLE_EQ(joules.high, 6.9);
}

TEST(NetworkModelsTest, TheBuiltInOnesAreRead) {
  const NetworkModels& models = BuiltInNetworkModels();
  ASSERT_EQ(models.radios.size(), 2u);
  EXPECT_EQ(models.radios[1].link, "lte");
  EXPECT_EQ(models.radios[1].tail, absl::Milliseconds(11576));
  // 0.1 MB up: nearly all of LTE's joules are promotion and tail, of Wi-Fi's nearly none.
  const std::vector<RadioBurst> small = {{absl::ZeroDuration(), 0, 100'000}};
  EXPECT_NEAR(RadioEnergy(models.radios[1], small).value, 13.1, 0.2);
  EXPECT_NEAR(RadioEnergy(models.radios[0], small).value, 0.29, 0.03);
  for (const AllocatedIntensity& intensity : models.allocations) EXPECT_GE(intensity.year, 2015) << intensity.name;
  EXPECT_DOUBLE_EQ(models.power_model.base_watts, 6.5);
}

TEST(NetworkModelsTest, SaysWhatIsWrongAndWhere) {
  const std::string good = R"({"schema": "fedwatt.network.v1", "radios": [{"link": "lte", "uplink_mbps": 6, "downlink_mbps": 13, "active_watts": 1, "uplink_watts_per_mbps": 1,
    "downlink_watts_per_mbps": 1, "promotion_seconds": 1, "promotion_watts": 1, "tail_seconds": 1, "tail_watts": 1, "factor": 2, "year": 2012, "source": "s"}],
    "allocations": [{"name": "n", "kwh_per_gb": 1, "year": 2020, "source": "s"}], "power_model": {"base_watts": 1, "watts_per_mbps": 1, "year": 2021, "source": "s"}})";
  EXPECT_TRUE(ParseNetworkModels(good).ok());
  const auto refused = [&](const char* from, const char* to, const char* why) {
    const std::string bad = absl::StrReplaceAll(good, {{from, to}});
    ASSERT_NE(bad, good) << from;
    EXPECT_THAT(ParseNetworkModels(bad), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why))) << to;
  };
  refused(".v1", ".v2", "schema");
  refused("\"uplink_mbps\": 6", "\"uplink_mbps\": 0", "radios[0]: uplink_mbps: expected [0.001");
  refused("\"tail_seconds\": 1", "\"tail_seconds\": -1", "tail_seconds");
  refused("\"tail_seconds\": 1", "\"tail_seconds\": \"long\"", "tail_seconds: expected a number");
  refused("\"factor\": 2", "\"factor\": 0.5", "factor");
  refused("\"link\": \"lte\"", "\"link\": \"\"", "link: expected a text");
  refused("\"kwh_per_gb\": 1,", "", "allocations[0]: kwh_per_gb");
  refused("\"year\": 2020", "\"year\": 20", "allocations[0]: year");
  refused("\"power_model\"", "\"other\"", "power_model");
  refused("\"allocations\": [", "\"allocations\": [7, ", "allocations[0]: expected an object");
  refused("\"radios\": [", "\"radios\": [], \"x\": [", "radios: expected a list");
  EXPECT_THAT(ParseNetworkModels(""), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a JSON object")));
  EXPECT_THAT(ParseNetworkModels("[1]"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a JSON object")));
}

}  // namespace
}  // namespace fedwatt
