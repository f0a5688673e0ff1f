#include "fedwatt/simulation/fleet.h"

#include <atomic>
#include <filesystem>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/digest.h"

#include "tests/testing/logistic_trainer.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::LogisticTrainer;
using ::fedwatt::testing::MakeBlobs;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr int64_t kMembers = 12;

DeviceClass Device(double macs_per_second) {
  DeviceClass device;
  device.name = "test";
  device.macs_per_second = macs_per_second;
  device.active_power = Watts(4);
  device.idle_power = Watts(1);
  device.uplink_bytes_per_second = 1e6;
  device.downlink_bytes_per_second = 1e6;
  return device;
}

FleetOptions SmallFleet(int64_t workers = 1) {
  FleetOptions options;
  options.engine.run_id = "test-run";
  options.engine.seed = 7;
  options.engine.rounds = 4;
  options.engine.clients_per_round = 5;
  options.engine.wait_for_clients = kMembers;
  options.model.plan.run_id = "test-run";
  options.model.plan.seed = 7;
  options.model.plan.architecture = {.name = "logistic", .input_shape = {6}, .output_count = 3};
  options.model.plan.recipe.batch_size = 4;
  options.model.max_cohort = 5;
  options.trainer_factory = LogisticTrainer::Make;
  for (int64_t i = 0; i < kMembers; ++i) options.partitions.push_back(MakeBlobs(20 + i, 6, 3, 100 + static_cast<uint64_t>(i)));
  options.test = MakeBlobs(300, 6, 3, 999);
  options.devices = {Device(1e4)};
  options.workers = workers;
  return options;
}

struct Result {
  FleetOutcome outcome;
  std::vector<RoundRecord> rounds;
};

Result RunFleet(FleetOptions options) {
  Result result;
  options.on_round = [&](const RoundRecord& record) { result.rounds.push_back(record); };
  absl::StatusOr<std::unique_ptr<Fleet>> fleet = Fleet::Create(std::move(options));
  EXPECT_THAT(fleet, IsOk());
  absl::StatusOr<FleetOutcome> outcome = (*fleet)->Run({});
  EXPECT_THAT(outcome, IsOk());
  if (outcome.ok()) result.outcome = *std::move(outcome);
  return result;
}

std::vector<std::string> Digests(const Result& result) {
  std::vector<std::string> digests;
  for (const RoundRecord& round : result.rounds) digests.push_back(round.model_digest);
  return digests;
}

TEST(FleetTest, Learns) {
  const Result result = RunFleet(SmallFleet());
  ASSERT_THAT(result.rounds, SizeIs(4));
  EXPECT_EQ(result.outcome.rounds_committed, 4);
  EXPECT_GT(*result.rounds.back().eval_accuracy, 0.9);
  EXPECT_LT(*result.rounds.back().train_loss, *result.rounds.front().train_loss);
  EXPECT_EQ(*result.rounds.back().eval_examples, 300);
  EXPECT_EQ(result.rounds[0].clients_completed, 5);
  EXPECT_GT(result.rounds[0].select_seconds, 0);
  EXPECT_GE(result.rounds[0].wall_seconds, result.rounds[0].select_seconds + result.rounds[0].collect_seconds);
}

TEST(FleetTest, PhasesTileTheDevicesAndTheHostsTime) {
  const std::string folder = ::testing::TempDir() + "/fleet_phases";
  std::filesystem::remove_all(folder);
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<RunRecordWriter> writer, RunRecordWriter::Open(folder));
  FleetOptions options = SmallFleet();
  options.model.plan.recipe.local_epochs = 50;  // tens of milliseconds a round
  options.record = writer.get();
  options.start_time = absl::FromUnixSeconds(1000);
  const Result result = RunFleet(std::move(options));
  ASSERT_OK_AND_ASSIGN(const RunRecord record, ReadRunRecord(folder));
  double virtual_seconds = 0;
  for (const RoundRecord& round : record.rounds) virtual_seconds += *round.virtual_seconds;
  // Every attempt ends when its round has collected it, so a device's time up to there is all of the virtual time that has passed.
  std::map<int64_t, double> told;
  std::map<int64_t, int64_t> last_round;
  double longest = 0;
  for (const AttemptRecord& attempt : record.attempts) {
    for (const std::vector<PhaseSpan>* spans : {&attempt.phases, &attempt.between}) {
      for (const PhaseSpan& span : *spans) told[attempt.partition] += absl::ToDoubleSeconds(span.wall);
    }
    for (const PhaseSpan& span : attempt.phases) EXPECT_EQ(span.energy.tier, EnergyTier::kGeneric);
    for (const PhaseSpan& span : attempt.between) EXPECT_TRUE(span.energy.missing()) << "what a waiting device draws is not the federation's";
    last_round[attempt.partition] = attempt.round;
    longest = std::max(longest, told[attempt.partition]);
  }
  EXPECT_NEAR(longest, virtual_seconds, 0.01 * virtual_seconds);
  for (const auto& [partition, seconds] : told) {
    double passed = 0;
    for (const RoundRecord& round : record.rounds) {
      if (round.round < last_round[partition]) passed += *round.virtual_seconds;
    }
    EXPECT_GE(seconds, 0.99 * passed) << "partition " << partition;
    EXPECT_LE(seconds, 1.0001 * virtual_seconds) << "partition " << partition;
  }
  EXPECT_EQ(record.rounds[0].server_phases[0].phase, Phase::kInit);
  double trained = 0;
  for (const PhaseSpan& span : record.rounds[0].server_phases) {
    if (span.phase == Phase::kTrain) trained += absl::ToDoubleSeconds(span.wall);
  }
  // Half of it allows for a machine that takes the processor away between two readings of the clock.
  EXPECT_GT(trained, 0.5 * record.rounds[0].collect_seconds) << "the devices' work is booked as something else";
  double host = 0, wall = 0;
  for (const RoundRecord& round : record.rounds) {
    for (const PhaseSpan& span : round.server_phases) host += absl::ToDoubleSeconds(span.wall);
    wall += round.wall_seconds;
  }
  EXPECT_GE(host, 0.99 * wall);
}

TEST(FleetTest, CommitsTheSameBitsWithAnyNumberOfWorkers) {
  const Result one = RunFleet(SmallFleet(1));
  EXPECT_EQ(Digests(one), Digests(RunFleet(SmallFleet(2))));
  EXPECT_EQ(Digests(one), Digests(RunFleet(SmallFleet(5))));
}

TEST(FleetTest, CommitsTheSameBitsInAnyOrderOfArrival) {
  const Result plain = RunFleet(SmallFleet());
  for (uint64_t shuffle : {1, 2, 3}) {
    FleetOptions options = SmallFleet();
    options.arrival_shuffle_seed = shuffle;
    EXPECT_EQ(Digests(plain), Digests(RunFleet(std::move(options))));
  }
}

TEST(FleetTest, PoliciesDoNotDependOnTheOrderOfArrival) {
  for (const std::string& policy : SelectionPolicies().Names()) {
    if (policy == "oort") continue;  // it goes by the seconds that attempts take, which another order of arrival is made of
    const auto options = [&policy](uint64_t shuffle) {
      FleetOptions made = SmallFleet();
      made.engine.selection.policy = policy;
      made.engine.rounds = 8;
      made.arrival_shuffle_seed = shuffle;
      return made;
    };
    const Result plain = RunFleet(options(0));
    for (uint64_t shuffle : {1, 2}) EXPECT_EQ(Digests(plain), Digests(RunFleet(options(shuffle)))) << policy;
  }
}

TEST(FleetTest, CountsGramsBySiteAndVirtualTime) {
  FleetOptions options = SmallFleet();
  IntensityRow row{.start = absl::FromUnixSeconds(1'767'225'600), .end = absl::FromUnixSeconds(1'767'225'600) + absl::Hours(24), .zone = "T", .g_per_kwh = 360, .source = "test"};
  ASSERT_OK_AND_ASSIGN(CarbonSite grid, ParseCarbonSite("grid zone=T embodied_kg=100 lifetime_years=4"));
  ASSERT_OK_AND_ASSIGN(CarbonSite hydro, ParseCarbonSite("hydro g_per_kwh=36"));
  ASSERT_OK_AND_ASSIGN(CarbonModel carbon, CarbonModel::Create({grid, hydro}, {row}, IntensityKind::kAverage, std::nullopt));
  options.engine.carbon = std::make_shared<const CarbonModel>(std::move(carbon));
  options.sites = {0, 1};
  options.start_time = row.start;
  const Digest plain_digest = Sha256(absl::StrJoin(Digests(RunFleet(SmallFleet())), ","));
  const std::string folder = ::testing::TempDir() + "/fleet_grams";
  std::filesystem::remove_all(folder);
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<RunRecordWriter> writer, RunRecordWriter::Open(folder));
  options.record = writer.get();
  const Result result = RunFleet(std::move(options));
  EXPECT_EQ(Sha256(absl::StrJoin(Digests(result), ",")), plain_digest);  // counting changes nothing
  ASSERT_OK_AND_ASSIGN(RunRecord run, ReadRunRecord(folder));
  CarbonMass sum;
  for (const AttemptRecord& attempt : run.attempts) {
    Energy energy;
    for (const PhaseSpan& span : attempt.phases) energy += *span.energy.energy;
    ASSERT_TRUE(attempt.carbon.operational.has_value());
    EXPECT_EQ(attempt.site, attempt.partition % 2 == 0 ? "grid" : "hydro");
    EXPECT_EQ(*attempt.carbon.operational, OperationalCarbon(energy, attempt.partition % 2 == 0 ? 360 : 36));
    EXPECT_EQ(attempt.carbon.embodied.has_value(), attempt.partition % 2 == 0);  // "test" is no class of ours, and hydro states none
    EXPECT_EQ(attempt.carbon.basis, attempt.partition % 2 == 0 ? IntensityBasis::kObserved : IntensityBasis::kStatic);
    if (attempt.outcome == "accepted") sum += *attempt.carbon.operational;
  }
  EXPECT_EQ(SumRounds(run.rounds).client_carbon.operational, sum);
  EXPECT_EQ(SumRounds(run.rounds).client_carbon.clients, SumRounds(run.rounds).clients_completed);
}

TEST(FleetTest, RunsUnderEveryPolicyAndEndsWhenTheJoulesAreSpent) {
  for (const std::string& policy : SelectionPolicies().Names()) {
    FleetOptions options = SmallFleet();
    options.engine.selection.policy = policy;
    options.engine.rounds = 6;
    EXPECT_EQ(RunFleet(std::move(options)).outcome.rounds_committed, 6) << policy;
  }
  FleetOptions options = SmallFleet();
  options.engine.rounds = 1000;
  options.engine.deadline = absl::Seconds(10);
  options.engine.budget.federation = Joules(2500);
  options.engine.budget.max_power = Watts(5);
  const Result result = RunFleet(std::move(options));
  EXPECT_THAT(result.outcome.reason, HasSubstr("joules are spent"));
  Energy spent;
  for (const RoundRecord& round : result.rounds) spent += *round.client_energy;
  EXPECT_LE(spent, Joules(2500 + 5 * 40));
  EXPECT_GT(spent, Joules(1000));
  EXPECT_EQ(*result.rounds.back().budget_left, Joules(2500) - spent);
}

TEST(FleetTest, NobodyTrainsBelowTheBatteryFloorAndBatteriesFillAtNight) {
  FleetOptions options = SmallFleet();
  DeviceClass phone = Device(1e4);
  phone.name = "phone";
  phone.idle_power = Watts(0.5);
  phone.active_power = Watts(60);  // so that attempts show
  options.devices = {phone};
  options.batteries = true;
  options.engine.rounds = 300;
  options.engine.quorum = 0.2;
  options.engine.budget.battery_floor = 0.6;
  const Result result = RunFleet(std::move(options));
  int64_t refused = 0;
  for (const RoundRecord& round : result.rounds) {
    if (auto it = round.refusals.find("battery_floor"); it != round.refusals.end()) refused += it->second;
  }
  EXPECT_EQ(result.outcome.rounds_committed, 300);
  EXPECT_GT(refused, 100);
}

TEST(FleetTest, RefusesASiteThatIsNone) {
  FleetOptions options = SmallFleet();
  options.sites = {0};
  EXPECT_THAT(Fleet::Create(std::move(options)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("site")));
}

TEST(FleetTest, TheFirstRoundChoosesAmongAllMembers) {
  FleetOptions options = SmallFleet();
  options.engine.wait_for_clients = 1;
  EXPECT_EQ(Digests(RunFleet(SmallFleet())), Digests(RunFleet(std::move(options))));
}

TEST(FleetTest, AnotherSeedGivesOtherModels) {
  FleetOptions options = SmallFleet();
  options.engine.seed = options.model.plan.seed = 8;
  EXPECT_NE(Digests(RunFleet(SmallFleet())), Digests(RunFleet(std::move(options))));
}

TEST(FleetTest, CountsPayloadAndModelledJoulesAndNoWireBytes) {
  const Result result = RunFleet(SmallFleet());
  const RoundRecord& round = result.rounds[0];
  const int64_t values = 3 * 6 + 3;
  EXPECT_EQ(round.uplink_dense_bytes, 5 * 4 * values);
  EXPECT_EQ(round.downlink_dense_bytes, 5 * 4 * values);
  EXPECT_GT(round.uplink_payload_bytes, round.uplink_dense_bytes);  // a header each
  EXPECT_FALSE(round.uplink_wire_bytes.has_value());
  EXPECT_FALSE(round.downlink_wire_bytes.has_value());
  EXPECT_EQ(round.client_energy_tier, EnergyTier::kGeneric);
  EXPECT_EQ(round.client_energy_clients, 5);
  // Each client: 3 * examples * 21 multiply-adds at 1e4 a second and 5 W, plus its transfers at 1 W.
  double joules = 0;
  joules += 3.0 * static_cast<double>(round.train_examples) * values / 1e4 * 5;
  const double model_bytes = static_cast<double>(round.downlink_payload_bytes) / 5;
  joules += 5 * (model_bytes + 4 * values) / 1e6 * 1;
  EXPECT_NEAR(round.client_energy->joules(), joules, 1e-4);
  EXPECT_NEAR(round.client_energy_low->joules(), joules / 3, 1e-4);
  EXPECT_NEAR(round.client_energy_high->joules(), joules * 3, 1e-4);
  EXPECT_FALSE(round.client_energy_wasted.has_value());
}

// Keeps what a run writes of its attempts.
class AttemptLog : public RunRecordWriter {
 public:
  absl::Status WriteRound(const RoundRecord&) override { return absl::OkStatus(); }
  absl::Status WriteAttempt(const AttemptRecord& record) override {
    attempts.push_back(record);
    return absl::OkStatus();
  }
  absl::Status SyncAttempts() override { return absl::OkStatus(); }
  absl::Status WriteSummary(const RunSummary&) override { return absl::OkStatus(); }
  std::optional<double> best_accuracy() const override { return std::nullopt; }
  const std::string& directory() const override { return directory_; }
  std::vector<AttemptRecord> attempts;

 private:
  std::string directory_;
};

// Odd members have little memory and train half of the inputs.
FleetOptions MixedFleet(int64_t workers = 1) {
  FleetOptions options = SmallFleet(workers);
  DeviceClass large = Device(1e4), small = Device(1e4);
  large.memory_bytes = 4'000'000'000;
  small.memory_bytes = 1'000'000'000;
  options.devices = {large, small};
  options.engine.clients_per_round = 0;
  options.model.max_cohort = kMembers;
  options.model.fit.policy = "by_capability";
  options.model.fit.widths = {1, 0.5};
  options.model.fit.memory_mb = {2000, 0};
  return options;
}

// Computes in any format, and says in which.
class FormatTrainer : public LogisticTrainer {
 public:
  using LogisticTrainer::LogisticTrainer;
  absl::Status CheckNumberFormat(std::string_view) const override { return absl::OkStatus(); }
  absl::StatusOr<TrainingResult> Train(absl::Span<const float> global, const Dataset& data, const TrainingRecipe& recipe, uint64_t seed, const TrainingControl& control,
                                       absl::Span<float> local) override {
    absl::StatusOr<TrainingResult> result = LogisticTrainer::Train(global, data, recipe, seed, control, local);
    if (result.ok()) result->mean_loss = recipe.number_format == "bfloat16" ? 16 : 32;
    return result;
  }
};

TEST(FleetTest, MembersTrainInTheFormatThatTheirDeviceHasAndTheRecordSaysSo) {
  AttemptLog log;
  FleetOptions options = MixedFleet();
  options.model.fit = {};
  options.devices[0].has_bfloat16 = true;
  options.devices[1].name = "old board";
  options.model.plan.fit.number_format = "bfloat16";
  options.trainer_factory = [](const ArchitectureSpec& spec) -> absl::StatusOr<std::unique_ptr<LocalTrainer>> {
    return std::make_unique<FormatTrainer>(spec.input_shape[0], spec.output_count, spec.kept);
  };
  options.record = &log;
  RunFleet(std::move(options));
  ASSERT_THAT(log.attempts, SizeIs(4 * kMembers));
  for (const AttemptRecord& attempt : log.attempts) {
    const bool old = attempt.partition % 2 == 1;
    EXPECT_EQ(attempt.fit.number_format, old ? "float32" : "bfloat16");
    EXPECT_EQ(attempt.train_loss, old ? 32 : 16) << "what is recorded is what was done";
    EXPECT_EQ(attempt.fit_format_reason.value_or(""), old ? "device class old board has no bfloat16 instructions" : "");
  }
}

TEST(FleetTest, MembersTrainWhatSuitsThemAndPayForThatOnly) {
  AttemptLog log;
  FleetOptions options = MixedFleet();
  options.record = &log;
  const Result result = RunFleet(std::move(options));
  ASSERT_THAT(log.attempts, SizeIs(4 * kMembers));
  for (const AttemptRecord& attempt : log.attempts) {
    const bool narrow = attempt.partition % 2 == 1;
    const int64_t values = narrow ? 3 * 3 + 3 : 3 * 6 + 3;
    EXPECT_EQ(attempt.fit.width_fraction, narrow ? 0.5 : 1);
    EXPECT_EQ(attempt.fit_parameter_count, values);
    EXPECT_EQ(attempt.fit_macs, values);
    EXPECT_NEAR(static_cast<double>(*attempt.uplink_payload_bytes), 4 * static_cast<double>(values), 90);
    // 3 multiply-adds a parameter and example, at 1e4 a second.
    const double seconds = 3.0 * static_cast<double>(20 + attempt.partition) * static_cast<double>(values) / 1e4;
    EXPECT_NEAR(absl::ToDoubleSeconds(attempt.phases[1].wall), seconds, 1e-6);
    EXPECT_NEAR(attempt.phases[1].energy.energy->joules(), 5 * seconds, 1e-4);
  }
  EXPECT_EQ(result.rounds[0].uplink_dense_bytes, 4 * (6 * 21 + 6 * 12));
  EXPECT_EQ(result.rounds[0].downlink_dense_bytes, 4 * (6 * 21 + 6 * 12));
  EXPECT_GT(*result.rounds.back().eval_accuracy, 0.9);
}

// 3 multiply-adds a parameter and example: full width (21 parameters) takes a slow device 0.63 s an example, half (12) 0.36 s; it has 21 to 31 of them. A deadline of 15 s leaves 12.
TEST(FleetTest, ByBudgetEachMemberGetsTheWidestThatItHasTimeFor) {
  const auto run = [](int64_t workers, AttemptLog* log) {
    FleetOptions options = MixedFleet(workers);
    options.devices = {Device(1e4), Device(1e2)};
    options.engine.deadline = absl::Seconds(15);
    options.model.fit = {.policy = "by_budget", .widths = {1, 0.5}};
    options.record = log;
    return Digests(RunFleet(std::move(options)));
  };
  AttemptLog log;
  const std::vector<std::string> digests = run(1, &log);
  ASSERT_THAT(log.attempts, SizeIs(4 * kMembers));
  for (const AttemptRecord& attempt : log.attempts) {
    EXPECT_EQ(attempt.outcome, "accepted");
    EXPECT_EQ(attempt.fit.width_fraction, attempt.round == 1 || attempt.partition % 2 == 1 ? 0.5 : 1) << attempt.round << " " << attempt.partition;
    EXPECT_EQ(attempt.fit_expected_seconds.has_value(), attempt.round > 1);
    if (attempt.round < 3) continue;  // until then one width was seen, or none
    absl::Duration took;
    Energy energy;
    for (const PhaseSpan& span : attempt.phases) {
      took += span.wall;
      energy += *span.energy.energy;
    }
    EXPECT_NEAR(*attempt.fit_expected_seconds, absl::ToDoubleSeconds(took), 0.001);
    EXPECT_NEAR(attempt.fit_expected_energy->joules(), energy.joules(), 0.001);
  }
  AttemptLog again;
  EXPECT_EQ(run(3, &again), digests) << "measurements of a fleet are of virtual time";
}

TEST(FleetTest, ScoresTheModelAtEachWidthWhenAsked) {
  for (const WidthEvaluation when : {WidthEvaluation::kNever, WidthEvaluation::kLast, WidthEvaluation::kAlways}) {
    FleetOptions options = MixedFleet();
    options.engine.evaluate_widths = when;
    const Result result = RunFleet(std::move(options));
    ASSERT_THAT(result.rounds, SizeIs(4));
    for (const RoundRecord& round : result.rounds) {
      const bool scored = when == WidthEvaluation::kAlways || (when == WidthEvaluation::kLast && round.round == 4);
      ASSERT_THAT(round.eval_accuracy_by_width, SizeIs(scored ? 1 : 0));
      if (!scored) continue;
      // Three of six inputs tell less than six, and more than chance.
      const double accuracy = round.eval_accuracy_by_width.at("0.5");
      EXPECT_GT(accuracy, 0.4) << round.round;
      EXPECT_NE(accuracy, *round.eval_accuracy) << round.round;
    }
  }
}

TEST(FleetTest, MixedWidthsCommitTheSameBitsWithAnyWorkersInAnyOrder) {
  for (const char* channels : {"ordered", "rolling"}) {
    std::vector<std::vector<std::string>> runs;
    for (int64_t variant = 0; variant < 4; ++variant) {
      FleetOptions options = MixedFleet(variant == 0 ? 1 : variant + 1);
      options.model.fit.channels = channels;
      options.model.plan.uplink_codec = "ef,ecsq:step=0.01";
      options.model.plan.downlink_codec = "chain:step=0.01";
      options.arrival_shuffle_seed = static_cast<uint64_t>(variant);
      runs.push_back(Digests(RunFleet(std::move(options))));
      EXPECT_EQ(runs.back(), runs.front()) << channels << " " << variant;
    }
    EXPECT_THAT(std::set<std::string>(runs[0].begin(), runs[0].end()), SizeIs(4));
  }
}

TEST(FleetTest, ANarrowTrainerThatCannotBeMadeCostsItsAttempt) {
  FleetOptions options = MixedFleet();
  options.engine.quorum = 0.5;
  options.trainer_factory = [](const ArchitectureSpec& spec) -> absl::StatusOr<std::unique_ptr<LocalTrainer>> {
    if (!spec.kept.empty()) return absl::ResourceExhaustedError("no room");
    return LogisticTrainer::Make(spec);
  };
  const Result result = RunFleet(std::move(options));
  for (const RoundRecord& round : result.rounds) {
    EXPECT_EQ(round.clients_completed, kMembers / 2);
    EXPECT_EQ(round.rejections.at("client_error"), kMembers / 2);
  }
}

TEST(FleetTest, SlowDevicesMissTheDeadlineAndTheirJoulesAreWasted) {
  FleetOptions options = SmallFleet();
  options.devices = {Device(1e4), Device(1e2)};  // odd members are a hundred times slower
  options.engine.clients_per_round = 0;
  options.engine.deadline = absl::Seconds(2);
  options.model.max_cohort = kMembers;
  const Result result = RunFleet(std::move(options));
  EXPECT_EQ(result.rounds[0].clients_completed, kMembers / 2);
  EXPECT_EQ(result.rounds[0].clients_late, kMembers / 2);
  EXPECT_EQ(result.rounds[0].rejections.at("late"), kMembers / 2);
  EXPECT_GT(result.rounds[0].client_energy_wasted->microjoules(), 0);
  EXPECT_DOUBLE_EQ(*result.rounds[0].virtual_seconds, 2);
}

TEST(FleetTest, DropoutsAreDroppedTheRoundGoesOn) {
  FleetOptions options = SmallFleet();
  DeviceClass unreliable = Device(1e4);
  unreliable.dropout_fraction = 0.4;
  options.devices = {unreliable};
  options.engine.rounds = 20;
  options.engine.quorum = 0.2;
  const Result result = RunFleet(std::move(options));
  int64_t dropped = 0, completed = 0;
  for (const RoundRecord& round : result.rounds) {
    dropped += round.clients_dropped;
    completed += round.clients_completed;
  }
  EXPECT_EQ(dropped + completed, 100);
  EXPECT_NEAR(static_cast<double>(dropped), 40, 20);  // four deviations
}

// Fails for one member only.
class FailingTrainer : public LogisticTrainer {
 public:
  using LogisticTrainer::LogisticTrainer;
  absl::StatusOr<TrainingResult> Train(absl::Span<const float> global, const Dataset& data, const TrainingRecipe& recipe, uint64_t seed,
                                       const TrainingControl& control, absl::Span<float> local) override {
    if (data.size() == 20) return absl::AbortedError("the loss is not a number");
    absl::StatusOr<TrainingResult> result = LogisticTrainer::Train(global, data, recipe, seed, control, local);
    if (data.size() == 21) local[0] = 1e9f;
    return result;
  }
};

TEST(FleetTest, AFailingMemberAndAPoisonedUpdateCostOnlyTheirSenders) {
  FleetOptions options = SmallFleet();
  options.engine.clients_per_round = 0;
  options.model.max_cohort = kMembers;
  options.trainer_factory = [](const ArchitectureSpec&) -> absl::StatusOr<std::unique_ptr<LocalTrainer>> {
    return std::make_unique<FailingTrainer>(6, 3);
  };
  const Result result = RunFleet(std::move(options));
  ASSERT_THAT(result.rounds, SizeIs(4));
  for (const RoundRecord& round : result.rounds) {
    EXPECT_TRUE(round.committed);
    EXPECT_EQ(round.clients_completed, kMembers - 2);
    EXPECT_EQ(round.rejections.at("client_error"), 1);
    EXPECT_EQ(round.rejections.at("value_too_large"), 1);
  }
}

TEST(FleetTest, StopsWhenAsked) {
  FleetOptions options = SmallFleet(2);
  options.engine.rounds = 1000000;
  std::stop_source source;
  int seen = 0;
  options.on_round = [&](const RoundRecord&) {
    if (++seen == 3) source.request_stop();
  };
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Fleet> fleet, Fleet::Create(std::move(options)));
  ASSERT_OK_AND_ASSIGN(FleetOutcome outcome, fleet->Run(source.get_token()));
  EXPECT_EQ(outcome.reason, "stopped");
  EXPECT_LE(outcome.rounds_committed, 4);
}

// Asks for the end of the run from within its first training.
class StoppingTrainer : public LogisticTrainer {
 public:
  StoppingTrainer(std::stop_source* source) : LogisticTrainer(6, 3), source_(source) {}
  absl::StatusOr<TrainingResult> Train(absl::Span<const float> global, const Dataset& data, const TrainingRecipe& recipe, uint64_t seed,
                                       const TrainingControl& control, absl::Span<float> local) override {
    source_->request_stop();
    return LogisticTrainer::Train(global, data, recipe, seed, TrainingControl(), local);  // does not heed the stop: others fold meanwhile
  }

 private:
  std::stop_source* source_;
};

TEST(FleetTest, AStopInMidRoundAbandonsItAndWaitsForTheWorkers) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::stop_source source;
    FleetOptions options = SmallFleet(3);
    options.engine.clients_per_round = 0;
    options.model.max_cohort = kMembers;
    options.trainer_factory = [&source](const ArchitectureSpec&) -> absl::StatusOr<std::unique_ptr<LocalTrainer>> {
      return std::make_unique<StoppingTrainer>(&source);
    };
    std::vector<RoundRecord> rounds;
    options.on_round = [&](const RoundRecord& record) { rounds.push_back(record); };
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Fleet> fleet, Fleet::Create(std::move(options)));
    ASSERT_OK_AND_ASSIGN(FleetOutcome outcome, fleet->Run(source.get_token()));
    EXPECT_EQ(outcome.reason, "stopped");
    EXPECT_EQ(outcome.rounds_committed, 0);
    ASSERT_THAT(rounds, SizeIs(1));
    EXPECT_FALSE(rounds[0].committed);
  }
}

TEST(FleetTest, EndsAtTheTarget) {
  FleetOptions options = SmallFleet();
  options.engine.rounds = 1000;
  options.engine.target_accuracy = 0.9;
  const Result result = RunFleet(std::move(options));
  EXPECT_TRUE(result.outcome.target_reached);
  EXPECT_GE(*result.rounds.back().eval_accuracy, 0.9);
  EXPECT_LT(result.rounds.size(), 100u);
}

TEST(FleetTest, FederatedEvaluationUsesWhatMembersHeldBack) {
  FleetOptions options = SmallFleet();
  options.test = std::nullopt;
  options.held_out_fraction = 0.25;
  const Result result = RunFleet(std::move(options));
  EXPECT_FALSE(result.rounds[0].eval_accuracy.has_value());
  ASSERT_TRUE(result.rounds.back().federated_eval_accuracy.has_value());
  EXPECT_GT(*result.rounds.back().federated_eval_accuracy, 0.8);
  EXPECT_GT(*result.rounds.back().federated_eval_examples, 20);
  EXPECT_LT(*result.rounds.back().federated_eval_examples, 50);
}

// Cannot score at all.
class UnfitTrainer : public LogisticTrainer {
 public:
  using LogisticTrainer::LogisticTrainer;
  absl::StatusOr<EvaluationResult> Evaluate(absl::Span<const float>, const Dataset&, const std::string& loss) override {
    return absl::InvalidArgumentError("unknown loss '" + loss + "'");
  }
};

TEST(FleetTest, RefusesWhatCannotRun) {
  FleetOptions unfit = SmallFleet();
  unfit.trainer_factory = [](const ArchitectureSpec&) -> absl::StatusOr<std::unique_ptr<LocalTrainer>> { return std::make_unique<UnfitTrainer>(6, 3); };
  EXPECT_THAT(Fleet::Create(std::move(unfit)).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("do not fit together")));
  FleetOptions empty = SmallFleet();
  empty.partitions.clear();
  EXPECT_THAT(Fleet::Create(std::move(empty)).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("partitions")));
  FleetOptions hollow = SmallFleet();
  hollow.partitions[3] = Dataset();
  EXPECT_THAT(Fleet::Create(std::move(hollow)).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no examples")));
  FleetOptions negative = SmallFleet();
  negative.workers = -1;
  EXPECT_THAT(Fleet::Create(std::move(negative)).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("workers")));
}

TEST(MixDevicesTest, KeepsSharesExactly) {
  DeviceClass fast = Device(1), slow = Device(2);
  const std::vector<DeviceClass> devices = MixDevices({{fast, 3}, {slow, 1}}, 20, 1);
  ASSERT_THAT(devices, SizeIs(20));
  EXPECT_EQ(std::count_if(devices.begin(), devices.end(), [](const DeviceClass& d) { return d.macs_per_second == 1; }), 15);
}

}  // namespace
}  // namespace fedwatt
