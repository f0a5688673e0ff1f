#include "fedwatt/client/client.h"

#include <atomic>
#include <filesystem>
#include <thread>

#include "absl/time/clock.h"
#include "fake_coordinator.h"
#include "fedwatt/base/file.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/compression/pipeline.h"
#include "fedwatt/round/model_chain.h"
#include "fedwatt/round/participant.h"
#include "fedwatt/rpc/held_plan.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::FakeCoordinator;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr int64_t kValues = 100000;  // 400 KB: four chunks

ParameterLayout Layout() { return *ParameterLayout::Create({{"weight", {kValues}}}); }

// Adds 1 to every value; `slow` trains until it is stopped or its deadline comes.
class AddOneTrainer : public LocalTrainer {
 public:
  AddOneTrainer(bool slow, bool fails) : slow_(slow), fails_(fails), layout_(Layout()) {}
  const ParameterLayout& layout() const override { return layout_; }
  absl::StatusOr<TrainingResult> Train(absl::Span<const float> global, const Dataset& data, const TrainingRecipe&, uint64_t,
                                       const TrainingControl& control, absl::Span<float> local) override {
    if (fails_) return absl::AbortedError("the loss became NaN");
    for (size_t i = 0; i < global.size(); ++i) local[i] = global[i] + 1;
    TrainingResult result{1, data.size(), data.size(), 0.25, true};
    while (slow_) {
      if (control.stop.stop_requested() || control.clock->Now() >= control.deadline) {
        result.completed = false;
        break;
      }
      absl::SleepFor(absl::Milliseconds(2));
    }
    return result;
  }
  absl::StatusOr<EvaluationResult> Evaluate(absl::Span<const float>, const Dataset& data, const std::string&) override {
    return EvaluationResult{data.size(), 0.5, 0.75, true};
  }
  absl::StatusOr<std::vector<float>> InitialModel(uint64_t) override { return std::vector<float>(kValues); }

 private:
  bool slow_, fails_;
  ParameterLayout layout_;
};

Dataset TenExamples() {
  ExampleStore store;
  store.input_shape = {1};
  store.inputs = std::vector<float>(10, 0.5f);
  store.labels = std::vector<int32_t>(10, 0);
  store.output_count = 1;
  return *Dataset::Create(std::move(store));
}

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string base = ::testing::TempDir() + "fedwatt-client-XXXXXX";
    ASSERT_NE(::mkdtemp(base.data()), nullptr);
    base_ = base;
    fake_.plan.run_id = "run-1";
    fake_.plan.architecture = {"add_one", {1}, 1, {}, {}};
    fake_.plan.layout_digest = Layout().digest();
    fake_.plan.recipe.local_epochs = 1;
    ASSERT_THAT(ValidatePlan(fake_.plan), IsOk());
    ContainerHeader header;
    header.codec = "float32";
    header.layout = Layout();
    header.layout_digest = header.layout.digest();
    std::vector<float> values(kValues);
    for (int64_t i = 0; i < kValues; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i % 1000) / 8;
    ASSERT_OK_AND_ASSIGN(auto codec, MakeCodec("float32"));
    ASSERT_OK_AND_ASSIGN(std::string payload, codec->Encode(values, CodingContext{}));
    fake_.model = WriteContainer(header, payload);
    fake_.model_digest = ModelDigest(Layout(), values).Raw();
    values_ = values;
    ASSERT_TRUE(fake_.Start(InsecureServerCredentials()));
  }
  void TearDown() override {
    fake_.Stop();
    std::filesystem::remove_all(base_);
  }

  ClientOptions Options() {
    ClientOptions options;
    options.connection = {fake_.address(), "the test", "", true};
    options.partitions = {{2, TenExamples()}};
    options.partition_count = 4;
    options.trainer_factory = [this](const ArchitectureSpec&) -> absl::StatusOr<std::unique_ptr<LocalTrainer>> {
      ++trainers_made_;
      return std::make_unique<AddOneTrainer>(slow_, fails_);
    };
    options.meter = "none";
    options.device_state = [this] {
      DeviceState state;
      state.battery_fraction = battery_.load();
      return state;
    };
    options.conditions_interval = absl::Milliseconds(20);
    options.backoff_base = absl::Milliseconds(10);
    options.backoff_cap = absl::Milliseconds(100);
    options.log = [this](LogLevel, std::string_view message) {
      absl::MutexLock lock(&mutex_);
      log_ += std::string(message) + "\n";
    };
    return options;
  }
  absl::StatusOr<ClientSummary> Run(ClientOptions options, std::stop_token stop = {}) {
    absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(std::move(options));
    if (!client.ok()) return client.status();
    return (*client)->Run(stop);
  }
  std::string log() {
    absl::MutexLock lock(&mutex_);
    return log_;
  }
  // Every value of the one upload is 1.
  void ExpectUpdateOfOnes() {
    FakeCoordinator::Seen seen = fake_.seen();
    ASSERT_THAT(seen.uploads, SizeIs(1));
    ASSERT_OK_AND_ASSIGN(ContainerView view, ParseContainer(seen.uploads.begin()->second, 1 << 30));
    EXPECT_EQ(view.header.kind, ContainerKind::kUpdate);
    EXPECT_TRUE(view.IsFor(Layout().digest()));
    ASSERT_OK_AND_ASSIGN(auto codec, MakeCodec("float32"));
    std::vector<float> delta(kValues);
    ASSERT_THAT(codec->Decode(view.payload, CodingContext{}, absl::MakeSpan(delta)), IsOk());
    EXPECT_THAT(delta, ::testing::Each(1.0f));
  }

  std::string base_;
  std::vector<float> values_;  // of the fake's model
  FakeCoordinator fake_;
  bool slow_ = false, fails_ = false;
  std::atomic<int> trainers_made_{0};
  std::atomic<double> battery_{1.0};
  absl::Mutex mutex_;
  std::string log_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(ClientTest, TrainsReportsAndFinishes) {
  ClientOptions options = Options();
  options.name = "kitchen";
  options.architectures = {"add_one"};
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(options));
  EXPECT_EQ(summary.reason, "all rounds done");
  EXPECT_TRUE(summary.succeeded);
  EXPECT_EQ(summary.accepted_count, 1);
  ExpectUpdateOfOnes();
  FakeCoordinator::Seen seen = fake_.seen();
  ASSERT_THAT(seen.check_ins, SizeIs(1));
  const v1::CheckInRequest& check_in = seen.check_ins[0];
  EXPECT_EQ(check_in.client_name(), "kitchen");
  EXPECT_EQ(check_in.partition_index(), 2);
  EXPECT_EQ(check_in.partition_count(), 4);
  EXPECT_EQ(check_in.protocol().min_version(), 1);
  EXPECT_EQ(check_in.capabilities().example_count(), 10);
  EXPECT_FALSE(check_in.capabilities().has_evaluation_example_count());
  EXPECT_EQ(check_in.capabilities().meter_tier(), v1::ENERGY_TIER_MISSING);
  EXPECT_THAT(check_in.capabilities().codecs(), ::testing::Contains("float32"));
  EXPECT_THAT(check_in.capabilities().architectures(), ElementsAre("add_one"));
  EXPECT_DOUBLE_EQ(check_in.energy_state().battery_fraction(), 1.0);
  ASSERT_THAT(seen.reports, SizeIs(1));
  const v1::ReportRequest& report = seen.reports[0];
  EXPECT_EQ(report.completed().payload_sha256(), Sha256(seen.uploads.begin()->second).Raw());
  EXPECT_EQ(report.completed().example_count(), 10);
  EXPECT_EQ(report.completed().mean_loss(), 0.25);
  EXPECT_EQ(report.completed().step_count(), 1);
  EXPECT_FALSE(report.completed().partial());
  EXPECT_EQ(report.transfer().downlink_payload_bytes(), static_cast<int64_t>(fake_.model.size()));
  EXPECT_EQ(report.transfer().uplink_payload_bytes(), static_cast<int64_t>(seen.uploads.begin()->second.size()));
  if (report.transfer().has_uplink_wire_bytes()) {
    EXPECT_GT(report.transfer().uplink_wire_bytes(), report.transfer().uplink_payload_bytes());
    EXPECT_GT(report.transfer().downlink_wire_bytes(), report.transfer().downlink_payload_bytes());
  }
  std::set<int> phases;
  for (const v1::PhaseSpan& span : report.phases()) {
    EXPECT_TRUE(phases.insert(span.phase()).second);
    EXPECT_FALSE(span.has_energy_uj());  // not metered is not zero
  }
  EXPECT_TRUE(phases.contains(v1::PHASE_TRAIN) && phases.contains(v1::PHASE_UPLOAD) && phases.contains(v1::PHASE_DOWNLOAD));
  EXPECT_EQ(seen.still_wanted, 1);
  EXPECT_EQ(log().find("coordinator " + fake_.address() + " (from the test), without TLS"), 0u) << log();
}

TEST_F(ClientTest, DownloadResumesAfterACut) {
  fake_.cut_downloads_after = 2;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  EXPECT_EQ(summary.accepted_count, 1);
  EXPECT_THAT(fake_.seen().download_offsets, ElementsAre(0, 2 * kChunkBytes));
  ExpectUpdateOfOnes();
}

TEST_F(ClientTest, DamagedChunkIsFetchedAgain) {
  fake_.corrupt_download = true;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  EXPECT_THAT(fake_.seen().download_offsets, ElementsAre(0, kChunkBytes));
  EXPECT_EQ(summary.accepted_count, 1);
}

TEST_F(ClientTest, UploadResumesAtTheAcknowledgedOffset) {
  fake_.cut_uploads_after = 3;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  EXPECT_EQ(summary.accepted_count, 1);
  EXPECT_THAT(fake_.seen().upload_offsets, ElementsAre(0, 3 * kChunkBytes));
  ExpectUpdateOfOnes();
}

TEST_F(ClientTest, LostReportIsRepeatedUnderTheSameId) {
  fake_.lost_reports = 2;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  FakeCoordinator::Seen seen = fake_.seen();
  ASSERT_THAT(seen.reports, SizeIs(3));
  EXPECT_EQ(seen.reports[0].SerializeAsString(), seen.reports[1].SerializeAsString());
  EXPECT_EQ(seen.reports[0].SerializeAsString(), seen.reports[2].SerializeAsString());
  EXPECT_EQ(summary.accepted_count, 1);
  EXPECT_THAT(seen.upload_offsets, SizeIs(1));
}

TEST_F(ClientTest, ModelIsFetchedOnceAndKeptOverRestarts) {
  fake_.rounds = 3;
  ClientOptions options = Options();
  options.state_directory = base_ + "/state";
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(options));
  EXPECT_EQ(summary.accepted_count, 3);
  EXPECT_THAT(fake_.seen().download_offsets, ElementsAre(0));
  EXPECT_EQ(trainers_made_, 1);
  fake_.rounds = 4;
  ASSERT_OK_AND_ASSIGN(summary, Run(options));
  EXPECT_EQ(summary.accepted_count, 1);
  FakeCoordinator::Seen seen = fake_.seen();
  EXPECT_THAT(seen.download_offsets, ElementsAre(0));
  EXPECT_EQ(seen.reports[3].transfer().downlink_payload_bytes(), 0);
  EXPECT_EQ(seen.check_ins[0].client_id(), seen.check_ins[1].client_id());
  // A damaged file is only a miss.
  int damaged = 0;
  for (const auto& file : std::filesystem::directory_iterator(base_ + "/state")) {
    if (file.path().extension() != ".fwt") continue;
    ASSERT_THAT(WriteFileAtomically(file.path().string(), "garbage"), IsOk());
    ++damaged;
  }
  EXPECT_EQ(damaged, 1);
  fake_.rounds = 5;
  ASSERT_OK_AND_ASSIGN(summary, Run(options));
  EXPECT_THAT(fake_.seen().download_offsets, ElementsAre(0, 0));
}

TEST_F(ClientTest, StateDirectoryIsLockedAndChecked) {
  ClientOptions options = Options();
  options.state_directory = base_ + "/state";
  {
    ASSERT_OK_AND_ASSIGN(auto first, Client::Create(options));
    EXPECT_THAT(Client::Create(options), StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("client.state_directory")));
  }
  EXPECT_THAT(Client::Create(options), IsOk());
  ASSERT_THAT(WriteFileAtomically(base_ + "/state/client_id", "../../evil"), IsOk());
  EXPECT_THAT(Client::Create(options), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("client_id")));
}

TEST_F(ClientTest, SurvivesARestartOfTheCoordinator) {
  fake_.rounds = 100;
  std::thread restarter([&] {
    while (fake_.seen().reports.size() < 5) absl::SleepFor(absl::Milliseconds(5));
    fake_.Stop();
    absl::SleepFor(absl::Milliseconds(2200));  // a cause is looked for once a second
    EXPECT_TRUE(fake_.Start(InsecureServerCredentials()));
  });
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  restarter.join();
  EXPECT_EQ(summary.reason, "all rounds done");
  EXPECT_EQ(fake_.seen().check_ins.size(), 2u);
  // Each try that failed names the address, where it came from, and the reason.
  EXPECT_THAT(log(), HasSubstr("cannot reach the coordinator " + fake_.address() + " (from the test)"));
  EXPECT_THAT(log(), HasSubstr("refused"));
  EXPECT_THAT(log(), HasSubstr("answers again"));
}

TEST_F(ClientTest, GivesUpWhenTold) {
  fake_.Stop();
  ClientOptions options = Options();
  options.give_up_after = absl::Milliseconds(300);
  EXPECT_THAT(Run(options), StatusIs(absl::StatusCode::kUnavailable, HasSubstr(fake_.address())));
}

TEST_F(ClientTest, WaitsWhileBusyAndStopsWhenRefused) {
  fake_.busy_check_ins = 3;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  EXPECT_EQ(summary.accepted_count, 1);
  EXPECT_THAT(fake_.seen().check_ins, SizeIs(4));
  for (v1::RefusalReason reason : {v1::REFUSAL_REASON_VERSION, v1::REFUSAL_REASON_PARTITION, v1::REFUSAL_REASON_INCAPABLE}) {
    fake_.refusal = reason;
    EXPECT_THAT(Run(Options()), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not you")));
  }
  fake_.refusal = v1::REFUSAL_REASON_FINISHED;
  EXPECT_THAT(Run(Options()), IsOk());
}

TEST_F(ClientTest, CancelStopsTrainingAndSendsNothing) {
  slow_ = true;
  fake_.cancel_working = Rejection::kNotNeeded;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  EXPECT_EQ(summary.cancelled_count, 1);
  EXPECT_EQ(summary.accepted_count, 0);
  EXPECT_TRUE(fake_.seen().uploads.empty());
  EXPECT_TRUE(fake_.seen().reports.empty());
  EXPECT_THAT(log(), HasSubstr("not_needed"));
}

TEST_F(ClientTest, AShortAttemptOpensNoWatchAndALongOneHearsOfItsEnd) {
  fake_.watch_after = absl::Milliseconds(1500);
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  EXPECT_EQ(summary.accepted_count, 1);
  EXPECT_EQ(fake_.seen().watches, 0);
  slow_ = true;
  fake_.rounds = 2;
  fake_.cancel_working = Rejection::kNotNeeded;
  const absl::Time start = absl::Now();
  ASSERT_OK_AND_ASSIGN(summary, Run(Options()));
  EXPECT_EQ(summary.cancelled_count, 1);
  EXPECT_EQ(fake_.seen().watches, 1);
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(1500));
}

TEST_F(ClientTest, ASmallUpdateTravelsInsideTheReport) {
  fake_.plan.uplink_codec = "ecsq:step=0.5";
  fake_.max_inline_update_bytes = 32 << 10;
  fake_.lost_reports = 1;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  EXPECT_EQ(summary.accepted_count, 1);
  const FakeCoordinator::Seen seen = fake_.seen();
  EXPECT_TRUE(seen.upload_offsets.empty());
  EXPECT_EQ(seen.still_wanted, 0);
  ASSERT_THAT(seen.reports, SizeIs(2));
  const v1::ReportRequest& report = seen.reports[0];
  EXPECT_EQ(report.SerializeAsString(), seen.reports[1].SerializeAsString());
  EXPECT_EQ(report.completed().payload_sha256(), "");
  const std::string& update = report.completed().inline_update();
  EXPECT_EQ(report.transfer().uplink_payload_bytes(), static_cast<int64_t>(update.size()));
  if (report.transfer().has_uplink_wire_bytes()) {
    EXPECT_GT(report.transfer().uplink_wire_bytes(), report.transfer().uplink_payload_bytes());
  }
  ASSERT_OK_AND_ASSIGN(ContainerView view, ParseContainer(update, 32 << 10));
  std::vector<float> values(kValues);
  ASSERT_THAT(Pipeline::Create("ecsq:step=0.5")->DecodeDense(view.payload, Layout(), 0, 0, absl::MakeSpan(values)), IsOk());
  EXPECT_THAT(values, ::testing::Each(1.0f));

  // One byte too long for this coordinator.
  fake_.rounds = 2;
  fake_.max_inline_update_bytes = static_cast<int64_t>(update.size()) - 1;
  ASSERT_THAT(Run(Options()), IsOk());
  EXPECT_THAT(fake_.seen().upload_offsets, ElementsAre(0));
  EXPECT_EQ(fake_.seen().reports.back().completed().inline_update(), "");
  EXPECT_EQ(fake_.seen().reports.back().completed().payload_sha256().size(), 32u);
}

TEST_F(ClientTest, ALargeUpdateIsUploadedWhateverTheCoordinatorTakes) {
  fake_.max_inline_update_bytes = int64_t{1} << 60;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  EXPECT_EQ(summary.accepted_count, 1);
  EXPECT_THAT(fake_.seen().upload_offsets, ElementsAre(0));
  ExpectUpdateOfOnes();
}

TEST_F(ClientTest, AModelInsideBeyondWhatWasAskedForIsRefused) {
  fake_.inline_models = true;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  const FakeCoordinator::Seen seen = fake_.seen();
  EXPECT_EQ(seen.check_ins[0].capabilities().max_inline_model_bytes(), 32 << 10);
  EXPECT_TRUE(seen.download_offsets.empty());
  ASSERT_THAT(seen.reports, SizeIs(1));
  EXPECT_EQ(seen.reports[0].failed().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(seen.reports[0].failed().message(), HasSubstr("inside the assignment"));
}

TEST_F(ClientTest, ThePlanIsHeldOverRounds) {
  fake_.plan_ids = true;
  fake_.rounds = 3;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  EXPECT_EQ(summary.accepted_count, 3);
  const FakeCoordinator::Seen seen = fake_.seen();
  EXPECT_EQ(seen.idle_waits[0].held_plan_id(), "");
  EXPECT_EQ(seen.idle_waits[1].held_plan_id(), PlanId(ToProto(fake_.plan)));
  EXPECT_EQ(seen.idle_waits[2].held_plan_id(), PlanId(ToProto(fake_.plan)));
}

TEST_F(ClientTest, UnwantedUpdateIsNotUploaded) {
  fake_.unwanted = true;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  EXPECT_EQ(summary.cancelled_count, 1);
  EXPECT_TRUE(fake_.seen().upload_offsets.empty());
}

TEST_F(ClientTest, BrokenConditionWithdraws) {
  slow_ = true;
  ClientOptions options = Options();
  options.rules.min_battery_fraction = 0.3;
  std::thread drain([&] {
    while (trainers_made_ == 0) absl::SleepFor(absl::Milliseconds(2));
    absl::SleepFor(absl::Milliseconds(50));
    battery_ = 0.12;
    while (fake_.seen().reports.empty()) absl::SleepFor(absl::Milliseconds(2));
    battery_ = 0.9;  // charged: the client comes back by itself
  });
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(options));
  drain.join();
  EXPECT_EQ(summary.cancelled_count, 1);
  ASSERT_THAT(fake_.seen().reports, SizeIs(1));
  EXPECT_EQ(fake_.seen().reports[0].withdrawn().condition(), "battery 0.12 below 0.30");
  EXPECT_TRUE(fake_.seen().uploads.empty());
  EXPECT_EQ(summary.reason, "all rounds done");
}

TEST_F(ClientTest, PartialWorkAtTheDeadlineIsDelivered) {
  slow_ = true;
  fake_.deadline = absl::Milliseconds(500);
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  EXPECT_EQ(summary.accepted_count, 1);
  ASSERT_THAT(fake_.seen().reports, SizeIs(1));
  EXPECT_TRUE(fake_.seen().reports[0].completed().partial());
}

TEST_F(ClientTest, StopWithdrawsAndReturns) {
  slow_ = true;
  std::stop_source stop;
  std::thread stopper([&] {
    while (trainers_made_ == 0) absl::SleepFor(absl::Milliseconds(2));
    absl::SleepFor(absl::Milliseconds(30));
    stop.request_stop();
  });
  EXPECT_THAT(Run(Options(), stop.get_token()), StatusIs(absl::StatusCode::kCancelled, HasSubstr("stopped")));
  stopper.join();
  ASSERT_THAT(fake_.seen().reports, SizeIs(1));
  EXPECT_TRUE(fake_.seen().reports[0].has_withdrawn());
}

TEST_F(ClientTest, SaysInWhichNumberFormatItTrainedAndWhy) {
  fake_.plan.fit.number_format = "auto";
  ClientOptions options = Options();
  options.allow_bfloat16 = false;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(options));
  EXPECT_EQ(summary.accepted_count, 1);
  const v1::ReportRequest report = fake_.seen().reports.at(0);
  EXPECT_EQ(report.completed().number_format(), "float32");
  EXPECT_EQ(report.completed().number_format_reason(), "this client does not allow bfloat16");
  EXPECT_THAT(log(), ::testing::HasSubstr("trains in float32: this client does not allow bfloat16"));
}

TEST_F(ClientTest, DeclinesAFitThatIsTooLarge) {
  ClientOptions options = Options();
  options.floors.max_parameters = 1;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(options));
  EXPECT_EQ(summary.accepted_count, 0);
  ASSERT_THAT(fake_.seen().reports, SizeIs(1));
  EXPECT_EQ(fake_.seen().reports[0].failed().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(fake_.seen().reports[0].failed().message(), ::testing::HasSubstr("declined: this client trains at most 1 parameters"));
}

// Each floor alone, where the plan is just within it and just beyond it.
TEST_F(ClientTest, DeclinesWhatItsFloorsExclude) {
  fake_.plan.uplink_codec = "ef,top_k:fraction=0.5,int8";
  fake_.plan.recipe.local_epochs = 3;  // over ten examples
  fake_.cohort_count = 5;
  struct Floor {
    ClientFloors within, beyond;
    std::string words;
  };
  const std::vector<Floor> floors = {
      {{.architectures = {"a", "add_one"}}, {.architectures = {"a"}}, "trains a, the plan is for add_one"},
      {{.codecs = {"float32", "int8"}}, {.codecs = {"float32"}}, "codes updates with float32, the plan with ef,top_k:fraction=0.5,int8"},
      {{.max_parameters = kValues}, {.max_parameters = kValues - 1}, "at most 99999 parameters"},
      {{.max_examples = 30}, {.max_examples = 29}, "at most 29 examples in an attempt, the plan has it look at 30"},
      {{.min_cohort = 5}, {.min_cohort = 6}, "beside at least 6 members, the round has 5"},
  };
  for (size_t i = 0; i < floors.size(); ++i) {
    fake_.rounds = static_cast<int64_t>(2 * i + 1);
    ClientOptions options = Options();
    options.floors = floors[i].within;
    ASSERT_OK_AND_ASSIGN(ClientSummary kept, Run(options));
    EXPECT_EQ(kept.accepted_count, 1) << floors[i].words << ": " << log();
    const size_t downloads = fake_.seen().download_offsets.size();

    ++fake_.rounds;
    options = Options();
    options.floors = floors[i].beyond;
    ASSERT_OK_AND_ASSIGN(ClientSummary declined, Run(options));
    EXPECT_EQ(declined.accepted_count, 0);
    const v1::ReportRequest report = fake_.seen().reports.back();
    const absl::StatusCode code = floors[i].beyond.max_parameters > 0 ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kPermissionDenied;
    EXPECT_EQ(report.failed().code(), static_cast<int>(code));
    EXPECT_THAT(report.failed().message(), HasSubstr("declined: this client "));
    EXPECT_THAT(report.failed().message(), HasSubstr(floors[i].words));
    EXPECT_EQ(fake_.seen().download_offsets.size(), downloads) << "nothing is fetched for it";
  }
}

TEST_F(ClientTest, CountsStepsWhereThePlanSaysSteps) {
  Plan plan = fake_.plan;
  plan.recipe.local_steps = 7;
  plan.recipe.batch_size = 100;
  EXPECT_THAT(CheckPlan({.max_examples = 700}, plan, 1, 0), IsOk());
  EXPECT_THAT(CheckPlan({.max_examples = 699}, plan, 1, 0), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("look at 700")));
  plan.recipe.local_steps = 1000000000;
  plan.recipe.batch_size = 1000000;
  EXPECT_THAT(CheckPlan({.max_examples = 699}, plan, 1, 0), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("1000000000000000")));
  EXPECT_THAT(CheckPlan({.min_cohort = 1}, plan, 1, 0), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("the round has 0")));
}

TEST_F(ClientTest, DoesNotOfferWhatItsFloorsExclude) {
  ClientOptions options = Options();
  options.architectures = {"add_one", "other"};
  options.floors.architectures = {"add_one"};
  options.floors.codecs = {"int8", "float32"};
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(options));
  const v1::Capabilities offered = fake_.seen().check_ins.at(0).capabilities();
  EXPECT_THAT(offered.architectures(), ElementsAre("add_one"));
  const std::vector<std::string> codecs = Codecs().Names();
  for (const std::string& stage : StageNames()) {
    const bool excluded = std::count(codecs.begin(), codecs.end(), stage) > 0 && stage != "int8" && stage != "float32";
    EXPECT_EQ(std::count(offered.codecs().begin(), offered.codecs().end(), stage), excluded ? 0 : 1) << stage;
  }
}

TEST_F(ClientTest, ImpossibleFloorsAreRefused) {
  ClientOptions options = Options();
  options.floors.codecs = {"int9"};
  EXPECT_THAT(Run(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("client.codecs: 'int9' is not one of ")));
  options = Options();
  options.floors.max_examples = -1;
  EXPECT_THAT(Run(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("client.max_examples: expected >= 0, got -1")));
}

// The trainer has no bfloat16: nothing is probed, nothing fails.
TEST_F(ClientTest, ATrainerThatKnowsFloat32OnlyTrainsOn) {
  fake_.plan.fit.number_format = "bfloat16";
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  ExpectUpdateOfOnes();
  EXPECT_THAT(fake_.seen().reports.at(0).completed().number_format_reason(), ::testing::HasSubstr("float32 only"));
}

TEST_F(ClientTest, FailureIsReportedWithItsReason) {
  fails_ = true;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(Options()));
  EXPECT_EQ(summary.accepted_count, 0);
  EXPECT_EQ(summary.rejected_count, 1);
  ASSERT_THAT(fake_.seen().reports, SizeIs(1));
  EXPECT_EQ(fake_.seen().reports[0].failed().code(), static_cast<int>(absl::StatusCode::kAborted));
  EXPECT_EQ(fake_.seen().reports[0].failed().message(), "the loss became NaN");
}

TEST_F(ClientTest, ModelBeyondTheLimitIsNotFetched) {
  ClientOptions options = Options();
  options.max_model_bytes = 1000;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(options));
  EXPECT_TRUE(fake_.seen().download_offsets.empty());
  EXPECT_EQ(fake_.seen().reports[0].failed().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
}

TEST_F(ClientTest, EvaluatesOnHeldOutData) {
  fake_.evaluate_first = true;
  ClientOptions options = Options();
  options.held_out_fraction = 0.3;
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(options));
  FakeCoordinator::Seen seen = fake_.seen();
  ASSERT_THAT(seen.evaluations, SizeIs(1));
  EXPECT_EQ(seen.evaluations[0].completed().example_count(), 3);
  EXPECT_EQ(seen.evaluations[0].completed().mean_loss(), 0.5);
  EXPECT_EQ(seen.evaluations[0].completed().accuracy(), 0.75);
  EXPECT_EQ(seen.check_ins[0].capabilities().evaluation_example_count(), 3);
  EXPECT_EQ(seen.reports[0].completed().example_count(), 7);
  EXPECT_EQ(summary.evaluated_count, 1);
}

TEST_F(ClientTest, ManyPartitionsShareOneDownload) {
  fake_.rounds = 8;
  ClientOptions options = Options();
  options.partitions.clear();
  for (int64_t i = 0; i < 4; ++i) options.partitions.push_back({i, TenExamples()});
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, Run(options));
  FakeCoordinator::Seen seen = fake_.seen();
  EXPECT_GE(summary.accepted_count, 8);
  EXPECT_EQ(seen.check_ins.size(), 4u);
  for (const v1::CheckInRequest& check_in : seen.check_ins) EXPECT_EQ(check_in.capabilities().max_inline_model_bytes(), 0) << "they share one copy";
  EXPECT_THAT(seen.download_offsets, ElementsAre(0));
  EXPECT_EQ(trainers_made_, 1);
  for (const v1::ReportRequest& report : seen.reports) EXPECT_FALSE(report.transfer().has_uplink_wire_bytes());
}

TEST_F(ClientTest, OptionsAreChecked) {
  auto expect = [this](const std::function<void(ClientOptions&)>& spoil, const std::string& word) {
    ClientOptions options = Options();
    spoil(options);
    EXPECT_THAT(Client::Create(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(word)));
  };
  expect([](ClientOptions& o) { o.partitions.clear(); }, "partitions: none");
  expect([](ClientOptions& o) { o.partitions[0].index = 4; }, "expected [0, 4), got 4");
  expect([](ClientOptions& o) { o.partitions[0].index = -1; }, "got -1");
  expect([](ClientOptions& o) { o.partitions.push_back(o.partitions[0]); }, "given twice");
  expect([](ClientOptions& o) { o.partitions[0].data = Dataset(); }, "no examples");
  expect([](ClientOptions& o) { o.partition_count = 0; }, "partition count");
  expect([](ClientOptions& o) { o.held_out_fraction = 1; }, "held-out");
  expect([](ClientOptions& o) { o.held_out_fraction = std::numeric_limits<double>::quiet_NaN(); }, "held-out");
  expect([](ClientOptions& o) { o.trainer_factory = nullptr; }, "trainer factory");
  expect([](ClientOptions& o) { o.max_parallel_attempts = 0; }, "parallel");
  expect([](ClientOptions& o) { o.backoff_base = absl::ZeroDuration(); }, "intervals");
  expect([](ClientOptions& o) { o.connection.server = "nonsense"; }, "expected host:port");
  expect([](ClientOptions& o) { o.connection.insecure = false; }, "security.directory");
  expect([](ClientOptions& o) { o.name = std::string(129, 'x'); }, "client name");
}

// The chain that a coordinator would offer: from the model that AddOneTrainer makes from a seed to two versions later.
class DeltaTest : public ClientTest {
 protected:
  void SetUp() override {
    ClientTest::SetUp();
    std::vector<float> master(kValues, 0.5f);
    ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(Layout(), {.step = 0.25}, std::vector<float>(kValues)));
    start_ = chain.digest();
    ASSERT_THAT(chain.Append(master), IsOk());
    first_ = chain.digest();
    first_delta_ = Delta(chain, start_);
    first_values_ = chain.values();
    master.assign(kValues, 1.0f);
    ASSERT_THAT(chain.Append(master), IsOk());
    second_ = chain.digest();
    second_delta_ = Delta(chain, first_);
    second_values_ = chain.values();
  }
  std::string Delta(const ModelChain& chain, const Digest& from) {
    ContainerHeader header;
    header.kind = ContainerKind::kModelDelta;
    header.codec = "chain";
    header.layout_digest = Layout().digest();
    return WriteContainer(header, chain.DeltaFrom(from)->payload);
  }
  void Offer(const std::vector<float>& values, const std::string& delta, const Digest& base) {
    ContainerHeader header;
    header.codec = "float32";
    header.layout = Layout();
    fake_.model = WriteContainer(header, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
    fake_.model_digest = ModelDigest(Layout(), values).Raw();
    fake_.delta = delta;
    fake_.base_digest = base.Raw();
  }
  Digest start_, first_, second_;
  std::string first_delta_, second_delta_;
  std::vector<float> first_values_, second_values_;
};

TEST_F(DeltaTest, MakesTheFirstVersionItselfAndFollowsTheChainOverARestart) {
  ClientOptions options = Options();
  options.state_directory = base_ + "/state";
  Offer(first_values_, first_delta_, start_);
  ASSERT_THAT(Run(options), IsOk());
  ExpectUpdateOfOnes();
  EXPECT_EQ(fake_.seen().idle_waits.front().held_model_digest(), "");
  EXPECT_LT(fake_.seen().reports.front().transfer().downlink_payload_bytes(), 10000) << "the whole model was fetched";

  Offer(second_values_, second_delta_, first_);
  fake_.rounds = 2;
  const size_t waits = fake_.seen().idle_waits.size();
  ASSERT_THAT(Run(options), IsOk());
  EXPECT_EQ(fake_.seen().idle_waits[waits].held_model_digest(), first_.Raw());
  EXPECT_LT(fake_.seen().reports.back().transfer().downlink_payload_bytes(), 10000);
  EXPECT_TRUE(fake_.seen().reports.back().has_completed());
}

TEST_F(DeltaTest, TakesADeltaFromInsideTheAssignment) {
  fake_.inline_models = true;
  Offer(first_values_, first_delta_, start_);
  ASSERT_THAT(Run(Options()), IsOk());
  const FakeCoordinator::Seen seen = fake_.seen();
  EXPECT_TRUE(seen.download_offsets.empty());
  ASSERT_THAT(seen.reports, SizeIs(1));
  const v1::TransferBytes& transfer = seen.reports[0].transfer();
  EXPECT_EQ(transfer.downlink_payload_bytes(), static_cast<int64_t>(first_delta_.size()));
  if (transfer.has_downlink_wire_bytes()) {
    EXPECT_GT(transfer.downlink_wire_bytes(), transfer.downlink_payload_bytes());
  }
  ExpectUpdateOfOnes();
}

TEST_F(DeltaTest, ADamagedDeltaInsideIsMendedByAWholeModel) {
  fake_.inline_models = true;
  first_delta_[first_delta_.size() / 2] ^= 1;
  Offer(first_values_, first_delta_, start_);
  ASSERT_THAT(Run(Options()), IsOk());
  const FakeCoordinator::Seen seen = fake_.seen();
  ASSERT_GE(seen.idle_waits.size(), 3u);
  EXPECT_TRUE(seen.idle_waits[2].whole_model());
  // This fake puts the whole one inside as well, which is too long for that.
  EXPECT_THAT(seen.reports[0].failed().message(), HasSubstr("inside the assignment"));
}

TEST_F(DeltaTest, AModelBothInsideAndNamedIsRefused) {
  fake_.inline_models = fake_.name_models_too = true;
  Offer(first_values_, first_delta_, start_);
  ASSERT_THAT(Run(Options()), IsOk());
  EXPECT_EQ(fake_.seen().reports[0].failed().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_TRUE(fake_.seen().download_offsets.empty());
}

TEST_F(DeltaTest, AsksForTheWholeModelWhenADeltaStartsElsewhere) {
  Offer(second_values_, second_delta_, first_);  // this client never held the first version
  ASSERT_THAT(Run(Options()), IsOk());
  const FakeCoordinator::Seen seen = fake_.seen();
  ASSERT_GE(seen.idle_waits.size(), 3u);
  EXPECT_FALSE(seen.idle_waits[0].whole_model());
  EXPECT_FALSE(seen.idle_waits[1].whole_model());
  EXPECT_TRUE(seen.idle_waits[2].whole_model());
  ASSERT_THAT(seen.reports, SizeIs(1));
  EXPECT_TRUE(seen.reports[0].has_completed()) << "asking again must not cost the attempt";
  ExpectUpdateOfOnes();
}

TEST_F(DeltaTest, ADeltaThatDoesNotFitIsMendedByAWholeModel) {
  Offer(second_values_, first_delta_, start_);  // leads elsewhere
  ASSERT_THAT(Run(Options()), IsOk());
  ASSERT_THAT(fake_.seen().reports, SizeIs(1));
  EXPECT_TRUE(fake_.seen().reports[0].has_completed());
  EXPECT_TRUE(fake_.seen().idle_waits[2].whole_model());
}

TEST_F(DeltaTest, RefusesAModelThatIsNotTheOneAnnounced) {
  Offer(first_values_, first_delta_, start_);
  fake_.model_digest = second_.Raw();  // neither delta nor whole model lead there
  ASSERT_THAT(Run(Options()), IsOk());
  ASSERT_THAT(fake_.seen().reports, SizeIs(1));
  EXPECT_TRUE(fake_.seen().reports[0].has_failed());
  EXPECT_THAT(fake_.seen().reports[0].failed().message(), HasSubstr("was announced"));
}

// With a step of 4, an update of ones encodes as nothing and leaves a residual of 1; with that residual the next one is 2, half a step, and rounds up.
class FeedbackTest : public ClientTest {
 protected:
  void SetUp() override {
    ClientTest::SetUp();
    fake_.plan.uplink_codec = "ef,ecsq:step=4";
  }
  float DecodedUpdate(const std::string& attempt) {
    const FakeCoordinator::Seen seen = fake_.seen();
    auto upload = seen.uploads.find(attempt);
    if (upload == seen.uploads.end()) return -1;
    absl::StatusOr<ContainerView> view = ParseContainer(upload->second, 1 << 30);
    EXPECT_THAT(view, IsOk());
    std::vector<float> values(kValues);
    EXPECT_THAT(Pipeline::Create(fake_.plan.uplink_codec)->DecodeDense(view->payload, Layout(), 0, 0, absl::MakeSpan(values)), IsOk());
    EXPECT_THAT(values, ::testing::Each(values[0]));
    return values[0];
  }
  // A client that is stopped while its report goes unanswered: its update may count or not.
  void LeaveAnUpdateUndecided(ClientOptions options) {
    fake_.lost_reports = 1 << 20;
    std::stop_source stop;
    std::jthread stopper([&](std::stop_token done) {
      while (!done.stop_requested() && fake_.seen().reports.empty()) absl::SleepFor(absl::Milliseconds(5));
      stop.request_stop();
    });
    EXPECT_THAT(Run(options, stop.get_token()), StatusIs(absl::StatusCode::kCancelled, ::testing::_));
    fake_.lost_reports = 0;
    fake_.rounds = 2;
  }
};

TEST_F(FeedbackTest, AResidualComesBackInTheNextRound) {
  fake_.rounds = 2;
  ASSERT_THAT(Run(Options()), IsOk());
  EXPECT_EQ(DecodedUpdate("attempt-1"), 0);
  EXPECT_EQ(DecodedUpdate("attempt-2"), 4);
}

TEST_F(FeedbackTest, AfterAKillTheVerdictDecides) {
  ClientOptions options = Options();
  options.state_directory = base_ + "/state";
  LeaveAnUpdateUndecided(options);
  ASSERT_TRUE(std::filesystem::exists(base_ + "/state/residual-2.staged"));
  fake_.past_attempts = v1::REJECTION_REASON_DUPLICATE;  // it counted
  ASSERT_THAT(Run(options), IsOk());
  EXPECT_THAT(fake_.seen().asked_about, ElementsAre("attempt-1"));
  EXPECT_EQ(DecodedUpdate("attempt-2"), 4);
  EXPECT_FALSE(std::filesystem::exists(base_ + "/state/residual-2.staged"));
}

TEST_F(FeedbackTest, AnUpdateThatDidNotCountLeavesNoResidual) {
  ClientOptions options = Options();
  options.state_directory = base_ + "/state";
  LeaveAnUpdateUndecided(options);
  fake_.past_attempts = v1::REJECTION_REASON_LATE;
  ASSERT_THAT(Run(options), IsOk());
  EXPECT_EQ(DecodedUpdate("attempt-2"), 0);
}

}  // namespace
}  // namespace fedwatt
