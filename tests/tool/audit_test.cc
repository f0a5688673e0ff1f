// fedwatt audit: what it finds, how it says it, and what it refuses to say.
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "audit/findings.h"
#include "audit/metering.h"
#include "fedwatt/model/torch/architecture.h"
#include "fedwatt/base/file.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "tests/testing/status_matchers.h"
#include "tests/tool/run_tool.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::ExpectUsage;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::Outcome;
using ::fedwatt::testing::ToolTest;
using ::testing::HasSubstr;
using ::testing::Not;
using tool::Findings;
using tool::FindingsJson;
using tool::FindingsText;

TaskCost Cost(const std::string& way, Interval cpu, std::optional<Interval> ratio = {}) {
  return {.way = way, .work = "training", .cpu_seconds = cpu, .joules = Interval{cpu.estimate * 10, cpu.low * 10, cpu.high * 10, 5}, .cpu_ratio = ratio, .joule_ratio = ratio};
}

// Three ways: one that is clearly cheaper, one of which nothing is shown.
Findings Example() {
  Findings findings;
  findings.model = "mlp_2nn";
  findings.tier = EnergyTier::kComponent;
  findings.meter = "rapl";
  findings.target = 0.05;
  findings.measurement = {{Cost("float32", {0.002, 0.0019, 0.0021, 5}), Cost("half width", {0.001, 0.0009, 0.0011, 5}, Interval{0.5, 0.45, 0.55, 5}),
                           Cost("int8", {0.0019, 0.0018, 0.002, 5}, Interval{0.95, 0.9, 1.003, 5})},
                          5, true};
  for (const char* name : {"float32", "half width", "int8"}) findings.ways.push_back({.name = name});
  findings.rounds = 10;
  findings.clients_per_round = 10;
  findings.examples_per_client = 100;
  findings.local_epochs = 2;
  return findings;
}

TEST(AuditTextTest, SavedIsSaidOfMeteredJoulesWhoseIntervalIsClear) {
  const std::string text = FindingsText(Example());
  EXPECT_THAT(text, HasSubstr("accuracy was not measured"));
  EXPECT_THAT(text, HasSubstr("saved 50 %: 0.500 times (0.450 to 0.550)"));
  EXPECT_THAT(text, HasSubstr("no difference shown: 0.950 times (0.900 to 1.003)"));
  EXPECT_THAT(text, Not(HasSubstr("saved 5 %")));
}

TEST(AuditTextTest, NothingIsSavedThatWasNotMetered) {
  Findings findings = Example();
  findings.tier = EnergyTier::kGeneric;
  findings.watts = tool::WattsModel{4, 4.0 / 3, 12, "cpu_time"};
  const std::string text = FindingsText(findings);
  EXPECT_THAT(text, HasSubstr("less by 50 %: 0.500 times (0.450 to 0.550)"));
  EXPECT_THAT(text, HasSubstr("no joule is called saved"));
  EXPECT_THAT(text, Not(HasSubstr("saved 50")));
  const nlohmann::json json = nlohmann::json::parse(FindingsJson(findings));
  EXPECT_EQ(json["ways"][1]["training"]["joule_verdict"], "not_metered");
  EXPECT_EQ(json["ways"][1]["training"]["cpu_verdict"], "less");
  EXPECT_EQ(json["ways"][2]["training"]["cpu_verdict"], "no_difference_shown");
  EXPECT_TRUE(json["ways"][1]["training"]["joules_are_estimate"]);
  // 1 ms (0.9 to 1.1) times 4 W (1.33 to 12).
  EXPECT_NEAR(json["ways"][1]["training"]["joules"]["estimate"].get<double>(), 0.004, 1e-9);
  EXPECT_NEAR(json["ways"][1]["training"]["joules"]["low"].get<double>(), 0.0012, 1e-9);
  EXPECT_NEAR(json["ways"][1]["training"]["joules"]["high"].get<double>(), 0.0132, 1e-9);
}

TEST(AuditTextTest, ProjectsAFederationAndItsGrams) {
  Findings findings = Example();
  findings.g_per_kwh = 360;
  const nlohmann::json json = nlohmann::json::parse(FindingsJson(findings));
  // 10 rounds x 10 clients x 100 examples x 2 epochs = 20,000 examples of 2 ms and 20 mJ; 360 g/kWh are 0.1 g a kJ.
  EXPECT_NEAR(json["ways"][0]["projected"]["cpu_seconds"].get<double>(), 40, 1e-9);
  EXPECT_NEAR(json["ways"][0]["projected"]["joules"]["estimate"].get<double>(), 400, 1e-6);
  EXPECT_NEAR(json["ways"][0]["projected"]["grams"]["estimate"].get<double>(), 0.04, 1e-9);
  EXPECT_NEAR(json["ways"][0]["projected"]["grams"]["high"].get<double>(), 0.042, 1e-9);
  findings.g_per_kwh.reset();
  EXPECT_TRUE(nlohmann::json::parse(FindingsJson(findings))["ways"][0]["projected"]["grams"].is_null());
  // Without a meter and without watts there are no joules, and no zero either.
  findings.tier = EnergyTier::kMissing;
  const nlohmann::json none = nlohmann::json::parse(FindingsJson(findings));
  EXPECT_TRUE(none["ways"][0]["training"]["joules"].is_null());
  EXPECT_TRUE(none["ways"][0]["projected"]["joules"].is_null());
  EXPECT_NEAR(none["ways"][0]["projected"]["cpu_seconds"].get<double>(), 40, 1e-9);
}

TEST(AuditTextTest, NamesFromArchivesCantSteerTheTerminal) {
  Findings findings = Example();
  findings.layers.push_back({.layer = "evil\x1b[31m\n", .operators = "conv2d\r"});
  findings.model = "\x07 \xff.pt";
  const std::string text = FindingsText(findings);
  for (char c : {'\x1b', '\r', '\x07', '\xff'}) EXPECT_EQ(text.find(c), std::string::npos);
  EXPECT_FALSE(nlohmann::json::parse(FindingsJson(findings)).is_null());
}

TEST(AuditLayersTest, GathersWhatALayerReads) {
  ASSERT_OK_AND_ASSIGN(const ParameterLayout layout, ParameterLayout::Create({{"a.weight", {6, 4}}, {"a.bias", {6}}, {"bn.mean", {6}, EntryKind::kAveragedBuffer}, {"bn.weight", {6}}, {"lone", {3}}}));
  const ModelProfile profile{{{"linear", {"a.weight", "a.bias"}, {6}, 24, 24},
                              {"relu", {}, {6}, 0, 24},
                              {"batch_norm", {"bn.weight", "bn.mean"}, {6}, 0, 24},
                              {"linear", {"a.weight", "a.bias"}, {6}, 24, 24},
                              {"relu", {}, {6}, 0, 24},
                              {"mul", {"lone"}, {6}, 0, 24}},
                             6};
  const std::vector<tool::LayerRow> rows = tool::Layers(profile, layout);
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].layer, "a");
  EXPECT_EQ(rows[0].operators, "linear");
  EXPECT_EQ(rows[0].parameters, 30);
  EXPECT_EQ(rows[0].macs, 48);
  EXPECT_EQ(rows[0].activation_bytes, 48);
  EXPECT_EQ(rows[1].layer, "bn");
  EXPECT_EQ(rows[1].parameters, 6);  // a buffer is none
  EXPECT_EQ(rows[2].layer, "lone");
  EXPECT_EQ(rows[3].layer, "");
  EXPECT_EQ(rows[3].operators, "relu (2)");
  EXPECT_EQ(rows[3].activation_bytes, 48);
}

class AuditToolTest : public ToolTest {};

TEST_F(AuditToolTest, AuditsABuiltInModelWithoutDataOrHardware) {
  const Outcome outcome = Run({"audit", "mlp_2nn", "--budget", "0.02", "--interval", "50", "--format", "json", "--g-per-kwh", "56", "--set", "federation.rounds=3", "--alternatives"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("loading"));
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["schema"], "fedwatt.audit.v1");
  ASSERT_EQ(json["layers"].size(), 4u);
  EXPECT_EQ(json["layers"][0]["layer"], "fc1");
  EXPECT_EQ(json["layers"][0]["parameters"], 157000);
  EXPECT_EQ(json["layers"][0]["macs"], 156800);
  EXPECT_GE(json["measurement"]["turns"], 3);
  EXPECT_EQ(json["has_data"], false);
  ASSERT_EQ(json["ways"].size(), 4u);
  for (const nlohmann::json& way : json["ways"]) {
    if (!way["problem"].is_null()) continue;
    EXPECT_TRUE(way["accuracies"].empty());
    EXPECT_TRUE(way["accuracy_difference"].is_null());
    EXPECT_GT(way["training"]["cpu_seconds"]["estimate"], 0);
    EXPECT_LE(way["training"]["cpu_seconds"]["low"], way["training"]["cpu_seconds"]["estimate"]);
    EXPECT_GT(way["projected"]["cpu_seconds"], 0);
  }
  EXPECT_EQ(json["ways"][0]["way"], "float32");
  EXPECT_EQ(json["ways"][1]["parameters"], 89610);  // 100 hidden units each
  ASSERT_EQ(json["ways"][0]["round_bytes"].size(), 3u);
  EXPECT_GT(json["ways"][0]["round_bytes"][0]["uplink"], 4 * 199210);
  EXPECT_LT(json["ways"][0]["round_bytes"][1]["uplink"], 199210);
  // The model, then all others, those that take no images with the reason.
  ASSERT_EQ(json["alternatives"].size(), ArchitectureNames().size());
  EXPECT_EQ(json["alternatives"][0]["architecture"], "mlp_2nn");
  EXPECT_EQ(json["alternatives"][0]["parameters"], 199210);
  for (const nlohmann::json& other : json["alternatives"]) {
    if (other["architecture"] == "char_lstm") {
      EXPECT_THAT(other["problem"].get<std::string>(), HasSubstr("1 dimensions"));
      EXPECT_TRUE(other["training_cpu_seconds"].is_null());
      continue;
    }
    EXPECT_TRUE(other["problem"].is_null()) << other;
    EXPECT_GT(other["parameters"], 0) << other;
    EXPECT_GT(other["macs"], 0) << other;
    EXPECT_GT(other["activation_bytes"], 0) << other;
    EXPECT_GT(other["training_cpu_seconds"]["estimate"], 0) << other;  // a fused step of logistic takes less than LibTorch's forward pass
    EXPECT_GT(other["inference_cpu_seconds"]["estimate"], 0) << other;
  }
  if (!json["energy"]["metered"].get<bool>()) {
    EXPECT_EQ(json["energy"]["tier"], "generic");
    EXPECT_EQ(json["ways"][1]["training"]["joule_verdict"], "not_metered");
  }
}

TEST_F(AuditToolTest, AuditsAnArchiveInItsChild) {
  const ArchitectureSpec spec{.name = "mlp_2nn", .input_shape = {1, 4, 4}, .output_count = 5, .options = {{"hidden_size", "8"}}};
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> model, trainer->InitialModel(1));
  ASSERT_THAT(WriteTorchScript(spec, model, Path("own.pt")), IsOk());
  const Outcome outcome = Run({"audit", "./own.pt", "--input", "1,4,4", "--budget", "0.01", "--interval", "100", "--format", "json", "--set", "energy.meter=none"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["output_count"], 5);
  EXPECT_EQ(json["layers"][0]["macs"], 16 * 8);
  // Narrower by what was proven of it: four hidden units a layer.
  EXPECT_TRUE(json["ways"][1]["problem"].is_null()) << json["ways"][1]["problem"];
  EXPECT_EQ(json["ways"][1]["parameters"], 16 * 4 + 4 + 4 * 4 + 4 + 4 * 5 + 5);
  EXPECT_TRUE(json["ways"][1]["macs"].is_null());
  EXPECT_GT(json["ways"][1]["training"]["cpu_seconds"]["estimate"], 0);
  // Its work is done in another process, whose time counts.
  EXPECT_GT(json["ways"][0]["training"]["cpu_seconds"]["estimate"], 0);
  EXPECT_TRUE(json["ways"][0]["training"]["joules"].is_null());
  EXPECT_EQ(json["energy"]["tier"], "missing");
  EXPECT_FALSE(json["ways"][2]["problem"].is_null());
}

// An archive works in a child and an idle machine in nobody: the audit is of the machine's joules, not of this process's part by CPU time.
TEST_F(AuditToolTest, MetersTheWholeMachineWithTheMeterOfTheSettings) {
  ASSERT_THAT(WriteFileAtomically(Path("plug.csv"), "time,watts\n"), IsOk());
  Settings settings;
  settings.energy.meter = "external";
  settings.energy.source = absl::StrCat("watts:", Path("plug.csv"));
  Findings findings;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Meter> meter, FindMeter(settings, findings));
  ASSERT_NE(meter, nullptr);
  EXPECT_EQ(findings.tier, EnergyTier::kWall);
  EXPECT_THAT(findings.meter, ::testing::Not(HasSubstr("part of this process")));
  EXPECT_FALSE(findings.watts.has_value());

  settings.energy.meter = "cpu_time";
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Meter> none, FindMeter(settings, findings));
  EXPECT_EQ(none, nullptr);
  EXPECT_TRUE(findings.watts.has_value());
}

TEST_F(AuditToolTest, ComparesAccuracyWhereThereIsData) {
  // Two classes, one number, easily told apart.
  std::string rows;
  for (int i = 0; i < 300; ++i) absl::StrAppend(&rows, i % 2 == 0 ? 1.0 + i % 7 * 0.1 : -1.0 - i % 5 * 0.1, ",", 0.5, ",", i % 2, "\n");
  ASSERT_THAT(WriteFileAtomically(Path("data.csv"), rows), IsOk());
  const Outcome outcome = Run({"audit", "logistic", "--data", "data.csv", "--set", "data.format=csv", "--set", "data.normalization=none", "--budget", "0.05", "--interval", "50", "--seeds", "3",
                               "--format", "json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["has_data"], true);
  ASSERT_EQ(json["ways"][0]["accuracies"].size(), 3u);
  EXPECT_GT(json["ways"][0]["accuracies"][0], 0.6);
  EXPECT_THAT(json["ways"][1]["problem"].get<std::string>(), HasSubstr("no hidden channels"));
  ASSERT_EQ(json["ways"][3]["way"], "int8");
  EXPECT_FALSE(json["ways"][3]["accuracy_difference"].is_null());
}

TEST_F(AuditToolTest, HostileArchivesAndWrongUsageAreTold) {
  ASSERT_THAT(WriteFileAtomically(Path("text.pt"), "not an archive"), IsOk());
  const Outcome text = Run({"audit", "text.pt", "--input", "1,4,4"});
  EXPECT_EQ(text.code, 3);
  EXPECT_EQ(text.out, "");
  EXPECT_THAT(text.err, HasSubstr("not a loadable TorchScript archive"));
  EXPECT_NE(Run({"audit", "missing.pt", "--input", "4"}).code, 0);
  ExpectUsage(Run({"audit", "mlp_2nn", "--interval", "0"}), "--interval");
  ExpectUsage(Run({"audit", "mlp_2nn", "--budget", "-1"}), "--budget");
  ExpectUsage(Run({"audit", "mlp_2nn", "--input", "1,x"}), "--input");
  ExpectUsage(Run({"audit", "mlp_2nn", "--seeds", "2"}), "--seeds");
  ExpectUsage(Run({"audit", "mlp_2nn", "--examples", "0"}), "--examples");
  ExpectUsage(Run({"audit", "mlp_2nn", "--g-per-kwh", "-1"}), "--g-per-kwh");
  const Outcome shapeless = Run({"audit", "text.pt"});
  EXPECT_EQ(shapeless.code, 2);
  EXPECT_THAT(shapeless.err, HasSubstr("--input 3,224,224"));
  EXPECT_THAT(Run({"audit", "mlp_3nn"}).err, HasSubstr("mlp_2nn"));
  EXPECT_EQ(Run({"audit", "mlp_2nn", "--data", "/nonexistent"}).code, 6);
}

}  // namespace
}  // namespace fedwatt
