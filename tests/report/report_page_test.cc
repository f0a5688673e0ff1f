#include <algorithm>

#include "absl/strings/str_cat.h"
#include "fedwatt/report/report.h"
#include "report/chart.h"
#include "tests/report/records.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::MakeAttempt;
using ::fedwatt::testing::MakeRound;
using ::fedwatt::testing::MakeSummary;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

RunRecord MakeRun() {
  RunRecord run{.rounds = {MakeRound(1, 0.5), MakeRound(2, 0.8), MakeRound(3, 0.75)}, .summary = MakeSummary()};
  run.summary->target_accuracy = 0.8;
  return run;
}

std::string Text(const RunRecord& run, RoundTableOptions options) { return RenderTextReport(run, MakeEnergyReport(run), options); }
std::string Html(const RunRecord& run) { return RenderHtmlReport(run, MakeEnergyReport(run)); }

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

TEST(TextReportTest, ShowsRoundsTotalsAndSources) {
  const std::string text = Text(MakeRun(), RoundTableOptions{.terminal = true});
  EXPECT_THAT(text, AllOf(HasSubstr("run-1"), HasSubstr("fedwatt-fleet --config a.toml"), HasSubstr("ok/late/fail")));
  EXPECT_THAT(text, HasSubstr("3 committed, 3 finished in 7.5 s"));
  EXPECT_THAT(text, HasSubstr("final 0.7500, best 0.8000"));
  EXPECT_THAT(text, HasSubstr("6 ok, 3 late, 0 failed"));
  EXPECT_THAT(text, HasSubstr("3.00 MB, 4.00x smaller than float32; 3.30 MB on the wire"));
  EXPECT_THAT(text, HasSubstr("~6.00 J, between 3.00 and 12.0; 1.50 J wasted"));
  EXPECT_THAT(text, HasSubstr("4.50 J (75.0%) estimated from processor time"));
  EXPECT_THAT(text, HasSubstr("1.50 J (25.0%) measured for a component"));
  EXPECT_THAT(text, HasSubstr("reached in round 2, after 2.00 MB up, 6.00 MB down, ~5.00 J"));
  EXPECT_THAT(text, HasSubstr("rapl: no powercap folder"));
}

TEST(TextReportTest, SaysWhatIsMissing) {
  RunRecord run{.rounds = {RoundRecord{.run_id = "run-2", .round = 1}}};
  const std::string text = Text(run, RoundTableOptions{});
  EXPECT_THAT(text, AllOf(HasSubstr("run-2  (no summary"), HasSubstr("clients' joules    not measured"),
                          HasSubstr("server's joules    not measured"), HasSubstr("final -, best -")));
  EXPECT_THAT(Text(RunRecord{}, RoundTableOptions{.terminal = true}), HasSubstr("0 committed"));
}

// Two accepted attempts at full width, one at a quarter, and one that does not count.
RunRecord MixedRun() {
  RunRecord run = MakeRun();
  AttemptRecord narrow = MakeAttempt(1), late = MakeAttempt(1);
  narrow.fit.width_fraction = 0.25;
  narrow.fit_parameter_count = 50000;
  narrow.train_loss = 1.5;
  narrow.phases = {narrow.phases[0]};
  narrow.phases[0].cpu = absl::Milliseconds(300);
  narrow.phases[0].energy.energy = Microjoules(250000);
  late.outcome = "late";
  AttemptRecord other = MakeAttempt(2);
  other.train_examples = 100;
  other.train_loss = 0.25;
  run.attempts = {narrow, MakeAttempt(1), late, other};
  return run;
}

TEST(TextReportTest, ShowsGramsWhoWasNotAskedAndWhatIsNotBelieved) {
  RunRecord run = MakeRun();
  EXPECT_THAT(Text(run, {}), AllOf(Not(HasSubstr("grams")), Not(HasSubstr("SCI")), Not(HasSubstr("not asked"))));
  for (RoundRecord& round : run.rounds) {
    round.client_carbon.kind = IntensityKind::kMarginal;
    for (int i = 0; i < 2; ++i) {
      round.client_carbon.Add({.operational = GramsOfCarbon(1), .embodied = GramsOfCarbon(0.5), .basis = IntensityBasis::kForecast, .source = "grid <1>", .age = absl::Hours(2)}, true);
    }
    round.client_carbon.Add({.operational = GramsOfCarbon(0.25), .basis = IntensityBasis::kObserved, .source = "grid <1>"}, false);
    round.refusals = {{"battery_floor", 4}};
    round.quarantines = {{"bytes_differ", 1}};
    round.client_energy_quarantined = Joules(9);
    round.deferred_seconds = 3600;
    round.budget_left = Joules(-5);
  }
  const std::string text = Text(run, {});
  EXPECT_THAT(text, HasSubstr("~6.00 g operational; ~0.750 g wasted"));
  EXPECT_THAT(text, HasSubstr("marginal intensity, partly forecast, from grid <1>, up to 2h old"));
  EXPECT_THAT(text, HasSubstr("~3.00 g embodied"));
  // (6 + 0.75 operational + 3 embodied) g over 3 rounds and over 6 updates.
  EXPECT_THAT(text, HasSubstr("~3.25 g a round, ~1.62 g an update"));
  EXPECT_THAT(text, AllOf(HasSubstr("not asked, battery_floor: 12"), HasSubstr("joules of 3 reports not believed: bytes_differ"), HasSubstr("27.0 J were claimed")));
  EXPECT_THAT(text, AllOf(HasSubstr("3h for budgets, batteries or cleaner hours"), HasSubstr("-5.00 J")));
  const std::string page = Html(run);
  EXPECT_THAT(page, AllOf(HasSubstr("grid &lt;1&gt;"), HasSubstr("battery_floor"), HasSubstr("bytes_differ"), Not(HasSubstr("grid <1>"))));
}

TEST(WidthTotalsTest, AddUpAcceptedAttemptsByWidth) {
  const std::vector<WidthTotals> widths = SumByWidth(MixedRun().attempts);
  ASSERT_EQ(widths.size(), 2u);
  EXPECT_EQ(widths[0].width_fraction, 1);
  EXPECT_EQ(widths[0].accepted, 2);
  EXPECT_EQ(widths[0].parameter_count, 199210);
  EXPECT_EQ(widths[0].train_examples, 400);
  EXPECT_DOUBLE_EQ(*widths[0].train_loss, (300 * 0.75 + 100 * 0.25) / 400);
  EXPECT_DOUBLE_EQ(widths[0].train_cpu_seconds, 2.5);
  EXPECT_EQ(widths[0].energy, std::nullopt) << "the upload's joules are not known";
  EXPECT_EQ(widths[0].uplink_payload_bytes, 1000000);
  EXPECT_EQ(widths[1].width_fraction, 0.25);
  EXPECT_EQ(widths[1].energy, Microjoules(250000));
  EXPECT_EQ(widths[1].energy_tier, EnergyTier::kGeneric);
  EXPECT_TRUE(SumByWidth({}).empty());
}

TEST(TextReportTest, ShowsWhatEachWidthCostOnlyWhereWidthsDiffer) {
  const std::string text = Text(MixedRun(), RoundTableOptions{.terminal = true});
  EXPECT_THAT(text, HasSubstr("by width           width          format         parameters     accepted       accuracy       J/update       loss"));
  EXPECT_THAT(text, HasSubstr("1.00           float32        199210         2              0.7500         -              0.6250         2.50           6.25           -              1.00           2.00\n"));
  EXPECT_THAT(text, HasSubstr("0.250          float32        50000          1              -              ~0.250         1.5000         0.300          1.00           ~0.250         0.500          1.00\n"));
  EXPECT_THAT(Html(MixedRun()), AllOf(HasSubstr("<h2>By width</h2>"), HasSubstr("<td>50000</td>")));
  RunRecord whole = MakeRun();
  whole.attempts = {MakeAttempt(1)};
  EXPECT_THAT(Text(whole, RoundTableOptions{.terminal = true}), Not(HasSubstr("by width")));
  EXPECT_THAT(Html(whole), Not(HasSubstr("By width")));
}

// The accuracy of a width is that of the last round that scored widths, the whole model's of that same round included.
TEST(WidthTotalsTest, AccuracyAgainstJoulesOfEachWidth) {
  RunRecord run = MixedRun();
  run.rounds = {MakeRound(1, 0.3), MakeRound(2, 0.8), MakeRound(3, 0.9)};
  run.rounds[1].eval_accuracy_by_width = {{"0.5", 0.75}, {"0.25", 0.7125}};
  const std::vector<WidthTotals> widths = SumByWidth(run.attempts, run.rounds);
  EXPECT_EQ(widths[0].accuracy, 0.8);
  EXPECT_EQ(widths[1].accuracy, 0.7125);
  EXPECT_EQ(SumByWidth(run.attempts)[1].accuracy, std::nullopt);
  EXPECT_THAT(Text(run, RoundTableOptions{.terminal = true}), HasSubstr("50000          1              0.7125         ~0.250"));
  // Only the narrow width's joules are known, so it alone is in the plot.
  EXPECT_THAT(Html(run), AllOf(HasSubstr("Accuracy against joules by width"), HasSubstr("width 0.25, float32: 0.7125 at 0.250 J an update"), Not(HasSubstr("width 1, float32"))));
  run.rounds[1].committed = false;
  EXPECT_EQ(AccuracyAtWidths(run.rounds), (std::map<std::string, double>{{"1", 0.9}})) << "an abandoned round has no model";
}

TEST(TextReportTest, SaysWhyNumberFormatsWereTakenOrDeclined) {
  RunRecord run = MixedRun();
  EXPECT_THAT(Text(run, RoundTableOptions{.terminal = true}), Not(HasSubstr("number formats")));
  run.attempts[0].fit.number_format = "bfloat16";
  run.attempts[0].fit_format_reason = "a step is 2.00 times as fast";
  for (size_t i : {1, 3}) run.attempts[i].fit_format_reason = "no <b>\x1b[31m instructions";
  run.attempts[2].fit_format_reason = "late, so not counted";
  const std::string text = Text(run, RoundTableOptions{.terminal = true});
  EXPECT_THAT(text, HasSubstr("number formats     float32, 2 attempts: no <b> [31m instructions\n"));
  EXPECT_THAT(text, HasSubstr("                   bfloat16, 1 attempt: a step is 2.00 times as fast\n"));
  EXPECT_THAT(text, AllOf(Not(HasSubstr("late, so")), HasSubstr("1.00           float32        199210"), HasSubstr("0.250          bfloat16       50000")));
  EXPECT_THAT(Html(run), AllOf(HasSubstr("<h2>Number formats</h2>"), HasSubstr("no &lt;b&gt;")));
  // Words without end make no page without end.
  run.attempts.clear();
  for (int i = 0; i < 100; ++i) run.attempts.emplace_back(MakeAttempt(1)).fit_format_reason = std::to_string(i);
  EXPECT_THAT(Text(run, RoundTableOptions{.terminal = true}), HasSubstr("and 95 other reasons"));
}

TEST(HtmlReportTest, IsOneSelfContainedPageWithItsCharts) {
  const std::string page = Html(MakeRun());
  EXPECT_THAT(page, ::testing::StartsWith("<!doctype html>"));
  EXPECT_EQ(Count(page, "<svg "), 7u);
  for (const char* outside : {"<script", "http://", "https://", "src=", "href=", "@import", "url("}) {
    EXPECT_THAT(page, Not(HasSubstr(outside))) << outside;
  }
  for (const char* title :
       {"Accuracy against rounds", "Accuracy against bytes", "Accuracy against joules", "(estimated)", "target 0.8",
        "round 2: 0.8000 at 8.00 MB", "round 2: 0.8000 at 5.00 J", "prefers-color-scheme:dark", "marked ~"}) {
    EXPECT_THAT(page, HasSubstr(title)) << title;
  }
}

TEST(HtmlReportTest, EscapesEverythingFromTheRecord) {
  RunRecord run = MakeRun();
  const std::string hostile = "<script>alert('x\"&')</script>";
  run.summary->run_id = run.summary->command = run.summary->version = hostile;
  run.summary->machine_facts[hostile] = hostile;
  run.summary->meters_refused[hostile] = hostile;
  run.summary->config.push_back({hostile, hostile, hostile});
  run.rounds[0].committed = false;
  run.rounds[0].reason = hostile;
  run.rounds[0].rejections[hostile] = 1;
  const std::string page = Html(run);
  EXPECT_THAT(page, AllOf(Not(HasSubstr("<script")), HasSubstr("&lt;script&gt;alert(&#39;x&quot;&amp;&#39;)&lt;/script&gt;")));
}

TEST(HtmlReportTest, JoulesEndWhereTheyAreNoLongerAllKnown) {
  RunRecord run = MakeRun();
  run.rounds[1].client_energy_clients = 1;
  const std::string page = Html(run);
  EXPECT_THAT(page, AllOf(HasSubstr("round 1: 0.5000 at 2.50 J"), Not(HasSubstr("round 2: 0.8000 at 5.00 J")),
                          Not(HasSubstr("round 3: 0.7500 at 7.50 J"))));
  EXPECT_THAT(page, HasSubstr("5 of 6 accepted updates came with joules"));
  EXPECT_THAT(page, HasSubstr("joules not all known"));
}

TEST(HtmlReportTest, MeasuredJoulesAreNotCalledEstimates) {
  RunRecord run = MakeRun();
  for (RoundRecord& round : run.rounds) {
    round.client_energy_tier = EnergyTier::kComponent;
    round.client_energy_by_tier = {{EnergyTier::kComponent, *round.client_energy}};
  }
  EXPECT_THAT(Html(run),
              AllOf(Not(HasSubstr("(estimated)")), Not(HasSubstr("marked ~")), HasSubstr("measured for a component")));
}

TEST(HtmlReportTest, RunsWithoutAnythingStillRender) {
  EXPECT_EQ(Count(Html(RunRecord{}), "not measured in this run"), 7u);
  RunRecord one{.rounds = {MakeRound(1, 0.5)}};
  EXPECT_THAT(Html(one), AllOf(HasSubstr("No summary"), Not(HasSubstr("nan")), Not(HasSubstr("inf"))));
}

TEST(ChartTest, TicksAreRoundAndCover) {
  EXPECT_THAT(internal::Ticks(0, 10, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(internal::Ticks(0.1, 0.9, 4), ::testing::Pointwise(::testing::DoubleNear(1e-12), {0.0, 0.2, 0.4, 0.6, 0.8, 1.0}));
  for (const auto& [low, high] :
       std::vector<std::pair<double, double>>{{0, 0}, {5, 5}, {-3, -3}, {0, 1e-9}, {-1, 1}, {0, 123456789}, {0.84, 0.8401}}) {
    const std::vector<double> ticks = internal::Ticks(low, high, 6);
    ASSERT_GE(ticks.size(), 2u);
    ASSERT_LE(ticks.size(), 14u);
    EXPECT_LE(ticks.front(), low + 1e-9);
    EXPECT_GE(ticks.back(), high - 1e-9);
    EXPECT_TRUE(std::is_sorted(ticks.begin(), ticks.end()));
  }
}

TEST(ChartTest, PointsLandWhereTheAxesSay) {
  const std::string svg =
      internal::RenderChart({.title = "t", .series = {{.name = "s", .points = {{0, 0, "first"}, {10, 10, "last"}}}}});
  // The plot spans x 58..546 and y 254..14.
  EXPECT_THAT(svg, HasSubstr("d=\"M58.0 254.0L546.0 14.0\""));
  EXPECT_THAT(svg, HasSubstr("<title>last</title>"));
}

}  // namespace
}  // namespace fedwatt
