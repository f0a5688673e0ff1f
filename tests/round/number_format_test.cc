// Which number format a device takes, with a trainer whose steps take as long as the test says.
#include "fedwatt/round/number_format.h"

#include <filesystem>
#include <fstream>

#include "fedwatt/base/clock.h"
#include "tests/testing/logistic_trainer.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::testing::HasSubstr;

// Each step advances a clock.
class TimedTrainer : public testing::LogisticTrainer {
 public:
  TimedTrainer(VirtualClock* clock, double float32_seconds, double bfloat16_seconds)
      : LogisticTrainer(2, 2), clock_(clock), float32_seconds_(float32_seconds), bfloat16_seconds_(bfloat16_seconds) {}
  absl::Status CheckNumberFormat(std::string_view format) const override { return format == "bfloat16" ? able : CheckFloat32Only(format); }
  absl::StatusOr<TrainingResult> Train(absl::Span<const float>, const Dataset&, const TrainingRecipe& recipe, uint64_t, const TrainingControl& control,
                                       absl::Span<float>) override {
    ++calls;
    if (!result.ok()) return result;
    if (control.stop.stop_requested()) return TrainingResult{.completed = false};
    // Some turns are slow, as on a busy machine.
    const double busy = calls % 5 == 0 ? 10 : 1;
    clock_->Advance(absl::Seconds(busy * recipe.local_steps * (recipe.number_format == "bfloat16" ? bfloat16_seconds_ : float32_seconds_)));
    return TrainingResult{.steps_done = recipe.local_steps, .examples_seen = recipe.local_steps, .example_count = 1};
  }

  absl::Status able = absl::OkStatus();
  absl::Status result = absl::OkStatus();
  int calls = 0;

 private:
  VirtualClock* clock_;
  const double float32_seconds_, bfloat16_seconds_;
};

class FormatChooserTest : public ::testing::Test {
 protected:
  FormatChooserTest() {
    plan_.architecture = {.name = "logistic", .input_shape = {2}, .output_count = 2};
    plan_.recipe.batch_size = 10;
    plan_.fit.number_format = "auto";
    ExampleStore store;
    store.input_shape = {2};
    store.inputs = std::vector<float>(2 * 1000);
    store.labels = std::vector<int32_t>(1000);
    store.output_count = 2;
    data_ = *Dataset::Create(std::move(store));
    path_ = ::testing::TempDir() + "/number_formats";
    std::filesystem::remove(path_);
  }
  FormatChoice Choose(FormatChooser& chooser, LocalTrainer& trainer, std::string_view refusal = "", std::stop_token stop = {}) {
    return chooser.Choose(plan_, refusal, trainer, model_, data_, {.stop = stop, .clock = &clock_});
  }

  VirtualClock clock_;
  Plan plan_;
  Dataset data_;
  std::vector<float> model_ = std::vector<float>(6);
  std::string path_;
};

TEST_F(FormatChooserTest, TakesWhatItMeasuredToBeFaster) {
  FormatChooser chooser("", "here");
  TimedTrainer fast(&clock_, 0.02, 0.01);
  const FormatChoice choice = Choose(chooser, fast);
  EXPECT_EQ(choice.format, "bfloat16");
  EXPECT_EQ(choice.reason, "a step in bfloat16 is 2.00 times as fast, batch 10");
}

TEST_F(FormatChooserTest, DeclinesWhatIsSlowerAndSaysSo) {
  FormatChooser chooser("", "here");
  TimedTrainer slow(&clock_, 0.03, 0.04);
  EXPECT_EQ(Choose(chooser, slow).format, "float32");
  EXPECT_EQ(Choose(chooser, slow).reason, "a step in bfloat16 is 0.75 times as fast, batch 10; at least 1.1 is worth it");
  // A gain that measurements could not tell from none is none.
  plan_.recipe.batch_size = 11;
  TimedTrainer even(&clock_, 0.0105, 0.01);
  EXPECT_EQ(Choose(chooser, even).format, "float32");
}

TEST_F(FormatChooserTest, ProbesForAboutTwoSecondsAndAtLeastOnce) {
  FormatChooser chooser("", "here");
  TimedTrainer trainer(&clock_, 0.001, 0.001);
  const absl::Duration start = clock_.Monotonic();
  Choose(chooser, trainer);
  EXPECT_LT(clock_.Monotonic() - start, absl::Seconds(4)) << "slow turns included";
  TimedTrainer large(&clock_, 9, 3);
  plan_.recipe.batch_size = 1000;
  EXPECT_EQ(Choose(chooser, large).format, "bfloat16");
  EXPECT_EQ(large.calls, 4) << "two to warm up, one turn each";
}

TEST_F(FormatChooserTest, RemembersByModelBatchAndMachineOverRestarts) {
  TimedTrainer trainer(&clock_, 0.02, 0.01);
  {
    FormatChooser chooser(path_, "here");
    Choose(chooser, trainer);
    const int calls = trainer.calls;
    EXPECT_EQ(Choose(chooser, trainer).format, "bfloat16");
    EXPECT_EQ(trainer.calls, calls);
    plan_.recipe.batch_size = 20;
    Choose(chooser, trainer);
    EXPECT_GT(trainer.calls, calls);
  }
  trainer.calls = 0;
  FormatChooser again(path_, "here");
  EXPECT_EQ(Choose(again, trainer).format, "bfloat16");
  EXPECT_EQ(trainer.calls, 0);
  FormatChooser elsewhere(path_, "another processor");
  Choose(elsewhere, trainer);
  EXPECT_GT(trainer.calls, 0);
}

TEST_F(FormatChooserTest, CountsTheExamplesThatABatchReallyHas) {
  FormatChooser chooser("", "here");
  TimedTrainer trainer(&clock_, 0.02, 0.01);
  plan_.recipe.batch_size = 5000;
  EXPECT_THAT(Choose(chooser, trainer).reason, HasSubstr("batch 1000"));
}

TEST_F(FormatChooserTest, MeasuresAnewWhatItCannotRead) {
  std::ofstream(path_) << std::string(64, 'a') << " -1\n" << std::string(64, 'b') << " nan\n\n" << std::string(64, 'c') << "\nx 2\n" << std::string(1 << 16, 'z');
  FormatChooser chooser(path_, "here");
  TimedTrainer trainer(&clock_, 0.02, 0.01);
  EXPECT_EQ(Choose(chooser, trainer).format, "bfloat16");
  EXPECT_GT(trainer.calls, 0);
  FormatChooser nowhere("/nonexistent/number_formats", "here");
  EXPECT_EQ(Choose(nowhere, trainer).format, "bfloat16");
}

TEST_F(FormatChooserTest, SaysWhyItDidNotMeasure) {
  FormatChooser chooser("", "here");
  TimedTrainer trainer(&clock_, 0.02, 0.01);
  EXPECT_EQ(Choose(chooser, trainer, "not today").reason, "not today");
  trainer.able = absl::UnimplementedError("this processor has no bfloat16 instructions");
  EXPECT_EQ(Choose(chooser, trainer).reason, "this processor has no bfloat16 instructions");
  EXPECT_EQ(trainer.calls, 0);
  trainer.able = absl::OkStatus();
  trainer.result = absl::ResourceExhaustedError("out of memory");
  EXPECT_EQ(Choose(chooser, trainer).reason, "bfloat16 was not measured: out of memory");
  trainer.result = absl::OkStatus();
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(Choose(chooser, trainer, "", stop.get_token()).reason, "bfloat16 was not measured: stopped");
  // None of these is remembered as an answer.
  EXPECT_EQ(Choose(chooser, trainer).format, "bfloat16");
  testing::LogisticTrainer plain(2, 2);
  EXPECT_THAT(Choose(chooser, plain).reason, HasSubstr("float32 only"));
}

TEST_F(FormatChooserTest, MeasuresNothingWhereTheFormatIsNamed) {
  FormatChooser chooser("", "here");
  TimedTrainer slow(&clock_, 0.01, 0.04);
  plan_.fit.number_format = "bfloat16";
  EXPECT_EQ(Choose(chooser, slow).format, "bfloat16");
  EXPECT_EQ(Choose(chooser, slow, "not today").format, "float32");
  slow.able = absl::UnimplementedError("no instructions");
  EXPECT_EQ(Choose(chooser, slow).reason, "no instructions");
  plan_.fit.number_format = "float32";
  EXPECT_EQ(Choose(chooser, slow, "not today").reason, "");
  EXPECT_EQ(slow.calls, 0);
}

}  // namespace
}  // namespace fedwatt
