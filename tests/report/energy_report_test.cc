#include "fedwatt/report/energy_report.h"

#include "report/provenance.h"
#include "tests/report/records.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::MakeAttempt;
using ::fedwatt::testing::MakeRound;
using ::fedwatt::testing::MakeSummary;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(EnergyReportTest, AddsUpWhatIsKnownAndSaysWhetherThatIsAll) {
  RunRecord run{.rounds = {MakeRound(1, 0.5), MakeRound(2, 0.8)}, .summary = MakeSummary()};
  EnergyReport report = MakeEnergyReport(run);
  EXPECT_EQ(report.clients.energy, Microjoules(4000000));
  EXPECT_EQ(report.wasted.energy, Microjoules(1000000));
  EXPECT_EQ(report.server.energy, Microjoules(1400000));
  EXPECT_EQ(report.total.energy, Microjoules(6400000));
  EXPECT_EQ(report.total.tier, EnergyTier::kGeneric) << "the worst of its parts";
  EXPECT_TRUE(report.total.complete);
  EXPECT_EQ(report.server_coverage(), 1);
  EXPECT_EQ(report.client_coverage(), std::nullopt) << "no attempts were recorded";

  run.rounds[1].server_energy = {};
  report = MakeEnergyReport(run);
  EXPECT_EQ(report.total.energy, Microjoules(5700000));
  EXPECT_FALSE(report.total.complete);
  EXPECT_EQ(report.server_coverage(), 0.5);

  // A failed attempt of which nothing is known.
  run.rounds = {MakeRound(1, 0.5)};
  run.rounds[0].client_energy_wasted.reset();
  report = MakeEnergyReport(run);
  EXPECT_FALSE(report.total.complete);
  EXPECT_EQ(report.wasted.energy, std::nullopt);
  EXPECT_EQ(report.wasted.tier, EnergyTier::kMissing);
}

TEST(EnergyReportTest, NothingMeteredIsUnknownNotZero) {
  RunRecord run{.rounds = {RoundRecord{.run_id = "r", .round = 1, .clients_completed = 2}}};
  const EnergyReport report = MakeEnergyReport(run, {.g_per_kwh = 475});
  for (const EnergySum* sum : {&report.clients, &report.wasted, &report.server, &report.total}) {
    EXPECT_EQ(sum->energy, std::nullopt);
    EXPECT_EQ(sum->tier, EnergyTier::kMissing);
  }
  EXPECT_FALSE(report.total.complete);
  EXPECT_EQ(report.carbon.operational_grams, std::nullopt);
  EXPECT_EQ(internal::SumText(report.total), "not measured");
}

TEST(EnergyReportTest, PhasesAndClientsCountMeteredTimeOnly) {
  RunRecord run{.rounds = {MakeRound(1, 0.5)}, .summary = MakeSummary()};
  AttemptRecord other = MakeAttempt(1);  // train 1.5 s and 1 J, upload 0.5 s unknown
  other.client = "client-1";
  other.outcome = "late";
  other.phases = {other.phases[0]};
  other.phases[0].energy.tier = EnergyTier::kComponent;
  other.phases[0].energy.source = "rapl";
  other.phases[0].energy.energy = Microjoules(3000000);
  run.attempts = {MakeAttempt(1), other};
  const EnergyReport report = MakeEnergyReport(run);
  EXPECT_DOUBLE_EQ(report.client_seconds, 3.5);
  EXPECT_DOUBLE_EQ(*report.client_coverage(), 3.0 / 3.5);
  ASSERT_EQ(report.phases.size(), 2u);
  EXPECT_EQ(report.phases[0].phase, Phase::kTrain);
  EXPECT_EQ(report.phases[0].spent.energy, Microjoules(4000000));
  EXPECT_EQ(report.phases[0].spent.tier, EnergyTier::kGeneric);
  EXPECT_TRUE(report.phases[0].spent.complete);
  EXPECT_EQ(report.phases[1].spent.energy, std::nullopt);
  EXPECT_FALSE(report.phases[1].spent.complete);
  ASSERT_EQ(report.clients_by_joules.size(), 2u);
  EXPECT_EQ(report.clients_by_joules[0].client, "client-1");
  EXPECT_EQ(report.clients_by_joules[0].accepted, 0);
  EXPECT_TRUE(report.clients_by_joules[0].spent.complete);
  EXPECT_FALSE(report.clients_by_joules[1].spent.complete);
  EXPECT_EQ(report.wasted.tier, EnergyTier::kComponent) << "the failed attempt's own";
  EXPECT_THAT(report.sources, ElementsAre("cpu_time", "rapl"));
}

TEST(EnergyReportTest, AHoleInsideAnAttemptMakesTheTotalIncomplete) {
  RunRecord run{.rounds = {MakeRound(1, 0.5)}, .attempts = {MakeAttempt(1)}, .summary = MakeSummary()};
  run.attempts[0].phases[1].energy = run.attempts[0].phases[0].energy;
  EXPECT_TRUE(MakeEnergyReport(run).total.complete);
  run.attempts[0].phases[1].energy = {};
  EXPECT_FALSE(MakeEnergyReport(run).total.complete);
  run.attempts[0].phases[1].wall = absl::ZeroDuration();
  EXPECT_TRUE(MakeEnergyReport(run).total.complete) << "no time, no hole";
}

TEST(EnergyReportTest, TheTimeBetweenAttemptsCountsAndIsALineOfItsOwn) {
  RunRecord run{.rounds = {MakeRound(1, 0.5)}, .attempts = {MakeAttempt(1)}, .summary = MakeSummary()};
  run.summary->simulated = false;
  AttemptRecord& attempt = run.attempts[0];
  attempt.phases.pop_back();
  const EnergyReport before = MakeEnergyReport(run);
  EXPECT_EQ(before.between.energy, std::nullopt);
  EXPECT_FALSE(before.between.complete);
  EXPECT_THAT(before.boundary, Contains(HasSubstr("between attempts: not told")));
  PhaseSpan wait = attempt.phases[0];
  wait.phase = Phase::kIdleWait;
  wait.wall = absl::Seconds(20);
  wait.energy.energy = Microjoules(250000);
  attempt.between = {wait};
  const EnergyReport report = MakeEnergyReport(run);
  EXPECT_EQ(report.between.energy, Microjoules(250000));
  EXPECT_EQ(report.total.energy, *before.total.energy + Microjoules(250000));
  EXPECT_TRUE(report.total.complete);
  EXPECT_EQ(report.between_seconds, 20);
  EXPECT_EQ(report.client_seconds, before.client_seconds);
  ASSERT_EQ(report.between_phases.size(), 1u);
  EXPECT_EQ(report.between_phases[0].phase, Phase::kIdleWait);
  EXPECT_THAT(report.boundary, ::testing::Not(Contains(HasSubstr("not told"))));

  attempt.between[0].energy = {};
  EXPECT_FALSE(MakeEnergyReport(run).total.complete);
  run.summary->simulated = true;
  EXPECT_TRUE(MakeEnergyReport(run).total.complete) << "outside of a simulation's boundary";
  run.summary->simulated = false;
  attempt.quarantine = "wall_beyond_elapsed";
  EXPECT_EQ(MakeEnergyReport(run).between_seconds, 0) << "nothing of it is believed";
}

TEST(EnergyReportTest, IdleAndDynamicAddUpToWhatClientsDrew) {
  RunRecord run{.rounds = {MakeRound(1, 0.5)}, .attempts = {MakeAttempt(1), MakeAttempt(1)}, .summary = MakeSummary()};
  for (AttemptRecord& attempt : run.attempts) {
    attempt.phases.pop_back();
    attempt.phases[0].energy.idle = Microjoules(300000);
    attempt.phases[0].energy.gross = Microjoules(1500000);
  }
  EnergyReport report = MakeEnergyReport(run);
  EXPECT_EQ(report.idle, Microjoules(600000));
  EXPECT_EQ(report.dynamic, Microjoules(1400000));
  EXPECT_EQ(report.gross, Microjoules(3000000));
  run.summary->simulated = false;
  EXPECT_THAT(MakeEnergyReport(run).boundary, Contains(::testing::AllOf(HasSubstr("clients, tier component"), HasSubstr("each process's part by CPU time"))));
  EXPECT_THAT(MakeEnergyReport(run).boundary, Contains(::testing::AllOf(HasSubstr("coordinator, tier component"), HasSubstr("all processes"))));
  run.attempts[1].phases[0].energy.idle.reset();
  report = MakeEnergyReport(run);
  EXPECT_EQ(report.idle, std::nullopt) << "half a split is none";
  EXPECT_EQ(report.dynamic, std::nullopt);
  EXPECT_EQ(report.gross, Microjoules(3000000));
}

TEST(EnergyReportTest, GramsFollowFromAGivenIntensity) {
  RunRecord run{.rounds = {MakeRound(1, 0.5)}};
  run.rounds[0].client_energy = Joules(3.6e6 - 1.2);  // with 0.5 J wasted and 0.7 J of the coordinator: 1 kWh
  const EnergyReport report = MakeEnergyReport(run, {.g_per_kwh = 475, .intensity_source = "world mean 2019"});
  EXPECT_DOUBLE_EQ(*report.carbon.operational_grams, 475);
  EXPECT_EQ(report.carbon.source, "world mean 2019");
  EXPECT_EQ(MakeEnergyReport(run, {.g_per_kwh = 0}).carbon.operational_grams, 0) << "a known zero";
  EXPECT_EQ(MakeEnergyReport(run).carbon.operational_grams, std::nullopt);
}

TEST(EnergyReportTest, GramsThatTheRunRecordedCountUnlessAPersonSaysOtherwise) {
  RunRecord run{.rounds = {MakeRound(1, 0.5), MakeRound(2, 0.8)}, .summary = MakeSummary()};
  for (RoundRecord& round : run.rounds) {
    round.client_carbon.operational = Micrograms(300);
    round.client_carbon.embodied = Micrograms(40);
    round.client_carbon.wasted = Micrograms(20);
    round.client_carbon.clients = round.clients_completed;
    round.client_carbon.kind = IntensityKind::kAverage;
    round.client_carbon.basis = IntensityBasis::kObserved;
    round.client_carbon.source = "UK:13";
    round.server_operational = Micrograms(7);
  }
  const double rounds = static_cast<double>(run.rounds.size());
  const ReportCarbon recorded = MakeEnergyReport(run).carbon;
  EXPECT_DOUBLE_EQ(*recorded.operational_grams, rounds * 327e-6);
  EXPECT_EQ(recorded.embodied_grams, std::nullopt) << "the coordinator's is not known, and half a sum is none";
  EXPECT_EQ(recorded.g_per_kwh, std::nullopt) << "no single intensity held";
  EXPECT_EQ(recorded.source, "UK:13");
  for (RoundRecord& round : run.rounds) round.server_embodied = Micrograms(3);
  EXPECT_DOUBLE_EQ(*MakeEnergyReport(run).carbon.embodied_grams, rounds * 43e-6);
  EXPECT_EQ(MakeEnergyReport(run, {.g_per_kwh = 0}).carbon.operational_grams, 0);

  run.rounds.front().client_carbon.clients = 0;
  run.rounds.front().client_carbon.operational = std::nullopt;
  EXPECT_FALSE(MakeEnergyReport(run).carbon.complete);
}

TEST(EnergyReportTest, OperationsAreDerivedOnlyWhereEveryUpdateSaysItsWork) {
  RunRecord run{.rounds = {MakeRound(1, 0.5)}, .attempts = {MakeAttempt(1), MakeAttempt(1)}, .summary = MakeSummary()};
  run.summary->config = {{"training.local_epochs", "2", "default"}, {"training.local_steps", "0", "default"}};
  // 2 updates x 300 examples x 2 epochs x 199210 multiply-adds x 2 operations x 3 passes.
  EXPECT_EQ(MakeEnergyReport(run).train_flops, 2 * 300.0 * 2 * 199210 * 2 * 3);
  run.attempts[1].fit_macs.reset();
  EXPECT_EQ(MakeEnergyReport(run).train_flops, std::nullopt);
  run.attempts.pop_back();
  EXPECT_EQ(MakeEnergyReport(run).train_flops, std::nullopt) << "2 updates were accepted, 1 is in the record";
  run.attempts = {MakeAttempt(1), MakeAttempt(1)};
  run.summary->config[1].value = "5";
  EXPECT_EQ(MakeEnergyReport(run).train_flops, std::nullopt);
}

TEST(ProvenanceTest, NamesBoundaryCoverageAndTierShares) {
  RunRecord run{.rounds = {MakeRound(1, 0.5)}, .attempts = {MakeAttempt(1)}, .summary = MakeSummary()};
  auto lines = internal::ProvenanceLines(MakeEnergyReport(run));
  EXPECT_EQ(lines.front().first, "boundary");
  EXPECT_THAT(lines.front().second, HasSubstr("simulated devices"));
  EXPECT_THAT(lines, Contains(Pair("coverage", "metered 75.0 % of the clients' 2.00 s in attempts, 100.0 % of the coordinator's 2.50 s in rounds")));
  EXPECT_THAT(lines, Contains(Pair("tiers", "clients: component 25.0 %, generic (estimate) 75.0 %; 2 of 2 accepted updates came with joules; "
                                            "coordinator: component")));
  run.summary->simulated = false;
  lines = internal::ProvenanceLines(MakeEnergyReport(run));
  EXPECT_THAT(lines.front().second, HasSubstr("clients, tier component: processor packages"));
  EXPECT_THAT(lines[1].second, HasSubstr("clients, tier generic: processor time of the training process only"));

  lines = internal::ProvenanceLines(MakeEnergyReport(RunRecord{}));
  EXPECT_THAT(lines, Contains(Pair("coverage", "metered unknown of the clients' time in attempts, unknown of the coordinator's time in rounds")));
  EXPECT_THAT(lines, Contains(Pair("tiers", "no joules of clients known; 0 of 0 accepted updates came with joules; coordinator: missing")));
}

TEST(ProvenanceTest, AlmostAllIsNotAll) {
  EnergyReport report;
  report.client_seconds = 1e6;
  report.metered_client_seconds = 1e6 - 1;
  EXPECT_THAT(internal::ProvenanceText(report), HasSubstr("99.9 % of the clients'"));
}

}  // namespace
}  // namespace fedwatt
