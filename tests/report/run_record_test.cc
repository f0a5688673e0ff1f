#include "fedwatt/report/run_record.h"

#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/report/records.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::MakeAttempt;
using ::fedwatt::testing::MakeRound;
using ::fedwatt::testing::MakeSummary;
using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

class RunRecordTest : public ::testing::Test {
 protected:
  RunRecordTest() {
    folder_ = std::filesystem::path(::testing::TempDir()) /
              absl::StrCat("record_", ::testing::UnitTest::GetInstance()->current_test_info()->name(), "_", getpid());
  }
  ~RunRecordTest() override { std::filesystem::remove_all(folder_); }

  std::string Slurp(const std::string& name) const {
    std::ostringstream out;
    out << std::ifstream(folder_ / name).rdbuf();
    return out.str();
  }
  void Spill(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(folder_);
    std::ofstream(folder_ / name) << text;
  }
  std::unique_ptr<RunRecordWriter> Open() { return *RunRecordWriter::Open(folder_); }
  Json Line(const std::string& name) const { return Json::parse(Slurp(name)); }
  Json WriteAndParse(const RoundRecord& record) {
    EXPECT_THAT(Open()->WriteRound(record), IsOk());
    const std::string text = Slurp("rounds.jsonl");
    const size_t begin = text.rfind('\n', text.size() - 2);
    return Json::parse(text.substr(begin == std::string::npos ? 0 : begin + 1));
  }
  static std::vector<std::string> Keys(const Json& json) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : json.items()) keys.push_back(key);
    return keys;
  }

  std::filesystem::path folder_;
};

// The names are an interface: one that changes breaks other people's scripts.
TEST_F(RunRecordTest, RoundLineHasExactlyTheseFields) {
  const Json json = WriteAndParse(MakeRound(1, 0.5));
  EXPECT_THAT(
      Keys(json),
      ElementsAre("schema", "run_id", "round", "outcome", "started_at", "finished_at", "wall_seconds", "select_seconds",
                  "collect_seconds", "aggregate_seconds", "evaluate_seconds", "virtual_seconds", "clients_selected",
                  "clients_completed", "clients_rejected", "clients_late", "clients_dropped", "rejections", "refusals", "deferred_seconds", "deferral_reason",
                  "budget_left_uj", "budget_carbon_left_ug", "train_examples",
                  "train_loss", "eval_accuracy", "eval_loss", "eval_examples", "federated_eval_accuracy", "federated_eval_loss",
                  "federated_eval_examples", "eval_accuracy_by_width", "uplink_payload_bytes", "downlink_payload_bytes", "uplink_wire_bytes",
                  "downlink_wire_bytes", "uplink_header_bytes", "downlink_header_bytes", "uplink_dense_bytes", "downlink_dense_bytes", "client_energy_uj", "client_energy_low_uj",
                  "client_energy_high_uj", "client_energy_clients", "client_energy_wasted_uj", "client_energy_tier",
                  "client_energy_by_tier_uj", "client_train_seconds", "client_cpu_seconds",
                  "client_energy_quarantined_uj", "quarantines", "client_energy_suspect_uj", "clients_suspect", "ledger_root", "client_operational_ug",
                  "client_embodied_ug", "client_wasted_ug", "client_water_l", "client_carbon_clients", "carbon_kind", "carbon_basis",
                  "carbon_source", "carbon_age_seconds", "server_operational_ug", "server_embodied_ug", "server_energy_uj",
                  "server_energy_tier", "server_energy_source", "server_cpu_seconds", "peak_rss_bytes", "model_digest", "model_parameters", "server_phases"));
  EXPECT_EQ(json["schema"], "fedwatt.round.v1");
  EXPECT_EQ(json["outcome"], "committed");
  EXPECT_EQ(json["started_at"], "2023-11-14T22:13:30+00:00");
  EXPECT_EQ(json["finished_at"], "2023-11-14T22:13:32.5+00:00");
  EXPECT_EQ(json["rejections"], (Json{{"late", 1}}));
  EXPECT_TRUE(json["client_energy_uj"].is_number_integer());
  EXPECT_EQ(json["client_energy_uj"], 2000000);
  EXPECT_EQ(json["client_energy_by_tier_uj"]["component"], 500000);
  EXPECT_EQ(json["client_energy_tier"], "generic");
  EXPECT_TRUE(json["federated_eval_accuracy"].is_null());
}

TEST_F(RunRecordTest, WhatWasNotMeasuredIsNullNeverZero) {
  RoundRecord record;
  record.reason = "quorum not reached";
  const Json json = WriteAndParse(record);
  EXPECT_EQ(json["outcome"], "abandoned");
  EXPECT_EQ(json["reason"], "quorum not reached");
  for (const char* key : {"train_loss", "eval_accuracy", "eval_loss", "eval_examples", "uplink_wire_bytes", "downlink_wire_bytes",
                          "uplink_header_bytes", "downlink_header_bytes", "client_energy_uj", "client_energy_low_uj", "client_energy_high_uj", "client_energy_wasted_uj",
                          "server_energy_uj", "peak_rss_bytes", "client_operational_ug", "client_embodied_ug", "client_wasted_ug",
                          "client_water_l", "carbon_kind", "carbon_age_seconds", "server_operational_ug", "server_embodied_ug"}) {
    EXPECT_TRUE(json[key].is_null()) << key;
  }
  EXPECT_EQ(json["client_energy_tier"], "missing");
  EXPECT_EQ(json["server_energy_tier"], "missing");
  EXPECT_EQ(json["carbon_basis"], "missing");
  RoundRecord broken = MakeRound(2, std::nan(""));
  broken.train_loss = std::numeric_limits<double>::infinity();
  const Json nan = WriteAndParse(broken);
  EXPECT_TRUE(nan["eval_accuracy"].is_null());
  EXPECT_TRUE(nan["train_loss"].is_null());
}

TEST_F(RunRecordTest, AttemptLineHasExactlyTheseFields) {
  ASSERT_THAT(Open()->WriteAttempt(MakeAttempt(1)), IsOk());
  const Json json = Line("clients.jsonl");
  EXPECT_THAT(Keys(json),
              ElementsAre("schema", "round", "client", "partition", "attempt", "outcome", "reason", "train_examples",
                          "train_loss", "completed_work", "uplink_payload_bytes", "downlink_payload_bytes", "uplink_wire_bytes",
                          "downlink_wire_bytes", "uplink_header_bytes", "downlink_header_bytes", "codec_uplink", "codec_downlink", "site", "energy_class", "quarantine", "suspicion", "ledger_sequence", "ledger_head", "operational_ug", "embodied_ug", "water_l", "carbon_basis",
                          "g_per_kwh", "carbon_source", "carbon_age_seconds", "fit", "phases", "between"));
  EXPECT_EQ(json["schema"], "fedwatt.attempt.v1");
  EXPECT_THAT(Keys(json["fit"]), ElementsAre("width_fraction", "kept_parameters", "number_format", "number_format_reason", "macs_per_example", "declined_reason", "expected_seconds", "expected_energy_uj"));
  EXPECT_THAT(Keys(json["phases"][0]), ElementsAre("phase", "seconds", "cpu_seconds", "energy_uj", "tier", "source", "gross_uj", "idle_uj"));
  EXPECT_EQ(json["phases"][0]["phase"], "train");
  EXPECT_EQ(json["phases"][0]["seconds"], 1.5);
  EXPECT_EQ(json["phases"][0]["energy_uj"], 1000000);
  EXPECT_TRUE(json["phases"][1]["energy_uj"].is_null());
  EXPECT_EQ(json["phases"][1]["tier"], "missing");
  EXPECT_TRUE(json["uplink_wire_bytes"].is_null());
}

TEST_F(RunRecordTest, KeepsGramsAndReadsRecordsWithoutThem) {
  RoundRecord round = MakeRound(1, 0.5);
  CarbonReading useful{.operational = Micrograms(1000), .embodied = Micrograms(300), .basis = IntensityBasis::kObserved, .source = "grid", .age = absl::ZeroDuration()};
  CarbonReading wasted{.operational = Micrograms(50), .embodied = Micrograms(7), .basis = IntensityBasis::kForecast, .source = "grid", .age = absl::Hours(2)};
  round.client_carbon.kind = IntensityKind::kAverage;
  round.client_carbon.Add(useful, true);
  round.client_carbon.Add(CarbonReading{.embodied = Micrograms(11)}, true);  // grams not known: counted in no sum
  round.client_carbon.Add(wasted, false);
  AttemptRecord attempt = MakeAttempt(1);
  attempt.site = "london";
  attempt.carbon = useful;
  attempt.carbon.g_per_kwh = 120.5;
  {
    const auto writer = Open();
    ASSERT_THAT(writer->WriteRound(round), IsOk());
    ASSERT_THAT(writer->WriteAttempt(attempt), IsOk());
  }
  const Json json = Line("rounds.jsonl");
  EXPECT_EQ(json["client_operational_ug"], 1000);
  EXPECT_EQ(json["client_embodied_ug"], 311);
  EXPECT_EQ(json["client_wasted_ug"], 50);
  EXPECT_EQ(json["client_carbon_clients"], 1);
  EXPECT_EQ(json["carbon_basis"], "forecast");
  EXPECT_EQ(json["carbon_age_seconds"], 7200);
  ASSERT_OK_AND_ASSIGN(const RunRecord run, ReadRunRecord(folder_.string()));
  EXPECT_EQ(run.rounds[0].client_carbon.operational, Micrograms(1000));
  EXPECT_EQ(run.rounds[0].client_carbon.basis, IntensityBasis::kForecast);
  EXPECT_EQ(run.attempts[0].site, "london");
  EXPECT_EQ(run.attempts[0].carbon.g_per_kwh, 120.5);
  // One of two accepted attempts has no grams, so no score can be given.
  EXPECT_FALSE(RunSci(SumRounds(run.rounds), 1).has_value());
  round.client_carbon.clients = 2;
  // (1000 + 50 operational + 311 embodied) micrograms over 2 units.
  EXPECT_NEAR(*RunSci(SumRounds({round}), 2), 1361e-6 / 2, 1e-12);

  Json old = json;
  for (const char* key : {"client_operational_ug", "client_embodied_ug", "client_wasted_ug", "client_water_l", "client_carbon_clients", "carbon_kind", "carbon_basis",
                          "carbon_source", "carbon_age_seconds", "server_operational_ug", "server_embodied_ug"}) {
    old.erase(key);
  }
  std::ofstream(folder_ / "rounds.jsonl") << old.dump() << "\n";
  ASSERT_OK_AND_ASSIGN(const RunRecord earlier, ReadRunRecord(folder_.string()));
  EXPECT_FALSE(earlier.rounds[0].client_carbon.operational.has_value());
}

TEST_F(RunRecordTest, SummaryHoldsTotalsAndOrigins) {
  const auto writer = Open();
  RoundRecord simulated = MakeRound(2, 0.75);
  simulated.uplink_wire_bytes = std::nullopt;
  ASSERT_THAT(writer->WriteRound(MakeRound(1, 0.875)), IsOk());
  ASSERT_THAT(writer->WriteRound(simulated), IsOk());
  EXPECT_EQ(writer->best_accuracy(), 0.875);
  ASSERT_THAT(writer->WriteSummary(MakeSummary()), IsOk());
  const Json json = Line("summary.json");
  EXPECT_EQ(json["schema"], "fedwatt.summary.v1");
  EXPECT_EQ(json["rounds_committed"], 2);
  EXPECT_EQ(json["uplink_payload_bytes"], 2000000);
  EXPECT_TRUE(json["uplink_wire_bytes"].is_null());
  EXPECT_EQ(json["downlink_wire_bytes"], 6600000);
  EXPECT_EQ(json["client_energy_uj"], 4000000);
  EXPECT_EQ(json["client_energy_wasted_uj"], 1000000);
  EXPECT_EQ(json["client_energy_by_tier_uj"]["generic"], 3000000);
  EXPECT_EQ(json["server_energy_uj"], 1400000);
  EXPECT_EQ(json["peak_rss_bytes"], 200000002);
  EXPECT_EQ(json["final_accuracy"], 0.75);
  EXPECT_EQ(json["best_accuracy"], 0.875);
  EXPECT_EQ(json["rejections"]["late"], 2);
  EXPECT_EQ(json["seed"], 7);
  EXPECT_EQ(json["config"]["seed"]["origin"], "file a.toml:1");
  EXPECT_EQ(json["machine"]["cpu"], "Some CPU");
  EXPECT_EQ(json["machine"]["meters_refused"]["rapl"], "no powercap folder");
  EXPECT_EQ(json.count("target_accuracy"), 0u);
  EXPECT_TRUE(json["model_channels"].is_null());
  RunSummary summary = MakeSummary();
  summary.target_accuracy = 0.8;
  ASSERT_THAT(writer->WriteSummary(summary), IsOk());
  const Json with_target = Line("summary.json");
  EXPECT_EQ(with_target["rounds_to_target"], 1);
  EXPECT_EQ(with_target["joules_to_target"], 2.5);
  EXPECT_EQ(with_target["uplink_bytes_to_target"], 1000000);
  EXPECT_EQ(with_target["downlink_bytes_to_target"], 3000000);
  summary.target_accuracy = 0.9;
  ASSERT_THAT(writer->WriteSummary(summary), IsOk());
  EXPECT_TRUE(Line("summary.json")["rounds_to_target"].is_null());
  EXPECT_TRUE(Line("summary.json")["joules_to_target"].is_null());
}

TEST_F(RunRecordTest, ReadsBackWhatWasWritten) {
  {
    const auto writer = Open();
    ASSERT_THAT(writer->WriteRound(MakeRound(1, 0.1 + 0.2)), IsOk());
    RoundRecord abandoned;
    abandoned.round = 2;
    abandoned.reason = "quorum";
    ASSERT_THAT(writer->WriteRound(abandoned), IsOk());
    ASSERT_THAT(writer->WriteAttempt(MakeAttempt(1)), IsOk());
    RunSummary summary = MakeSummary();
    summary.model_channels = "12 groups with 2880 channels can be dropped";
    ASSERT_THAT(writer->WriteSummary(summary), IsOk());
  }
  ASSERT_OK_AND_ASSIGN(const RunRecord run, ReadRunRecord(folder_));
  ASSERT_EQ(run.rounds.size(), 2u);
  const RoundRecord& round = run.rounds[0];
  EXPECT_EQ(round.eval_accuracy, 0.1 + 0.2);
  EXPECT_EQ(round.finished_at, MakeRound(1, 0).finished_at);
  EXPECT_EQ(round.client_energy_by_tier, MakeRound(1, 0).client_energy_by_tier);
  EXPECT_EQ(round.server_energy.source, "rapl");
  EXPECT_EQ(round.peak_rss_bytes, 200000001);
  EXPECT_EQ(round.model_parameters, 199210);
  EXPECT_FALSE(run.rounds[1].committed);
  EXPECT_EQ(run.rounds[1].reason, "quorum");
  EXPECT_EQ(run.rounds[1].client_energy, std::nullopt);
  ASSERT_EQ(run.attempts.size(), 1u);
  EXPECT_EQ(run.attempts[0].fit_parameter_count, 199210);
  ASSERT_EQ(run.attempts[0].phases.size(), 2u);
  EXPECT_EQ(run.attempts[0].phases[0].wall, absl::Milliseconds(1500));
  EXPECT_TRUE(run.attempts[0].phases[1].energy.missing());
  ASSERT_TRUE(run.summary.has_value());
  EXPECT_EQ(run.summary->config.size(), 2u);
  EXPECT_EQ(run.summary->config[0].key, "federation.rounds");
  EXPECT_EQ(run.summary->meters_refused.at("rapl"), "no powercap folder");
  EXPECT_TRUE(run.summary->simulated);
  EXPECT_EQ(run.summary->target_accuracy, std::nullopt);
  EXPECT_EQ(run.summary->model_channels, "12 groups with 2880 channels can be dropped");
}

TEST_F(RunRecordTest, ReopeningContinuesAndCutsATornLine) {
  ASSERT_THAT(Open()->WriteRound(MakeRound(1, 0.9)), IsOk());
  ASSERT_THAT(Open()->WriteAttempt(MakeAttempt(1)), IsOk());
  const std::string whole = Slurp("rounds.jsonl"), attempts = Slurp("clients.jsonl");
  Spill("rounds.jsonl", whole + whole.substr(0, whole.size() / 2));
  Spill("clients.jsonl", attempts + "{\"sch");
  // A reader beside a running writer skips the unfinished line.
  ASSERT_OK_AND_ASSIGN(const RunRecord torn, ReadRunRecord(folder_));
  EXPECT_EQ(torn.rounds.size(), 1u);
  const auto writer = Open();
  EXPECT_EQ(Slurp("rounds.jsonl"), whole);
  EXPECT_EQ(Slurp("clients.jsonl"), attempts);
  EXPECT_EQ(writer->best_accuracy(), 0.9);
  ASSERT_THAT(writer->WriteRound(MakeRound(2, 0.5)), IsOk());
  ASSERT_THAT(writer->WriteSummary(MakeSummary()), IsOk());
  EXPECT_EQ(Line("summary.json")["rounds_committed"], 2);
}

TEST_F(RunRecordTest, CutsATornLineLongerThanAnyBufferAndATornFirstLine) {
  ASSERT_THAT(Open()->WriteRound(MakeRound(1, 0.9)), IsOk());
  const std::string whole = Slurp("rounds.jsonl");
  Spill("rounds.jsonl", whole + std::string(100000, 'x'));
  Open();
  EXPECT_EQ(Slurp("rounds.jsonl"), whole);
  Spill("rounds.jsonl", std::string(100000, 'x'));
  Open();
  EXPECT_EQ(Slurp("rounds.jsonl"), "");
}

TEST_F(RunRecordTest, DamageIsNamedByFileLineAndField) {
  ASSERT_THAT(Open()->WriteRound(MakeRound(1, 0.9)), IsOk());
  const std::string good = Slurp("rounds.jsonl");
  const auto damaged = [&](const std::string& line, const char* words) {
    Spill("rounds.jsonl", good + line + "\n");
    const auto matches = StatusIs(absl::StatusCode::kDataLoss, AllOf(HasSubstr("rounds.jsonl:2: "), HasSubstr(words)));
    EXPECT_THAT(ReadRunRecord(folder_), matches) << line;
    EXPECT_THAT(RunRecordWriter::Open(folder_), matches) << line;
  };
  const auto with = [&](const char* key, Json value) {
    Json json = Json::parse(good);
    json[key] = std::move(value);
    return json.dump();
  };
  const auto without = [&](const char* key) {
    Json json = Json::parse(good);
    json.erase(key);
    return json.dump();
  };
  damaged("", "not a JSON object");
  damaged("{", "not a JSON object");
  damaged("[1]", "not a JSON object");
  damaged("\xff\xfe", "not a JSON object");
  damaged("{}", "field 'schema': is missing");
  damaged(with("schema", "fedwatt.round.v2"), "expected fedwatt.round.v1");
  damaged(without("round"), "field 'round': is missing");
  damaged(with("round", "1"), "field 'round': expected an integer");
  damaged(with("round", 1.5), "field 'round': expected an integer");
  damaged(with("round", std::numeric_limits<uint64_t>::max()), "field 'round': expected an integer");
  damaged(with("round", nullptr), "field 'round'");
  damaged(with("outcome", "done"), "field 'outcome'");
  damaged(with("started_at", "yesterday"), "field 'started_at'");
  damaged(with("wall_seconds", "2"), "field 'wall_seconds': expected a number");
  damaged(with("eval_accuracy", "high"), "field 'eval_accuracy'");
  damaged(with("client_energy_tier", "guess"), "field 'client_energy_tier'");
  damaged(with("client_energy_by_tier_uj", Json{{"guess", 1}}), "field 'client_energy_by_tier_uj'");
  damaged(with("rejections", Json{{"late", -0.5}}), "field 'rejections'");
}

TEST_F(RunRecordTest, UnknownFieldsAreFromTheFutureAndSkipped) {
  ASSERT_THAT(Open()->WriteRound(MakeRound(1, 0.9)), IsOk());
  Json json = Line("rounds.jsonl");
  json["new_in_a_later_release"] = 3;
  Spill("rounds.jsonl", json.dump() + "\n");
  EXPECT_THAT(ReadRunRecord(folder_), IsOk());
}

TEST_F(RunRecordTest, NoRecordIsNotFound) {
  EXPECT_THAT(ReadRunRecord("/nonexistent"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent/rounds.jsonl")));
}

TEST_F(RunRecordTest, HostileNamesStayInsideTheirLine) {
  AttemptRecord attempt = MakeAttempt(1);
  attempt.client = "a\n{\"schema\": \"\xff\"}\n";
  ASSERT_THAT(Open()->WriteAttempt(attempt), IsOk());
  const std::string text = Slurp("clients.jsonl");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_EQ(Json::parse(text)["client"], "a\n{\"schema\": \"\xef\xbf\xbd\"}\n");
}

TEST(RunTotalsTest, PartialEnergyIsCountedAsPartial) {
  RoundRecord missing = MakeRound(2, 0.9);
  missing.client_energy = missing.client_energy_low = missing.client_energy_high = std::nullopt;
  missing.client_energy_clients = 0;
  missing.client_energy_tier = EnergyTier::kMissing;
  missing.server_energy = EnergyReading();
  const RunTotals totals = SumRounds({MakeRound(1, 0.5), missing});
  EXPECT_EQ(totals.client_energy, Microjoules(2000000));
  EXPECT_EQ(totals.client_energy_low, Microjoules(1000000));
  EXPECT_EQ(totals.client_energy_clients, 2);
  EXPECT_EQ(totals.clients_completed, 4);
  EXPECT_EQ(totals.client_energy_tier, EnergyTier::kGeneric);
  EXPECT_EQ(totals.server_energy, std::nullopt);
  EXPECT_EQ(totals.server_energy_tier, EnergyTier::kMissing);
  const RunTotals none = SumRounds({});
  EXPECT_EQ(none.client_energy, std::nullopt);
  EXPECT_EQ(none.final_accuracy, std::nullopt);
  EXPECT_EQ(none.uplink_wire_bytes, std::nullopt);
}

TEST(RunTotalsTest, ARoundRepeatedAfterACrashCostsTwiceAndCountsOnce) {
  const RunTotals totals = SumRounds({MakeRound(1, 0.5), MakeRound(1, 0.5)});
  EXPECT_EQ(totals.rounds_committed, 1);
  EXPECT_EQ(totals.client_energy, Microjoules(4000000));
}

TEST(RunTotalsTest, AbandonedRoundsCostButDoNotScore) {
  RoundRecord abandoned = MakeRound(1, 0.99);
  abandoned.committed = false;
  const std::vector<RoundRecord> rounds = {abandoned, MakeRound(2, 0.8)};
  EXPECT_EQ(SumRounds(rounds).best_accuracy, 0.8);
  EXPECT_EQ(SumRounds(rounds).rounds_committed, 1);
  const TargetFigures figures = FiguresToTarget(rounds, 0.8);
  EXPECT_EQ(figures.rounds, 2);
  EXPECT_EQ(figures.client_energy, Microjoules(5000000));  // two rounds of 2 J useful and 0.5 J wasted
  EXPECT_EQ(figures.uplink_bytes, 2000000);
}

TEST(RunTotalsTest, EnergyToTargetIsUnknownWhenAnythingBeforeItIs) {
  const auto energy_of = [](const RoundRecord& first) { return FiguresToTarget({first, MakeRound(2, 0.9)}, 0.9).client_energy; };
  EXPECT_EQ(energy_of(MakeRound(1, 0.1)), Microjoules(5000000));
  RoundRecord one_unmetered = MakeRound(1, 0.1);
  one_unmetered.client_energy_clients = 1;
  EXPECT_EQ(energy_of(one_unmetered), std::nullopt);
  RoundRecord waste_unknown = MakeRound(1, 0.1);
  waste_unknown.client_energy_wasted = std::nullopt;
  EXPECT_EQ(energy_of(waste_unknown), std::nullopt);
  waste_unknown.clients_late = 0;  // nothing failed, nothing wasted
  EXPECT_EQ(energy_of(waste_unknown), Microjoules(4500000));
  RoundRecord nobody = MakeRound(1, 0.1);
  nobody.clients_completed = nobody.clients_late = nobody.client_energy_clients = 0;
  nobody.client_energy = nobody.client_energy_wasted = std::nullopt;
  EXPECT_EQ(energy_of(nobody), Microjoules(2500000));
  // What comes after the target does not matter.
  EXPECT_EQ(FiguresToTarget({MakeRound(1, 0.9), one_unmetered}, 0.9).client_energy, Microjoules(2500000));
}

TEST(RunTotalsTest, FederatedAccuracyStandsInForCentral) {
  RoundRecord record = MakeRound(1, 0.5);
  record.federated_eval_accuracy = 0.25;
  EXPECT_EQ(AccuracyOf(record), 0.5);
  record.eval_accuracy = std::nullopt;
  EXPECT_EQ(AccuracyOf(record), 0.25);
  record.committed = false;
  EXPECT_EQ(AccuracyOf(record), std::nullopt);
}

}  // namespace
}  // namespace fedwatt
