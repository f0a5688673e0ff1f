#include "fedwatt/energy/cpu_model.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::StatusIs;
using Sample = CpuModel::Sample;

std::vector<Sample> Exact(double idle, double apart, double together) {
  std::vector<Sample> samples;
  for (double load : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    const double a = 3 * (1 - (1 - load) * (1 - load)), t = 3 * load;
    samples.push_back({{a, t}, Watts(idle + apart * a + together * t)});
  }
  return samples;
}

TEST(CpuModelTest, FindsTheCoefficientsOfExactSamples) {
  ASSERT_OK_AND_ASSIGN(CpuModel model, CpuModel::Fit(Exact(10, 4, 2)));
  EXPECT_NEAR(model.coefficients()[0], 10, 1e-9);
  EXPECT_NEAR(model.coefficients()[1], 4, 1e-9);
  EXPECT_NEAR(model.coefficients()[2], 2, 1e-9);
  EXPECT_NEAR(model.left_out_error_fraction(), 0, 1e-9);
  const CpuModel::Prediction predicted = model.Predict({2, 1});
  EXPECT_NEAR(predicted.power.watts(), 20, 1e-9);
  EXPECT_NEAR(predicted.low.watts(), 20, 1e-6);
  EXPECT_NEAR(predicted.high.watts(), 20, 1e-6);
}

TEST(CpuModelTest, NeverUsesANegativeCoefficient) {
  // Watts fall while siblings overlap more: unconstrained least squares would take 10 + 4 apart - 1 together.
  ASSERT_OK_AND_ASSIGN(CpuModel model, CpuModel::Fit(Exact(10, 4, -1)));
  EXPECT_GT(model.coefficients()[0], 0);
  EXPECT_GT(model.coefficients()[1], 0);
  EXPECT_EQ(model.coefficients()[2], 0);
}

TEST(CpuModelTest, LeavesOutTheOddSampleByHand) {
  // All at one activity: leaving one out predicts the least relative squares of the others, s1/s2 with s1 = sum 1/w, s2 = sum 1/w^2.
  std::vector<Sample> samples;
  for (double watts : {10.0, 10.0, 10.0, 20.0}) samples.push_back({{0, 0}, Watts(watts)});
  ASSERT_OK_AND_ASSIGN(CpuModel model, CpuModel::Fit(samples));
  const double with_odd = (0.1 + 0.1 + 0.05) / (0.01 + 0.01 + 0.0025);  // 11.11 W
  EXPECT_NEAR(model.left_out_error_fraction(), (3 * (with_odd / 10 - 1) + 0.5) / 4, 1e-9);
  // Four samples are fewer than nine: the largest error, 10 W on 10 W, is the half-width.
  const CpuModel::Prediction predicted = model.Predict({0, 0});
  EXPECT_NEAR(predicted.high.watts(), 2 * predicted.power.watts(), 1e-9);
  EXPECT_NEAR(predicted.low.watts(), 0, 1e-9);
}

TEST(CpuModelTest, IntervalsHoldAboutTheirShareOfUnseenLevels) {
  std::mt19937 random(7);
  std::normal_distribution<double> noise(0, 0.1);
  std::uniform_real_distribution<double> load(0, 1);
  const auto draw = [&] {
    const double u = load(random);
    const double a = 3 * (1 - (1 - u) * (1 - u)), t = 3 * u;
    return Sample{{a, t}, Watts((20 + 10 * a + 3 * t) * std::exp(noise(random)))};
  };
  int inside = 0;
  constexpr int kTrials = 2000;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<Sample> samples;
    for (int i = 0; i < 20; ++i) samples.push_back(draw());
    ASSERT_OK_AND_ASSIGN(CpuModel model, CpuModel::Fit(samples));
    const Sample unseen = draw();
    const CpuModel::Prediction predicted = model.Predict(unseen.activity);
    inside += predicted.low <= unseen.power && unseen.power <= predicted.high;
  }
  // 90 % in expectation; the standard error of 2000 trials is 0.7 %.
  EXPECT_GE(inside, kTrials * 86 / 100);
  EXPECT_LE(inside, kTrials * 94 / 100);
}

TEST(CpuModelTest, RefusesWhatCannotBeFitted) {
  const std::vector<Sample> good = Exact(10, 4, 2);
  EXPECT_THAT(CpuModel::Fit({}), StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("CPU model")));
  EXPECT_THAT(CpuModel::Fit({good[0], good[1], good[2]}), StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("CPU model")));
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();
  for (double confidence : {0.0, 1.0, -1.0, kNan}) {
    EXPECT_THAT(CpuModel::Fit(good, confidence), StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("CPU model"))) << confidence;
  }
  for (double bad : {-1.0, kNan, kInfinity}) {
    for (int field = 0; field < 3; ++field) {
      std::vector<Sample> samples = good;
      if (field == 0) samples[1].power = Watts(bad);
      if (field == 1) samples[1].activity.apart_ghz = bad;
      if (field == 2) samples[1].activity.together_ghz = bad;
      EXPECT_THAT(CpuModel::Fit(samples), StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("CPU model"))) << bad << " in field " << field;
    }
  }
  std::vector<Sample> samples = good;
  samples[0].power = Watts(0);
  EXPECT_THAT(CpuModel::Fit(samples), StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("CPU model")));
}

TEST(CpuModelTest, StandsOnAnyActivity) {
  std::vector<Sample> samples(5, Sample{{0, 0}, Watts(7)});  // two of three terms say nothing
  ASSERT_OK_AND_ASSIGN(CpuModel model, CpuModel::Fit(samples));
  EXPECT_NEAR(model.Predict({3, 3}).power.watts(), 7, 1e-9);
}

}  // namespace
}  // namespace fedwatt
