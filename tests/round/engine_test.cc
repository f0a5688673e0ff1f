#include "fedwatt/round/engine.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

EngineOptions SmallRun() {
  EngineOptions options;
  options.run_id = "run";
  options.rounds = 2;
  options.clients_per_round = 2;
  options.wait_for_clients = 3;
  options.quorum = 0.5;
  options.deadline = absl::Seconds(60);
  return options;
}

// Drives an engine by hand and sorts what it asks for.
class Driver {
 public:
  explicit Driver(EngineOptions options) : engine_(*Engine::Create(std::move(options))) {}

  Effects Send(Event event, absl::Duration after = absl::ZeroDuration()) {
    now_ += after;
    Effects effects = engine_.Handle(event, now_);
    Note(effects);
    return effects;
  }
  void Note(const Effects& effects) {
    for (const Effect& effect : effects) {
      if (const auto* remember = std::get_if<Remember>(&effect)) Keep(remember->entries);
      if (const auto* timer = std::get_if<SetTimer>(&effect)) timer_ = timer->at;
      if (const auto* start = std::get_if<StartAttempt>(&effect)) started.push_back(*start);
      if (const auto* fold = std::get_if<Fold>(&effect)) folds.push_back(fold->attempt);
      if (const auto* end = std::get_if<EndAttempt>(&effect)) ended.push_back(*end);
      if (const auto* publish = std::get_if<Publish>(&effect)) {
        published.push_back(publish->record);
        Keep(publish->memory);
      }
      if (const auto* abandon = std::get_if<Abandon>(&effect)) {
        abandoned.push_back(abandon->record);
        Keep(abandon->memory);
      }
      if (const auto* finish = std::get_if<Finish>(&effect)) finished = *finish;
      if (std::holds_alternative<Aggregate>(effect)) ++aggregates;
      if (const auto* evaluate = std::get_if<Evaluate>(&effect)) evaluated = *evaluate;
    }
  }
  // Goes on with the round that the memory holds.
  void Resume(bool closed = false) { Note(engine_.Resume(now_, closed)); }
  void Keep(const Memory& entries) {
    for (const auto& [key, value] : entries) memory[key] = value;
  }
  // As if the timer that was asked for had come.
  Effects SendTimer() { return Send(Tick{}, timer_ - now_); }
  absl::Time now() const { return now_; }
  absl::Time timer() const { return timer_; }
  void Join(int count) {
    for (int i = 0; i < count; ++i) Send(MemberJoined{i, absl::StrCat("client-", i)});
  }
  void Accept(const std::string& attempt, int64_t examples = 10) {
    Send(UpdateArrived{attempt});
    Send(FoldFinished{attempt, absl::OkStatus(), examples});
  }
  void Commit(double accuracy = 0.5) {
    Send(AggregateFinished{absl::OkStatus(), "digest"});
    EvaluateFinished evaluation;
    evaluation.accuracy = accuracy;
    Send(evaluation);
    Send(PublishFinished{absl::OkStatus()});
  }
  std::vector<std::string> OutcomesOf(const std::string& attempt) const {
    std::vector<std::string> outcomes;
    for (const EndAttempt& end : ended) {
      if (end.attempt == attempt) outcomes.push_back(end.outcome);
    }
    return outcomes;
  }

  const Engine& engine() const { return engine_; }
  std::map<std::string, std::string> memory;
  std::vector<StartAttempt> started;
  std::vector<std::string> folds;
  std::vector<EndAttempt> ended;
  std::vector<RoundRecord> published, abandoned;
  std::optional<Evaluate> evaluated;
  std::optional<Finish> finished;
  int aggregates = 0;

 private:
  Engine engine_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
  absl::Time timer_;
};

// ---- Budgets.

EngineOptions Budgeted() {
  EngineOptions options = SmallRun();
  options.rounds = 100;
  options.clients_per_round = 1;
  options.wait_for_clients = 1;
  options.quorum = 1;
  options.evaluates = false;
  options.budget.max_power = Watts(1);  // 90 J at worst: 60 s and the half minute in which a client hears of the end
  return options;
}

// One round of one client that says it took `joules`.
void OneRound(Driver& driver, std::optional<Energy> energy) {
  const std::string attempt = driver.started.back().attempt;
  driver.Send(UpdateArrived{attempt, energy});
  driver.Send(FoldFinished{attempt, absl::OkStatus(), 10, 0.5});
  driver.Send(AggregateFinished{absl::OkStatus(), "digest"});
  driver.Send(PublishFinished{absl::OkStatus()});
}

TEST(EngineBudgetTest, EndsTheRunWhenTheFederationHasSpentItsJoules) {
  EngineOptions options = Budgeted();
  options.budget.federation = Joules(250);
  Driver driver(options);
  driver.Join(1);
  int rounds = 0;
  while (!driver.finished && rounds < 50) {
    OneRound(driver, Joules(40));
    ++rounds;
  }
  ASSERT_TRUE(driver.finished.has_value());
  EXPECT_THAT(driver.finished->reason, HasSubstr("joules are spent"));
  EXPECT_THAT(driver.finished->status, IsOk());
  EXPECT_EQ(rounds, 6);  // 240 J; a seventh would take more than the 10 J that are left
  EXPECT_EQ(driver.engine().state().budget.federation().spent(), 240'000'000);
  EXPECT_EQ(driver.published.back().budget_left, Joules(10));
}

TEST(EngineBudgetTest, ChargesASilentAttemptTheMostThatItCanHaveTaken) {
  EngineOptions options = Budgeted();
  options.budget.federation = Joules(1000);
  options.budget.max_power = Watts(2);
  Driver driver(options);
  driver.Join(1);
  driver.Send(AttemptFailed{driver.started.back().attempt, Rejection::kDisconnected}, absl::Seconds(7));
  EXPECT_EQ(driver.engine().state().budget.federation().spent(), 14'000'000);
  EXPECT_EQ(driver.engine().state().histories.at("client-0/0").cost_count, 0);  // a bound is no measurement
}

TEST(EngineBudgetTest, WaitsForTheDayThatAClientHasSpent) {
  EngineOptions options = Budgeted();
  options.budget.client_per_day = Joules(100);
  Driver driver(options);
  driver.Join(1);
  OneRound(driver, Joules(60));
  EXPECT_THAT(driver.started, SizeIs(1));
  EXPECT_EQ(driver.timer(), absl::FromUnixSeconds(86400));
  driver.SendTimer();
  ASSERT_THAT(driver.started, SizeIs(2));
  OneRound(driver, Joules(10));
  EXPECT_DOUBLE_EQ(*driver.published.back().deferred_seconds, 86400 - 1000);
  EXPECT_EQ(driver.published.back().deferral_reason, "client_budget 1");
}

TEST(EngineBudgetTest, AsksNobodyBelowTheBatteryFloor) {
  EngineOptions options = Budgeted();
  options.budget.battery_floor = 0.5;
  options.wait_for_clients = 2;
  Driver driver(options);
  driver.Join(1);
  driver.Send(MemberSupply{0, 0.4, false});
  driver.Send(MemberJoined{1, "client-1"});
  ASSERT_THAT(driver.started, SizeIs(1));
  EXPECT_EQ(driver.started[0].partition, 1);
  driver.Send(MemberSupply{1, 0.2, false});
  OneRound(driver, std::nullopt);
  EXPECT_THAT(driver.published.back().refusals, ElementsAre(std::make_pair("battery_floor", 1)));
  EXPECT_THAT(driver.started, SizeIs(1));  // both are too low now
  driver.Send(MemberSupply{0, 0.4, true});  // plugged in
  ASSERT_THAT(driver.started, SizeIs(2));
  EXPECT_EQ(driver.started[1].partition, 0);
}

TEST(EngineBudgetTest, TakesAsManyAsTheRoundsJoulesAllow) {
  EngineOptions options = Budgeted();
  options.clients_per_round = 4;
  options.wait_for_clients = 4;
  options.quorum = 0.25;
  options.budget.per_round = Joules(200);
  Driver driver(options);
  driver.Join(4);
  EXPECT_THAT(driver.started, SizeIs(2));  // 90 J each at worst
  options.budget.per_round = Joules(80);
  Driver poor(options);
  poor.Join(4);
  ASSERT_TRUE(poor.finished.has_value());
  EXPECT_THAT(poor.finished->status, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("budget.round_joules")));
}

TEST(EngineBudgetTest, ARestartNeitherForgetsNorSpendsTwice) {
  EngineOptions options = Budgeted();
  options.budget.federation = Joules(1000);
  options.budget.client_per_day = Joules(500);
  options.selection.policy = "round_robin";
  options.wait_for_clients = 2;
  Driver driver(options);
  driver.Join(2);
  OneRound(driver, Joules(40));
  const int64_t first = driver.started[0].partition;
  ASSERT_THAT(driver.started, SizeIs(2));  // the second attempt is under way when the coordinator dies
  EngineOptions again = options;
  again.memory = driver.memory;
  again.next_round = 2;
  again.incarnation = 1;
  Driver after(again);
  EXPECT_EQ(after.engine().state().budget.federation().spent(), 130'000'000);  // 40 J, and 90 J that may have gone
  after.Join(2);
  ASSERT_THAT(after.started, SizeIs(1));
  // Both have been asked once, in rounds 1 and 2: the one of round 1 waited longer.
  EXPECT_EQ(after.started[0].partition, first);
  again.memory["client-0/0"] = "rubbish";
  EXPECT_THAT(Engine::Create(again), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("rubbish")));
}

TEST(EngineBudgetTest, AMemberThatComesBackIsStillTheOneThatSpent) {
  EngineOptions options = Budgeted();
  options.budget.client_per_day = Joules(100);
  Driver driver(options);
  driver.Join(1);
  OneRound(driver, Joules(90));
  driver.Send(MemberLeft{0});
  driver.Join(1);
  EXPECT_THAT(driver.started, SizeIs(1));
}

TEST(EngineBudgetTest, PutsARoundOffForCleanerHoursAsLongAsThereIsSlack) {
  std::vector<IntensityRow> rows;
  const double hours[] = {500, 400, 100, 600, 600, 600};
  for (int hour = 0; hour < 6; ++hour) {
    IntensityRow row{.start = absl::FromUnixSeconds(3600 * hour), .end = absl::FromUnixSeconds(3600 * (hour + 1)), .zone = "T", .g_per_kwh = hours[hour], .source = "t"};
    row.issued = absl::UnixEpoch();
    rows.push_back(row);
  }
  EngineOptions options = Budgeted();
  options.rounds = 1;
  options.deadline = absl::Minutes(30);
  options.carbon = std::make_shared<const CarbonModel>(*CarbonModel::Create({*ParseCarbonSite("t zone=T")}, rows, IntensityKind::kAverage, std::nullopt));
  options.selection.policy = "carbon_aware";
  options.selection.slack = absl::Hours(5);
  Driver driver(options);
  driver.Send(MemberJoined{0, "client-0", 0});
  EXPECT_THAT(driver.started, SizeIs(0));
  EXPECT_GE(driver.timer(), absl::FromUnixSeconds(7200));
  EXPECT_LT(driver.timer(), absl::FromUnixSeconds(10800));
  driver.Send(MemberJoined{1, "client-1", 0});  // news do not open it early
  EXPECT_THAT(driver.started, SizeIs(0));
  driver.SendTimer();
  ASSERT_THAT(driver.started, SizeIs(1));
  OneRound(driver, Joules(10));
  EXPECT_EQ(driver.published[0].deferral_reason, "cleaner electricity");
  EXPECT_EQ(driver.engine().state().deferred, absl::Seconds(*driver.published[0].deferred_seconds));
  EngineOptions hasty = options;
  hasty.selection.slack = absl::ZeroDuration();
  Driver now(hasty);
  now.Send(MemberJoined{0, "client-0", 0});
  EXPECT_THAT(now.started, SizeIs(1));
}

TEST(EngineTest, WaitsForTheCompanyBeforeTheFirstRound) {
  Driver driver(SmallRun());
  driver.Join(2);
  EXPECT_THAT(driver.started, SizeIs(0));
  driver.Send(MemberJoined{2, "client-2"});
  EXPECT_THAT(driver.started, SizeIs(2));
  EXPECT_EQ(driver.engine().Snapshot().phase, RoundPhase::kCollect);
}

TEST(EngineTest, RunsTwoRoundsToTheEnd) {
  Driver driver(SmallRun());
  driver.Join(3);
  driver.Accept(driver.started[0].attempt, 30);
  EXPECT_EQ(driver.aggregates, 0);
  driver.Accept(driver.started[1].attempt, 12);
  EXPECT_EQ(driver.aggregates, 1);
  driver.Commit();
  ASSERT_THAT(driver.published, SizeIs(1));
  EXPECT_EQ(driver.published[0].train_examples, 42);
  EXPECT_EQ(driver.published[0].clients_completed, 2);
  EXPECT_EQ(driver.published[0].model_digest, "digest");
  ASSERT_THAT(driver.started, SizeIs(4));
  EXPECT_NE(driver.started[2].attempt, driver.started[0].attempt);
  driver.Accept(driver.started[2].attempt);
  driver.Accept(driver.started[3].attempt);
  driver.Commit();
  ASSERT_TRUE(driver.finished.has_value());
  EXPECT_FALSE(driver.finished->target_reached);
  EXPECT_THAT(driver.engine().finished(), true);
}

TEST(EngineTest, SelectionDoesNotDependOnOrderOfArrival) {
  EngineOptions options = SmallRun();
  options.wait_for_clients = 20;
  options.clients_per_round = 7;
  Driver forwards(options), backwards(options);
  for (int i = 0; i < 20; ++i) forwards.Send(MemberJoined{i, "a"});
  for (int i = 19; i >= 0; --i) backwards.Send(MemberJoined{i, "a"});
  ASSERT_THAT(forwards.started, SizeIs(7));
  for (int i = 0; i < 7; ++i) EXPECT_EQ(forwards.started[i].partition, backwards.started[i].partition);
}

TEST(EngineTest, CommitsAtTheDeadlineWithAQuorum) {
  Driver driver(SmallRun());
  driver.Join(3);
  driver.Accept(driver.started[0].attempt);
  driver.Send(Tick{}, absl::Seconds(59));
  EXPECT_EQ(driver.aggregates, 0);
  driver.Send(Tick{}, absl::Seconds(1));
  EXPECT_EQ(driver.aggregates, 1);
  EXPECT_THAT(driver.OutcomesOf(driver.started[1].attempt), ElementsAre("late"));
  driver.Commit();
  EXPECT_EQ(driver.published[0].clients_late, 1);
  EXPECT_EQ(driver.published[0].rejections.at("late"), 1);
}

TEST(EngineTest, AbandonsBelowQuorumAndGoesOn) {
  EngineOptions options = SmallRun();
  options.quorum = 1;
  Driver driver(options);
  driver.Join(3);
  driver.Accept(driver.started[0].attempt);
  driver.Send(Tick{}, absl::Seconds(60));
  ASSERT_THAT(driver.abandoned, SizeIs(1));
  EXPECT_THAT(driver.abandoned[0].reason, HasSubstr("1 accepted, 2 needed"));
  EXPECT_THAT(driver.started, SizeIs(4));
  EXPECT_EQ(driver.started[2].round, 2);
}

TEST(EngineTest, ThoseWhoJoinLaterDoNotRaiseTheQuorum) {
  EngineOptions options = SmallRun();
  options.clients_per_round = 0;
  options.wait_for_clients = 2;
  Driver driver(options);
  driver.Join(2);
  for (int i = 2; i < 12; ++i) driver.Send(MemberJoined{i, "late joiner"});
  driver.Accept(driver.started[0].attempt);
  driver.Accept(driver.started[1].attempt);
  EXPECT_EQ(driver.aggregates, 1);
  EXPECT_THAT(driver.abandoned, SizeIs(0));
}

TEST(EngineTest, AFoldUnderWayAtTheDeadlineIsAwaited) {
  Driver driver(SmallRun());
  driver.Join(3);
  driver.Accept(driver.started[0].attempt);
  driver.Send(UpdateArrived{driver.started[1].attempt});
  driver.Send(Tick{}, absl::Seconds(60));
  EXPECT_EQ(driver.aggregates, 0);
  driver.Send(FoldFinished{driver.started[1].attempt, absl::OkStatus(), 10});
  EXPECT_EQ(driver.aggregates, 1);
  EXPECT_THAT(driver.OutcomesOf(driver.started[1].attempt), ElementsAre("accepted"));
}

TEST(EngineTest, ARefusedUpdateCostsItsSenderAndNotTheRound) {
  Driver driver(SmallRun());
  driver.Join(3);
  driver.Send(UpdateArrived{driver.started[0].attempt});
  driver.Send(FoldFinished{driver.started[0].attempt, WithRejection(absl::InvalidArgumentError("NaN"), Rejection::kNotFinite)});
  driver.Accept(driver.started[1].attempt);
  EXPECT_EQ(driver.aggregates, 1);
  driver.Commit();
  EXPECT_EQ(driver.published[0].clients_rejected, 1);
  EXPECT_EQ(driver.published[0].rejections.at("not_finite"), 1);
  EXPECT_THAT(driver.OutcomesOf(driver.started[0].attempt), ElementsAre("rejected"));
}

TEST(EngineTest, OverSelectionKeepsSparesUntilTheAimIsSure) {
  EngineOptions options = SmallRun();
  options.over_selection = 0.5;
  Driver driver(options);
  driver.Join(3);
  ASSERT_THAT(driver.started, SizeIs(3));
  for (const StartAttempt& start : driver.started) driver.Send(UpdateArrived{start.attempt});
  EXPECT_THAT(driver.folds, SizeIs(2));  // the third is a spare
  driver.Send(FoldFinished{driver.folds[0], WithRejection(absl::InvalidArgumentError("bad"), Rejection::kGarbage)});
  ASSERT_THAT(driver.folds, SizeIs(3));  // and is needed now
  driver.Send(FoldFinished{driver.folds[1], absl::OkStatus(), 10});
  driver.Send(FoldFinished{driver.folds[2], absl::OkStatus(), 10});
  EXPECT_EQ(driver.aggregates, 1);
}

TEST(EngineTest, SurplusUpdatesAreCancelledNotCountedAgainstAnyone) {
  EngineOptions options = SmallRun();
  options.over_selection = 0.5;
  Driver driver(options);
  driver.Join(3);
  driver.Accept(driver.started[0].attempt);
  driver.Accept(driver.started[1].attempt);
  EXPECT_EQ(driver.aggregates, 1);
  EXPECT_THAT(driver.OutcomesOf(driver.started[2].attempt), ElementsAre("cancelled"));
  driver.Commit();
  EXPECT_EQ(driver.published[0].clients_late, 0);
  EXPECT_TRUE(driver.published[0].rejections.empty());
}

TEST(EngineTest, ALostMemberEndsItsAttemptOnceAndFreesTheRound) {
  Driver driver(SmallRun());
  driver.Join(3);
  driver.Accept(driver.started[0].attempt);
  driver.Send(MemberLeft{driver.started[1].partition});
  EXPECT_EQ(driver.aggregates, 1);
  EXPECT_THAT(driver.OutcomesOf(driver.started[1].attempt), ElementsAre("dropped"));
  driver.Send(AttemptFailed{driver.started[1].attempt, Rejection::kClientError});
  EXPECT_THAT(driver.OutcomesOf(driver.started[1].attempt), ElementsAre("dropped"));
}

TEST(EngineTest, EverythingThatComesTwiceOrTooLateIsHarmless) {
  Driver driver(SmallRun());
  driver.Join(3);
  driver.Accept(driver.started[0].attempt);
  driver.Accept(driver.started[0].attempt);
  driver.Send(UpdateArrived{"nonsense"});
  driver.Send(FoldFinished{"nonsense", absl::OkStatus(), 5});
  driver.Send(AggregateFinished{absl::OkStatus(), "x"});
  driver.Send(PublishFinished{absl::OkStatus()});
  EXPECT_EQ(driver.engine().Snapshot().accepted, 1);
  EXPECT_EQ(driver.aggregates, 0);
  EXPECT_THAT(driver.OutcomesOf(driver.started[0].attempt), ElementsAre("accepted"));
}

TEST(EngineTest, StopsAtTheTarget) {
  EngineOptions options = SmallRun();
  options.target_accuracy = 0.8;
  Driver driver(options);
  driver.Join(3);
  driver.Accept(driver.started[0].attempt);
  driver.Accept(driver.started[1].attempt);
  driver.Commit(0.8);
  ASSERT_TRUE(driver.finished.has_value());
  EXPECT_TRUE(driver.finished->target_reached);
}

TEST(EngineTest, EvaluatesWhenDueAndAlwaysInTheLastRound) {
  EngineOptions options = SmallRun();
  options.evaluate_every = 5;
  Driver driver(options);
  driver.Join(3);
  driver.Accept(driver.started[0].attempt);
  driver.Accept(driver.started[1].attempt);
  driver.Send(AggregateFinished{absl::OkStatus(), "digest"});
  EXPECT_FALSE(driver.evaluated.has_value());
  driver.Send(PublishFinished{absl::OkStatus()});
  driver.Accept(driver.started[2].attempt);
  driver.Accept(driver.started[3].attempt);
  driver.Send(AggregateFinished{absl::OkStatus(), "digest"});
  ASSERT_TRUE(driver.evaluated.has_value());
  EXPECT_EQ(driver.evaluated->round, 2);
  EXPECT_THAT(driver.evaluated->partitions, SizeIs(2));
}

TEST(EngineTest, StopAbandonsTheOpenRoundAndFinishes) {
  Driver driver(SmallRun());
  driver.Join(3);
  driver.Send(StopRequested{"SIGTERM"});
  EXPECT_THAT(driver.abandoned, SizeIs(1));
  ASSERT_TRUE(driver.finished.has_value());
  EXPECT_EQ(driver.finished->reason, "SIGTERM");
  EXPECT_THAT(driver.ended, SizeIs(2));
}

TEST(EngineTest, StopDuringACommitFinishesTheCommitFirst) {
  Driver driver(SmallRun());
  driver.Join(3);
  driver.Accept(driver.started[0].attempt);
  driver.Accept(driver.started[1].attempt);
  driver.Send(StopRequested{"SIGTERM"});
  EXPECT_FALSE(driver.finished.has_value());
  driver.Commit();
  EXPECT_THAT(driver.published, SizeIs(1));
  ASSERT_TRUE(driver.finished.has_value());
  EXPECT_EQ(driver.finished->reason, "SIGTERM");
}

TEST(EngineTest, AModelThatCouldNotBeStoredEndsTheRun) {
  Driver driver(SmallRun());
  driver.Join(3);
  driver.Accept(driver.started[0].attempt);
  driver.Accept(driver.started[1].attempt);
  driver.Send(AggregateFinished{absl::OkStatus(), "digest"});
  driver.Send(EvaluateFinished{});
  driver.Send(PublishFinished{absl::ResourceExhaustedError("disk full")});
  ASSERT_TRUE(driver.finished.has_value());
  EXPECT_THAT(driver.finished->status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("disk full")));
}

TEST(EngineTest, ContinuesWithTheNextRoundAndTellsEarlierAttemptsApart) {
  EngineOptions options = SmallRun();
  Driver first(options);
  first.Join(3);
  options.incarnation = 1;
  Driver second(options);
  second.Join(3);
  EXPECT_EQ(first.started[0].partition, second.started[0].partition);
  EXPECT_NE(first.started[0].attempt, second.started[0].attempt);
  options.next_round = 3;  // beyond the last
  Driver done(options);
  done.Send(Tick{});
  EXPECT_TRUE(done.finished.has_value());
}

// Seeded hostile histories: whatever comes in whatever order, the engine keeps its promises.
class EngineFuzzTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(EngineFuzzTest, KeepsItsPromises) {
  Random random(GetParam());
  EngineOptions options = SmallRun();
  options.rounds = 6;
  options.clients_per_round = 1 + static_cast<int64_t>(random.Below(4));
  options.over_selection = random.Uniform();
  Driver driver(options);
  std::set<std::string> in_fold;
  bool aggregating = false, evaluating = false, publishing = false;
  size_t seen_starts = 0;
  for (int step = 0; step < 600 && !driver.finished.has_value(); ++step) {
    Event event = Tick{};
    const std::string attempt = driver.started.empty() ? "none" : driver.started[random.Below(driver.started.size())].attempt;
    switch (random.Below(8)) {
      case 0: event = MemberJoined{static_cast<int64_t>(random.Below(6)), "c"}; break;
      case 1: if (random.Below(4) == 0) event = MemberLeft{static_cast<int64_t>(random.Below(6))}; break;
      case 2: event = UpdateArrived{attempt}; break;
      case 3: event = AttemptFailed{attempt, Rejection::kClientError}; break;
      case 4:
        if (!in_fold.empty()) {
          const std::string folded = *in_fold.begin();
          in_fold.erase(folded);
          event = FoldFinished{folded, random.Below(3) == 0 ? absl::InvalidArgumentError("bad") : absl::OkStatus(), 1};
        }
        break;
      case 5: if (aggregating) { event = AggregateFinished{absl::OkStatus(), "d"}; aggregating = false; } break;
      case 6: if (evaluating) { event = EvaluateFinished{}; evaluating = false; } break;
      case 7: if (publishing) { event = PublishFinished{absl::OkStatus()}; publishing = false; } break;
    }
    for (const Effect& effect : driver.Send(event, absl::Seconds(random.Below(10)))) {
      if (const auto* fold = std::get_if<Fold>(&effect)) in_fold.insert(fold->attempt);
      if (std::holds_alternative<Aggregate>(effect)) {
        EXPECT_TRUE(in_fold.empty()) << "aggregated while an update was being added";
        aggregating = true;
      }
      if (std::holds_alternative<Evaluate>(effect)) evaluating = true;
      if (std::holds_alternative<Publish>(effect)) publishing = true;
    }
    seen_starts = driver.started.size();
  }
  // Nobody is ended twice, nobody is accepted beyond the aim, nobody unknown is ended.
  std::map<std::string, int> ends;
  std::map<int64_t, int64_t> accepted;
  for (const EndAttempt& end : driver.ended) {
    EXPECT_EQ(++ends[end.attempt], 1) << end.attempt;
    if (end.outcome == "accepted") {
      EXPECT_LE(++accepted[end.round], options.clients_per_round);
    }
  }
  EXPECT_LE(ends.size(), seen_starts);
  for (const RoundRecord& record : driver.published) EXPECT_GE(record.clients_completed, 1);
}

INSTANTIATE_TEST_SUITE_P(Seeds, EngineFuzzTest, ::testing::Range<uint64_t>(1, 200));

TEST(EngineOptionsTest, RefusesEveryBadValueByName) {
  const auto refused = [](auto change, std::string_view name) {
    EngineOptions options = SmallRun();
    change(options);
    EXPECT_THAT(Engine::Create(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(name))));
  };
  refused([](EngineOptions& o) { o.run_id = ""; }, "id");
  refused([](EngineOptions& o) { o.rounds = 0; }, "rounds");
  refused([](EngineOptions& o) { o.clients_per_round = -1; }, "clients_per_round");
  refused([](EngineOptions& o) { o.wait_for_clients = 0; }, "wait_for_clients");
  for (double bad : {0.0, -1.0, 1.01, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    refused([bad](EngineOptions& o) { o.quorum = bad; }, "quorum");
    refused([bad](EngineOptions& o) { o.target_accuracy = bad; }, "target_accuracy");
  }
  refused([](EngineOptions& o) { o.deadline = absl::ZeroDuration(); }, "deadline");
  refused([](EngineOptions& o) { o.over_selection = std::numeric_limits<double>::quiet_NaN(); }, "over_selection");
  refused([](EngineOptions& o) { o.evaluate_every = 0; }, "evaluate_every");
  EngineOptions unknown = SmallRun();
  unknown.selection.policy = "unifrom";
  EXPECT_THAT(Engine::Create(unknown), StatusIs(absl::StatusCode::kNotFound, HasSubstr("did you mean 'uniform'")));
}

// ---- Widths by measurement: full width costs 100 multiply-adds, half 25, a quarter 10.

EngineOptions Measured() {
  EngineOptions options = Budgeted();
  options.budget.max_power = Watts(0);
  options.fit.policy = "by_budget";
  options.fit.widths = {1, 0.5, 0.25};
  return options;
}
const ModelShaped kShape{{{100, 100}, {25, 50}, {10, 25}}};

// A round of one client whose training takes 1 s and 0.2 s a multiply-add, and 0.1 J a multiply-add.
double MeasuredRound(Driver& driver, bool meters = true) {
  const StartAttempt start = driver.started.back();
  const double macs = start.width == 1 ? 100 : start.width == 0.5 ? 25 : 10;
  UpdateArrived arrived{start.attempt, std::nullopt, absl::Seconds(1 + 0.2 * macs)};
  if (meters) arrived.energy = Joules(0.1 * macs);
  driver.Send(arrived, absl::Seconds(1 + 0.2 * macs));
  driver.Send(FoldFinished{start.attempt, absl::OkStatus(), 10, 0.5});
  driver.Send(AggregateFinished{absl::OkStatus(), "digest"});
  driver.Send(PublishFinished{absl::OkStatus()});
  return start.width;
}

// At a quarter 3 s; in proportion 7.5 s at half, 30 s at full width. Full width really takes 21 s.
TEST(EngineFitTest, WidensAsMeasurementsAllow) {
  EngineOptions options = Measured();
  options.deadline = absl::Seconds(30);
  Driver driver(options);
  driver.Send(kShape);
  driver.Join(1);
  EXPECT_EQ(driver.started.back().expected_seconds, std::nullopt);
  EXPECT_EQ(MeasuredRound(driver), 0.25);
  EXPECT_DOUBLE_EQ(*driver.started.back().expected_seconds, 7.5);
  EXPECT_EQ(driver.started.back().expected_energy, Joules(2.5));
  EXPECT_EQ(MeasuredRound(driver), 0.5);
  EXPECT_DOUBLE_EQ(*driver.started.back().expected_seconds, 21);
  EXPECT_EQ(MeasuredRound(driver), 1);
  EXPECT_EQ(MeasuredRound(driver), 1);
}

TEST(EngineFitTest, WhoIsLateGetsLess) {
  EngineOptions options = Measured();
  options.fit.first = 1;
  options.deadline = absl::Seconds(10);
  Driver driver(options);
  driver.Send(kShape);
  driver.Join(1);
  EXPECT_EQ(driver.started.back().width, 1);
  driver.SendTimer();
  EXPECT_THAT(driver.OutcomesOf(driver.started[0].attempt), ElementsAre("late"));
  EXPECT_EQ(MeasuredRound(driver), 0.5);
  EXPECT_EQ(MeasuredRound(driver), 0.5) << "6 s, and a quarter more";
  // Work that was cut short is as late as none.
  driver.Send(UpdateArrived{driver.started.back().attempt, std::nullopt, absl::Seconds(1), /*finished=*/false});
  driver.Send(FoldFinished{driver.started.back().attempt, absl::OkStatus(), 10, 0.5});
  driver.Send(AggregateFinished{absl::OkStatus(), "digest"});
  driver.Send(PublishFinished{absl::OkStatus()});
  EXPECT_EQ(driver.started.back().width, 0.25);
}

TEST(EngineFitTest, WhoDeclinesAFitGetsLess) {
  EngineOptions options = Measured();
  options.fit.first = 1;
  Driver driver(options);
  driver.Send(kShape);
  driver.Join(1);
  driver.Send(AttemptFailed{driver.started.back().attempt, Rejection::kClientError, std::nullopt, /*too_much=*/true});
  EXPECT_EQ(MeasuredRound(driver), 0.5);
  // Any other failure says nothing of the width.
  driver.Send(AttemptFailed{driver.started.back().attempt, Rejection::kClientError});
  EXPECT_EQ(driver.started.size(), 4u);
  EXPECT_EQ(driver.started.back().width, 0.5);
}

// 10 J a day: full width takes 10 J, and a quarter more is not left; half takes 2.5 J three times, then a quarter 1 J, then it is not asked until midnight.
TEST(EngineFitTest, TheDaysJoulesNarrowTheFitBeforeTheyKeepTheClientOut) {
  EngineOptions options = Measured();
  options.budget.client_per_day = Joules(10);
  options.budget.max_power = Watts(1);
  Driver driver(options);
  driver.Send(kShape);
  driver.Join(1);
  std::vector<double> widths;
  while (widths.size() < driver.started.size()) widths.push_back(MeasuredRound(driver));
  EXPECT_THAT(widths, ElementsAre(0.25, 0.5, 0.5, 0.5, 0.25)) << "1, 3.5, 6, 8.5 and 9.5 J; then 0.5 J is left and 1.25 J are needed";
  driver.SendTimer();
  for (int i = 0; i < 24 * 60 && widths.size() == driver.started.size(); ++i) driver.SendTimer();
  ASSERT_EQ(driver.started.size(), widths.size() + 1) << "the next day";
  EXPECT_GE(driver.now(), absl::UnixEpoch() + absl::Hours(24));
}

TEST(EngineFitTest, WhoMeetsNoWidthIsNotAskedAndTheRecordSaysSo) {
  EngineOptions options = Measured();
  options.clients_per_round = 2;
  options.wait_for_clients = 2;
  options.quorum = 0.5;
  options.deadline = absl::Seconds(10);
  Driver driver(options);
  driver.Send(kShape);
  driver.Join(2);
  for (int round = 0; round < 2; ++round) {
    for (const StartAttempt& start : std::vector<StartAttempt>(driver.started.end() - (round == 0 ? 2 : 1), driver.started.end())) {
      // The second one takes 9 s at the narrowest width: beyond four fifths of the deadline.
      driver.Send(UpdateArrived{start.attempt, std::nullopt, absl::Seconds(1)}, start.partition == 1 ? absl::Seconds(8) : absl::Seconds(1));
      driver.Send(FoldFinished{start.attempt, absl::OkStatus(), 10});
    }
    driver.Send(AggregateFinished{absl::OkStatus(), "digest"});
    driver.Send(PublishFinished{absl::OkStatus()});
  }
  ASSERT_THAT(driver.published, SizeIs(2));
  EXPECT_TRUE(driver.published[0].refusals.empty());
  EXPECT_EQ(driver.published[1].refusals.at("no_width"), 1);
  EXPECT_EQ(driver.published[1].clients_selected, 1);
}

// A client that lies about its seconds and joules gains or loses by itself.
TEST(EngineFitTest, ALiarChangesItsOwnFitAlone) {
  EngineOptions options = Measured();
  options.clients_per_round = 2;
  options.wait_for_clients = 2;
  options.budget.client_per_day = Joules(1e6);
  options.budget.max_power = Watts(1e3);
  const auto widths = [&](const UpdateArrived& lie) {
    Driver driver(options);
    driver.Send(kShape);
    driver.Join(2);
    for (int round = 0; round < 3; ++round) {
      const std::vector<StartAttempt> cohort(driver.started.end() - 2, driver.started.end());
      for (const StartAttempt& start : cohort) {
        UpdateArrived arrived{start.attempt, Joules(1), absl::Seconds(1)};
        if (start.partition == 1) arrived = {start.attempt, lie.energy, lie.training};
        driver.Send(arrived);
        driver.Send(FoldFinished{start.attempt, absl::OkStatus(), 10});
      }
      driver.Send(AggregateFinished{absl::OkStatus(), "digest"});
      driver.Send(PublishFinished{absl::OkStatus()});
      if (driver.started.size() % 2 != 0) break;
    }
    std::vector<double> honest;
    for (const StartAttempt& start : driver.started) {
      if (start.partition == 0) honest.push_back(start.width);
    }
    honest.resize(3);
    return honest;
  };
  const std::vector<double> expected = widths({"", Joules(1), absl::Seconds(1)});
  EXPECT_EQ(widths({"", Joules(8e12), absl::InfiniteDuration()}), expected);
  EXPECT_EQ(widths({"", Joules(0), absl::ZeroDuration()}), expected);
  EXPECT_EQ(widths({"", std::nullopt, -absl::InfiniteDuration()}), expected);
  EXPECT_EQ(widths({"", Joules(-5), absl::Seconds(-1e300)}), expected);
}

TEST(EngineFitTest, MeasurementsOutliveTheCoordinator) {
  EngineOptions options = Measured();
  options.deadline = absl::Seconds(30);
  Driver driver(options);
  driver.Send(kShape);
  driver.Join(1);
  EXPECT_EQ(MeasuredRound(driver), 0.25);
  options.memory = driver.memory;
  options.next_round = 2;
  Driver again(options);
  again.Send(kShape);
  again.Join(1);
  EXPECT_EQ(again.started.back().width, driver.started.back().width);
  EXPECT_EQ(again.started.back().expected_seconds, driver.started.back().expected_seconds);
  // A damaged memory is said, not trusted.
  for (auto& [key, value] : options.memory) value += " 1";
  EXPECT_THAT(Engine::Create(options), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("damaged")));
}

// ---- A round that outlives its coordinator.

EngineOptions Resumable() {
  EngineOptions options = SmallRun();
  options.rounds = 1;
  options.over_selection = 0.5;
  options.remembers_rounds = true;
  options.budget.federation = Joules(10'000);
  options.budget.per_round = Joules(9'000);
  options.budget.max_power = Watts(10);
  return options;
}

// Accepts with joules and the instant at which the update came.
void AcceptAt(Driver& driver, const std::string& attempt, absl::Time at) {
  driver.Send(UpdateArrived{attempt, Joules(20), std::nullopt, true, at});
  driver.Send(FoldFinished{attempt, absl::OkStatus(), 10, 0.5});
}

// What of the engine's state outlasts the round.
std::map<std::string, std::string> Books(const Driver& driver) {
  std::map<std::string, std::string> books = driver.memory;
  books.erase("#round");
  return books;
}

TEST(EngineResumeTest, ARoundThatIsResumedEndsAsIfNothingHadHappened) {
  Driver undisturbed(Resumable());
  undisturbed.Join(3);
  ASSERT_EQ(undisturbed.started.size(), 3u);
  const std::map<std::string, std::string> opened = undisturbed.memory;
  const absl::Time first = undisturbed.now() + absl::Seconds(5);
  undisturbed.Send(Tick{}, absl::Seconds(5));
  AcceptAt(undisturbed, undisturbed.started[2].attempt, first);
  undisturbed.Send(AttemptFailed{undisturbed.started[0].attempt, Rejection::kClientError, Joules(3)});
  undisturbed.Send(Tick{}, absl::Seconds(5));
  AcceptAt(undisturbed, undisturbed.started[1].attempt, first + absl::Seconds(5));
  undisturbed.Commit();

  // Killed after the first two verdicts, and away for half an hour.
  EngineOptions options = Resumable();
  options.memory = opened;
  options.incarnation = 1;
  ASSERT_TRUE(Engine::Create(options)->resumes());
  Driver driver(options);
  driver.Send(MemberJoined{1, "client-1"}, absl::Minutes(30));
  driver.Resume();
  ASSERT_EQ(driver.started.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(driver.started[i].attempt, undisturbed.started[i].attempt);
    EXPECT_EQ(driver.started[i].width, undisturbed.started[i].width);
    EXPECT_EQ(driver.started[i].deadline, driver.now() + options.deadline);  // nobody could report meanwhile
  }
  AcceptAt(driver, driver.started[2].attempt, first);
  driver.Send(AttemptFailed{driver.started[0].attempt, Rejection::kClientError, Joules(3)});
  EXPECT_EQ(driver.aggregates, 0);
  AcceptAt(driver, driver.started[1].attempt, first + absl::Seconds(5));
  EXPECT_EQ(driver.aggregates, 1);
  driver.Commit();

  ASSERT_EQ(driver.published.size(), 1u);
  const RoundRecord &record = driver.published[0], &expected = undisturbed.published[0];
  EXPECT_EQ(record.started_at, expected.started_at);
  EXPECT_EQ(record.clients_selected, expected.clients_selected);
  EXPECT_EQ(record.clients_completed, 2);
  EXPECT_EQ(record.clients_dropped, expected.clients_dropped);
  EXPECT_EQ(record.train_examples, expected.train_examples);
  EXPECT_EQ(record.budget_left, expected.budget_left);
  std::map<std::string, std::string> books = Books(driver), right = Books(undisturbed);
  books.erase("#schedule");  // it did take half an hour longer
  right.erase("#schedule");
  EXPECT_EQ(books, right);
  EXPECT_EQ(driver.finished->reason, "all rounds done");
}

TEST(EngineResumeTest, AClosedRoundTakesNothingMore) {
  Driver before(Resumable());
  before.Join(3);
  EngineOptions options = Resumable();
  options.memory = before.memory;
  Driver driver(options);
  driver.Resume(/*closed=*/true);
  AcceptAt(driver, driver.started[1].attempt, driver.now());
  // One of an aim of two, and the quorum: the rest is late.
  EXPECT_EQ(driver.aggregates, 1);
  std::map<std::string, int> outcomes;
  for (const EndAttempt& end : driver.ended) ++outcomes[end.outcome];
  EXPECT_EQ(outcomes, (std::map<std::string, int>{{"accepted", 1}, {"late", 2}}));
}

// Found by fault simulation: a negative span was remembered, and the next start refused to read it.
TEST(EngineResumeTest, AClockThatWasSetBackMakesNoSpanNegative) {
  Driver before(Resumable());
  before.Join(3);
  EngineOptions options = Resumable();
  options.memory = before.memory;
  Engine engine = *Engine::Create(options);
  const absl::Time yesterday = before.now() - absl::Hours(24);
  engine.Resume(yesterday, /*closed=*/false);
  Effects effects;
  for (int i = 0; i < 2; ++i) {
    const std::string attempt = before.started[static_cast<size_t>(i)].attempt;
    engine.Handle(UpdateArrived{attempt}, yesterday);
    effects = engine.Handle(FoldFinished{attempt, absl::OkStatus(), 10}, yesterday);
  }
  effects = engine.Handle(AggregateFinished{absl::OkStatus(), "digest"}, yesterday);
  effects = engine.Handle(EvaluateFinished{}, yesterday);
  ASSERT_EQ(effects.size(), 1u);
  const Publish& publish = std::get<Publish>(effects[0]);
  EXPECT_EQ(publish.record.wall_seconds, 0);
  for (const auto& [key, value] : publish.memory) options.memory[key] = value;
  options.next_round = 2;
  EXPECT_TRUE(Engine::Create(options).ok());
}

TEST(EngineResumeTest, AFinishedRoundIsNotResumed) {
  Driver before(Resumable());
  before.Join(3);
  for (int i = 0; i < 2; ++i) before.Accept(before.started[static_cast<size_t>(i)].attempt);
  before.Commit();
  EngineOptions options = Resumable();
  options.rounds = 2;
  options.next_round = 2;
  options.memory = before.memory;
  EXPECT_FALSE(Engine::Create(options)->resumes());
}

TEST(EngineResumeTest, WithoutTheOptionARestartForfeitsWhatWasUnderWay) {
  EngineOptions options = Resumable();
  options.remembers_rounds = false;
  Driver before(options);
  before.Join(3);
  options.memory = before.memory;
  ASSERT_OK_AND_ASSIGN(Engine engine, Engine::Create(options));
  EXPECT_FALSE(engine.resumes());
  EXPECT_EQ(engine.state().budget.federation().spent(), 3 * Joules(10 * (60 + 30)).microjoules());
}

TEST(EngineResumeTest, ADamagedRoundIsSaid) {
  Driver before(Resumable());
  before.Join(3);
  const std::string good = before.memory.at("#round");
  EngineOptions options = Resumable();
  for (const std::string& bad : {std::string(), std::string("2 1 1 1 1 1 - "), good.substr(0, 10), good.substr(0, good.size() / 2), good + "more\n", good + good.substr(good.find('\n') + 1)}) {
    options.memory = before.memory;
    options.memory["#round"] = bad;
    EXPECT_THAT(Engine::Create(options), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("damaged"))) << bad;
  }
}

}  // namespace
}  // namespace fedwatt
