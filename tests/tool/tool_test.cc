// The verbs that need no coordinator.
#include <algorithm>
#include <arpa/inet.h>
#include <sys/socket.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fedwatt/aggregation/server_optimizer.h"
#include "fedwatt/compression/pipeline.h"
#include "fedwatt/config/exit_codes.h"
#include "fedwatt/config/run_options.h"
#include "fedwatt/config/settings.h"
#include "fedwatt/energy/ledger.h"
#include "fedwatt/energy/meter.h"
#ifdef FEDWATT_HAS_TORCH
#include "fedwatt/model/torch/torch_trainer.h"
#endif
#include "fedwatt/report/run_record.h"
#include "fedwatt/round/fitting.h"
#include "fedwatt/round/selection.h"
#include "tests/report/records.h"
#include "tests/testing/status_matchers.h"
#include "tests/tool/run_tool.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::ExpectUsage;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::MakeAttempt;
using ::fedwatt::testing::MakeRound;
using ::fedwatt::testing::MakeSummary;
using ::fedwatt::testing::Outcome;
using ::fedwatt::testing::ToolTest;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::vector<std::string> Lines(const std::string& text) { return absl::StrSplit(text, '\n', absl::SkipEmpty()); }

TEST_F(ToolTest, HelpsWithEveryVerb) {
  std::vector<std::string> verbs = {"report",        "doctor", "config", "config show", "explain",
                                    "architectures", "channels", "codecs", "fits", "formats", "meters", "reports", "selections", "strategies", "ledger", "ledger verify", "calibrate", "carbon", "carbon import", "carbon show"};
#ifdef FEDWATT_HAS_TORCH
  verbs.push_back("audit");
#endif
#ifdef FEDWATT_HAS_GRPC
  verbs.insert(verbs.end(), {"status", "watch", "stop", "keys", "keys init", "keys show", "keys token", "keys renew", "keys revoke", "enrol", "audit-log", "audit-log verify"});
#endif
#ifdef FEDWATT_HAS_TORCH
  verbs.push_back("archive");
#endif
  const Outcome all = Run({"--help"});
  EXPECT_EQ(all.code, 0);
  EXPECT_EQ(all.err, "");
  for (const std::string& verb : verbs) {
    std::vector<std::string> arguments = absl::StrSplit(verb, ' ');
    EXPECT_THAT(all.out, HasSubstr("  " + arguments[0]));
    arguments.push_back("--help");
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.code, 0) << verb;
    EXPECT_THAT(outcome.out, HasSubstr("Usage: fedwatt " + verb));
    EXPECT_EQ(outcome.err, "");
  }
}

TEST_F(ToolTest, CalibratesOnlyAgainstAMeterThatMeasures) {
  const std::string out = ::testing::TempDir() + "/calibration_of_tool_test.json";
  for (const char* meter : {"fake", "cpu_time", "none"}) {
    const Outcome outcome = Run({"calibrate", "--seconds", "10", "--meter", meter, "--out", out});
    EXPECT_NE(outcome.code, 0) << meter;
    EXPECT_THAT(outcome.err, HasSubstr("needs a meter that measures this machine"));
  }
  EXPECT_FALSE(std::ifstream(out).good());
  EXPECT_THAT(Run({"calibrate", "--meter", "raple"}).err, HasSubstr("did you mean 'rapl'?"));
  EXPECT_EQ(Run({"calibrate", "--seconds", "3"}).code, 2);
}

TEST_F(ToolTest, TurnsRecordedIntensitiesIntoASeriesAndDescribesIt) {
  const std::string json = ::testing::TempDir() + "/uk.json", csv = ::testing::TempDir() + "/uk.csv";
  std::ofstream(json) << R"({"data":[{"from":"2026-03-29T00:30Z","to":"2026-03-29T01:00Z","intensity":{"forecast":266,"actual":263,"index":"moderate"}},
      {"from":"2026-03-29T02:00Z","to":"2026-03-29T02:30Z","intensity":{"forecast":250,"actual":100,"index":"moderate"}}]})";
  // A file given twice is no overlap.
  const Outcome made = Run({"carbon", "import", "--from", "uk_carbon_intensity", "--out", csv, json, json});
  EXPECT_EQ(made.code, 0) << made.err;
  const Outcome shown = Run({"carbon", "show", csv, "--format", "json"});
  const nlohmann::json zones = nlohmann::json::parse(shown.out);
  ASSERT_EQ(zones.size(), 1u);
  EXPECT_EQ(zones[0]["zone"], "UK:GB");
  EXPECT_EQ(zones[0]["observed"], 2);
  EXPECT_EQ(zones[0]["missing_seconds"], 3600);
  EXPECT_EQ(zones[0]["licence"], "CC BY 4.0");
  EXPECT_THAT(Run({"carbon", "show", csv}).out, HasSubstr("100-263, mean 182"));
  EXPECT_EQ(Run({"carbon", "import", "--from", "uk_carbon", json}).code, 2);
  std::ofstream(json) << R"({"error":{"code":"429 Too Many Requests","message":"slow down"}})";
  const Outcome refused = Run({"carbon", "import", "--from", "uk_carbon_intensity", json});
  EXPECT_EQ(refused.code, 6);
  EXPECT_THAT(refused.err, HasSubstr("429"));
}

TEST_F(ToolTest, VerifiesALedgerAgainstItselfAndTheCoordinatorsRecord) {
  const std::string folder = ::testing::TempDir() + "/ledger_tool", file = folder + "/ledger-0", record = folder + "/out";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  std::vector<AttemptRecord> attempts;
  {
    auto ledger = *Ledger::Open(file);
    auto writer = *RunRecordWriter::Open(record);
    for (int64_t round = 1; round <= 3; ++round) {
      LedgerRecord booked{.run_id = "run", .attempt = absl::StrCat("r", round), .client = "c-1", .round = round, .outcome = "completed"};
      const LedgerHead head = *ledger->Append(booked);
      AttemptRecord attempt = testing::MakeAttempt(round);
      attempt.client = "c-1";
      attempt.attempt = booked.attempt;
      attempt.ledger_sequence = head.sequence;
      attempt.ledger_head = head.head.Hex();
      RoundRecord committed = testing::MakeRound(round, 0.5);
      committed.ledger_root = LedgerRoot({attempt});
      ASSERT_TRUE(writer->WriteAttempt(attempt).ok());
      ASSERT_TRUE(writer->WriteRound(committed).ok());
    }
  }
  EXPECT_EQ(Run({"ledger", "verify", file}).code, 0);
  const Outcome good = Run({"ledger", "verify", file, "--record", record});
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_THAT(good.err, HasSubstr("3 of them anchored"));
  std::stringstream all;
  all << std::ifstream(file).rdbuf();
  const std::string text = all.str();
  const auto write = [](const std::string& path, const std::string& bytes) { std::ofstream(path) << bytes; };
  std::string bad = text;
  bad[100] ^= 1;
  write(file, bad);
  EXPECT_EQ(Run({"ledger", "verify", file}).code, 8);
  write(file, text.substr(0, text.rfind('\n', text.size() - 2) + 1));  // the last record is gone: whole as far as it goes
  EXPECT_EQ(Run({"ledger", "verify", file}).code, 0);
  const Outcome cut = Run({"ledger", "verify", file, "--record", record});
  EXPECT_EQ(cut.code, 8);
  EXPECT_THAT(cut.err, HasSubstr("not there any more"));
  write(file, text);
  std::stringstream lines;
  lines << std::ifstream(record + "/clients.jsonl").rdbuf();
  std::string changed = lines.str();
  const size_t at = changed.find("ledger_head") + 20;
  changed[at] = changed[at] == 'a' ? 'b' : 'a';
  write(record + "/clients.jsonl", changed);
  EXPECT_THAT(Run({"ledger", "verify", file, "--record", record}).err, HasSubstr("root"));
}

TEST_F(ToolTest, TellsItsVersion) {
  const Outcome outcome = Run({"--version"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, absl::StrCat("fedwatt ", std::string(kVersion), "\n"));
}

TEST_F(ToolTest, RefusesWrongUsageInOneLine) {
  ExpectUsage(Run({}), "a verb is missing");
  ExpectUsage(Run({"reprot", "x"}), "did you mean 'report'?");
  ExpectUsage(Run({"zzzzzzzz"}), "unknown verb 'zzzzzzzz'; see fedwatt --help");
  ExpectUsage(Run({"config", "shwo"}), "did you mean 'show'?");
  ExpectUsage(Run({"codecs", "--colour"}), "--colour");
  ExpectUsage(Run({"codecs", "--format", "xml"}), "xml");
  ExpectUsage(Run({"report"}), "DIR");
  ExpectUsage(Run({"report", "a", "b"}), "b");
  ExpectUsage(Run({"doctor", "--set", "seed"}), "KEY=VALUE");
  ExpectUsage(Run({"explain", "seven"}), "seven");
  ExpectUsage(Run({"explain", "9"}), "known codes: 0, 2, 3, 4, 5, 6, 7, 8, 70");
}

TEST_F(ToolTest, ListsWhatIsRegistered) {
  std::vector<std::string> codecs = StageNames();
  codecs.push_back("chain");
  std::sort(codecs.begin(), codecs.end());
  const std::vector<std::pair<std::string, std::vector<std::string>>> lists = {
      {"codecs", codecs}, {"channels", ChannelPolicies().Names()}, {"fits", FitPolicies().Names()}, {"formats", {"auto", "bfloat16", "float32"}}, {"meters", Meters().Names()}, {"selections", SelectionPolicies().Names()}, {"strategies", StrategyNames()}};
  for (const auto& [verb, names] : lists) {
    ASSERT_FALSE(names.empty());
    EXPECT_EQ(Lines(Run({verb}).out), names);
    EXPECT_EQ(nlohmann::json::parse(Run({verb, "--format", "json"}).out), nlohmann::json(names));
  }
}

TEST_F(ToolTest, ListsArchitecturesOrSaysWhyNot) {
  const Outcome outcome = Run({"architectures"});
#ifdef FEDWATT_HAS_TORCH
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(Lines(outcome.out), ::testing::Contains("mlp_2nn"));
#else
  EXPECT_EQ(outcome.code, 3);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("without LibTorch"));
#endif
}

#ifdef FEDWATT_HAS_TORCH
TEST_F(ToolTest, SaysWhatOfAnArchiveCanBeDropped) {
  ExpectUsage(Run({"archive", "--input-shape", "4"}), "FILE");
  ExpectUsage(Run({"archive", Path("none.pt")}), "--input-shape");
  ExpectUsage(Run({"archive", Path("none.pt"), "--input-shape", "1,0"}), "--input-shape");
  EXPECT_THAT(Run({"archive", Path("none.pt"), "--input-shape", "4"}).err, HasSubstr("none.pt"));
  ASSERT_THAT(WriteFileAtomically(Path("text.pt"), "not an archive"), IsOk());
  const Outcome bad = Run({"archive", Path("text.pt"), "--input-shape", "4"});
  EXPECT_EQ(bad.code, 3);
  EXPECT_THAT(bad.err, HasSubstr("not a loadable TorchScript archive"));

  const ArchitectureSpec spec{.name = "mlp_2nn", .input_shape = {1, 28, 28}, .output_count = 10};
  absl::StatusOr<std::unique_ptr<LocalTrainer>> trainer = MakeTorchTrainer(spec);
  ASSERT_THAT(trainer.status(), IsOk());
  ASSERT_THAT(WriteTorchScript(spec, *(*trainer)->InitialModel(1), Path("mlp.pt")), IsOk());
  const std::vector<std::string> lines = Lines(Run({"archive", Path("mlp.pt"), "--input-shape", "1,28,28"}).out);
  ASSERT_EQ(lines.size(), 8);
  EXPECT_THAT(lines[1], HasSubstr("fc1.weight[0] fc1.bias[0] fc2.weight[1]"));
  EXPECT_THAT(lines[3], HasSubstr("whole: the network's output"));
  const nlohmann::json json = nlohmann::json::parse(Run({"archive", Path("mlp.pt"), "--input-shape", "1,28,28", "--format", "json"}).out);
  EXPECT_EQ(json["groups"].size(), 2);
  EXPECT_EQ(json["groups"][0]["channels"], 200);
  EXPECT_EQ(json["whole"][0]["name"], "fc3");
  EXPECT_EQ(json["widths"][1]["width_fraction"], 0.5);
  EXPECT_EQ(json["widths"][1]["parameters"], 100 * 785 + 100 * 101 + 10 * 101);
}
#endif

TEST_F(ToolTest, ExplainsEveryCode) {
  const std::string all = Run({"explain"}).out;
  for (const ExitCodeExplanation& known : ExitCodeExplanations()) {
    const std::string code = absl::StrCat(static_cast<int>(known.code));
    const Outcome outcome = Run({"explain", code});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(outcome.out, absl::StrCat(code, ": ", known.name, "\ncause:  ", known.cause, "\nremedy: ", known.remedy, "\n"));
    EXPECT_THAT(all, HasSubstr(known.cause));
  }
}

TEST_F(ToolTest, ShowsTheSchema) {
  const nlohmann::json schema = nlohmann::json::parse(Run({"config", "--format", "json"}).out);
  const std::vector<SettingDescription> keys = SettingDescriptions();
  ASSERT_EQ(schema.size(), keys.size());
  EXPECT_EQ(schema[0]["key"], keys[0].key);
  EXPECT_EQ(Run({"config"}).out, DescribeSchema());
}

TEST_F(ToolTest, ShowsEffectiveSettingsWithOrigins) {
  ASSERT_THAT(WriteFileAtomically(Path("a.toml"), "seed = 7\n[federation]\nrounds = 3\n"), IsOk());
  const Outcome outcome = Run({"config", "show", "--config", "a.toml", "--set", "seed=9", "--format", "json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::map<std::string, std::string> found;
  for (const auto& setting : nlohmann::json::parse(outcome.out)) {
    found[setting["key"]] = absl::StrCat(setting["value"].get<std::string>(), " ", setting["origin"].get<std::string>());
  }
  EXPECT_EQ(found["seed"], "9 flag --set");
  EXPECT_EQ(found["federation.rounds"], "3 file a.toml:3");
  EXPECT_THAT(found["training.batch_size"], ::testing::EndsWith(" default"));
  EXPECT_THAT(Run({"config", "show", "--config", "a.toml"}).out, HasSubstr("(file a.toml:1)"));
}

TEST_F(ToolTest, RefusesAnUnknownSetting) {
  const Outcome outcome = Run({"config", "show", "--set", "federation.round=3"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("did you mean 'federation.rounds'?"));
  EXPECT_EQ(Run({"config", "show", "--config", "absent.toml"}).code, 3);
}

class ReportTest : public ToolTest {
 protected:
  void SetUp() override {
    ToolTest::SetUp();
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<RunRecordWriter> writer, RunRecordWriter::Open(Path("run")));
    ASSERT_THAT(writer->WriteRound(MakeRound(1, 0.5)), IsOk());
    ASSERT_THAT(writer->WriteRound(MakeRound(2, 0.75)), IsOk());
    ASSERT_THAT(writer->WriteAttempt(MakeAttempt(1)), IsOk());
    ASSERT_THAT(writer->WriteSummary(MakeSummary()), IsOk());
  }
};

TEST_F(ReportTest, PrintsTablesAndWritesThePage) {
  const Outcome outcome = Run({"report", "run"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("0.7500"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("\x1b")));  // no colour outside a terminal
  EXPECT_EQ(outcome.err, "page: run/report.html\n");
  ASSERT_OK_AND_ASSIGN(std::string page, ReadFile(Path("run/report.html")));
  EXPECT_THAT(page, HasSubstr("<svg"));
  EXPECT_THAT(page, HasSubstr("run-1"));
}

TEST_F(ReportTest, PutsThePageWhereAsked) {
  ASSERT_EQ(Run({"report", "run", "--html", "page.html"}).code, 0);
  EXPECT_TRUE(std::filesystem::exists(Path("page.html")));
  EXPECT_FALSE(std::filesystem::exists(Path("run/report.html")));
  const Outcome refused = Run({"report", "run", "--html", "absent/page.html"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err, HasSubstr("absent/page.html"));
}

TEST_F(ReportTest, GivesJson) {
  const Outcome outcome = Run({"report", "run", "--format", "json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["rounds"].size(), 2u);
  EXPECT_EQ(json["rounds"][1]["eval_accuracy"], 0.75);
  EXPECT_EQ(json["totals"]["uplink_payload_bytes"], 2000000);
  EXPECT_EQ(json["totals"]["client_energy_uj"], 4000000);
  EXPECT_EQ(json["totals"]["client_energy_tier"], "generic");
  EXPECT_EQ(json["totals"]["best_accuracy"], 0.75);
  EXPECT_EQ(json["summary"]["run_id"], "run-1");
  ASSERT_GE(json["by_width"].size(), 1u);
  EXPECT_EQ(json["by_width"][0]["width_fraction"], 1);
  EXPECT_EQ(json["by_width"][0]["kept_parameters"], 199210);
}

TEST_F(ReportTest, TurnsARecordIntoEveryFormatAtOnce) {
  const Outcome outcome = Run({"report", "run", "--format", "all", "--out", "reports", "--g-per-kwh", "475", "--intensity-source", "world mean 2019"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  for (const char* name : {"report.txt", "report.html", "report.json", "emissions.csv", "emissions_extension.csv", "boamps.json", "spdx.json", "model_card.yaml",
                           "annex_xi.md", "sci.json", "fedwatt.prom"}) {
    EXPECT_TRUE(std::filesystem::exists(Path(absl::StrCat("reports/", name)))) << name;
    EXPECT_THAT(outcome.err, HasSubstr(absl::StrCat("reports/", name)));
  }
  ASSERT_OK_AND_ASSIGN(std::string card, ReadFile(Path("reports/model_card.yaml")));
  EXPECT_THAT(card, HasSubstr("world mean 2019"));

  const Outcome several = Run({"report", "run", "--format", "codecarbon"});
  EXPECT_EQ(several.code, 2);
  EXPECT_THAT(several.err, HasSubstr("--out FOLDER"));
  EXPECT_THAT(Run({"report", "run", "--format", "codecarbom"}).err, HasSubstr("codecarbon")) << "the nearest name";
  EXPECT_EQ(Run({"report", "run", "--out", "reports"}).code, 2);
  EXPECT_EQ(Run({"report", "run", "--format", "json", "--g-per-kwh", "-1"}).code, 2);
  EXPECT_EQ(Run({"report", "run", "--format", "json", "--g-per-kwh", "nan"}).code, 2);
}

TEST_F(ReportTest, ReadsTheRecordOfAKilledRun) {
  std::filesystem::remove(Path("run/summary.json"));
  ASSERT_OK_AND_ASSIGN(std::string rounds, ReadFile(Path("run/rounds.jsonl")));
  ASSERT_THAT(WriteFileAtomically(Path("run/rounds.jsonl"), rounds + "{\"schema\":\"fedwa"), IsOk());
  const Outcome outcome = Run({"report", "run", "--format", "json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_TRUE(json["summary"].is_null());
  EXPECT_EQ(json["rounds"].size(), 2u);
  EXPECT_EQ(Run({"report", "run"}).code, 0);
}

TEST_F(ReportTest, RefusesWhatIsNoRecord) {
  const Outcome absent = Run({"report", "nowhere"});
  EXPECT_EQ(absent.code, 3);
  EXPECT_THAT(absent.err, HasSubstr("nowhere"));
  ASSERT_THAT(WriteFileAtomically(Path("run/rounds.jsonl"), "{}\n"), IsOk());
  const Outcome damaged = Run({"report", "run"});
  EXPECT_EQ(damaged.code, 8);
  EXPECT_EQ(damaged.out, "");
  EXPECT_THAT(damaged.err, HasSubstr("fedwatt explain 8"));
}

class DoctorTest : public ToolTest {
 protected:
  // The checks by name; several of one name are joined.
  std::map<std::string, nlohmann::json> Checks(std::vector<std::string> flags, int expected_code) {
    // A port nobody holds, unless the test says otherwise.
    std::vector<std::string> arguments = {"doctor", "--format", "json", "--set", "server.listen=127.0.0.1:0"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.code, expected_code) << outcome.out << outcome.err;
    const nlohmann::json json = nlohmann::json::parse(outcome.out, nullptr, false);
    std::map<std::string, nlohmann::json> checks;
    if (json.is_discarded()) return checks;
    EXPECT_EQ(json["ok"], expected_code == 0);
    for (const auto& check : json["checks"]) {
      checks[check["name"]] = check;
      EXPECT_EQ(check["verdict"] == "ok", check["remedy"] == "") << check;
    }
    return checks;
  }
};

TEST_F(DoctorTest, FindsThisMachineFit) {
  std::filesystem::create_directory(Path("data"));
  ASSERT_THAT(WriteFileAtomically(Path("data/a"), "x"), IsOk());
  auto checks = Checks({"--set", "data.path=data", "--out", "new/folder"}, 0);
  for (const char* name : {"config", "cores", "memory", "sandbox", "meter cpu_time", "clock", "port", "security", "data", "disk"}) {
    EXPECT_EQ(checks[name]["verdict"], "ok") << name << checks[name];
  }
  EXPECT_EQ(checks.count("meter fake"), 0u);
  EXPECT_THAT(checks["disk"]["detail"].get<std::string>(), HasSubstr(folder_));
#ifdef FEDWATT_HAS_TORCH
  EXPECT_EQ(checks["blas"]["verdict"], "ok");
  EXPECT_EQ(checks["threads"]["verdict"], "ok");
#endif
}

TEST_F(DoctorTest, SaysWhoHoldsThePort) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof(address);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(::listen(fd, 1), 0);
  ASSERT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0);
  const std::string listen = absl::StrCat("server.listen=127.0.0.1:", ntohs(address.sin_port));

  const nlohmann::json held = Checks({"--set", listen}, 3)["port"];
  EXPECT_EQ(held["verdict"], "fail");
  EXPECT_THAT(held["detail"].get<std::string>(), HasSubstr(absl::StrCat("(pid ", ::getpid(), ")")));
  const Outcome text = Run({"doctor", "--set", listen});
  EXPECT_EQ(text.code, 3);
  EXPECT_THAT(text.out, HasSubstr("\nfail  port"));
  EXPECT_THAT(text.out, HasSubstr("remedy: stop that process"));

  ::close(fd);
  EXPECT_EQ(Checks({"--set", listen}, 0)["port"]["verdict"], "ok");
}

TEST_F(DoctorTest, FindsBadAddresses) {
  EXPECT_EQ(Checks({"--set", "server.listen=nothing"}, 3)["port"]["verdict"], "fail");
  EXPECT_EQ(Checks({"--set", "server.listen=127.0.0.1:65536"}, 3)["port"]["verdict"], "fail");
  // TEST-NET-1: no machine has it.
  EXPECT_EQ(Checks({"--set", "server.listen=192.0.2.1:0"}, 3)["port"]["verdict"], "fail");
}

TEST_F(DoctorTest, FindsMissingDataAndTooFewMeters) {
  EXPECT_EQ(Checks({}, 0)["data"]["verdict"], "warn");
  auto checks = Checks({"--set", "data.path=absent", "--set", "energy.meter=none"}, 3);
  EXPECT_EQ(checks["data"]["verdict"], "fail");
  EXPECT_EQ(checks["energy"]["verdict"], "warn");
  std::filesystem::create_directory(Path("empty"));
  EXPECT_EQ(Checks({"--set", "data.path=empty"}, 3)["data"]["verdict"], "fail");
}

TEST_F(DoctorTest, ListsEveryMeterAndWhatItFinds) {
  const auto write = [this](const std::string& file, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(Path(file)).parent_path());
    ASSERT_THAT(WriteFileAtomically(Path(file), text + "\n"), IsOk());
  };
  write("host/sys/class/powercap/intel-rapl:0/name", "package-0");
  write("host/sys/class/powercap/intel-rapl:0/energy_uj", "17");
  write("host/sys/class/powercap/intel-rapl:0:0/name", "core");
  write("host/sys/class/powercap/intel-rapl:0:0/energy_uj", "5");
  write("host/sys/class/power_supply/BAT0/type", "Battery");
  write("host/sys/class/power_supply/BAT0/status", "Full");
  write("host/sys/class/power_supply/BAT0/power_now", "0");
  auto checks = Checks({"--energy", "--root", "host"}, 0);
  for (const std::string& name : Meters().Names()) EXPECT_EQ(checks.count("meter " + name), 1u) << name;
  EXPECT_EQ(checks["meter rapl"]["verdict"], "ok");
  EXPECT_EQ(checks["meter rapl package-0"]["detail"], "counted");
  EXPECT_EQ(checks["meter rapl package-0-core"]["detail"], "not counted: lies inside its package");
  EXPECT_EQ(checks["meter battery"]["verdict"], "warn");
  EXPECT_EQ(checks["meter battery"]["remedy"], "unplug the charger");
  EXPECT_EQ(checks["meter battery BAT0"]["remedy"], "unplug the charger");
  EXPECT_THAT(checks["meter external"]["remedy"].get<std::string>(), HasSubstr("watts:FILE"));
  EXPECT_THAT(checks["meter fake"]["detail"].get<std::string>(), HasSubstr("only where energy.meter names it"));
  EXPECT_THAT(checks["energy"]["detail"].get<std::string>(), HasSubstr("rapl, tier component"));
  EXPECT_EQ(checks.count("memory"), 0u);
  checks = Checks({"--energy", "--root", "host", "--set", "energy.meter=battery"}, 3);
  EXPECT_THAT(checks["energy"]["remedy"].get<std::string>(), HasSubstr("unplug the charger"));
  write("host/plug.csv", "time,watts");
  checks = Checks({"--energy", "--root", "host", "--set", "energy.source=watts:/plug.csv"}, 0);
  EXPECT_THAT(checks["energy"]["detail"].get<std::string>(), HasSubstr("external, tier wall"));
}

TEST_F(DoctorTest, GoesOnAfterABadConfiguration) {
  ASSERT_THAT(WriteFileAtomically(Path("bad.toml"), "sed = 7\n"), IsOk());
  auto checks = Checks({"--config", "bad.toml"}, 3);
  EXPECT_EQ(checks["config"]["verdict"], "fail");
  EXPECT_THAT(checks["config"]["detail"].get<std::string>(), HasSubstr("did you mean 'seed'?"));
  EXPECT_EQ(checks["clock"]["verdict"], "ok");
}

TEST_F(DoctorTest, FindsOpenAndUnfinishedSecurityDirectories) {
  std::filesystem::create_directory(Path("security"));
  std::filesystem::permissions(Path("security"), std::filesystem::perms::owner_all);
  ASSERT_THAT(WriteFileAtomically(Path("security/ca.key.pem"), "no key", 0644), IsOk());
  ASSERT_THAT(WriteFileAtomically(Path("security/ca.crt.pem"), "no certificate"), IsOk());
  auto checks = Checks({"--security-directory", "security"}, 3);
  EXPECT_THAT(checks["security ca.key.pem"]["detail"].get<std::string>(), HasSubstr("0644"));
  EXPECT_EQ(checks["security ca.crt.pem"]["verdict"], "fail");
  EXPECT_THAT(checks["security"]["detail"].get<std::string>(), HasSubstr("unfinished"));
  EXPECT_EQ(Checks({"--insecure"}, 0)["security"]["verdict"], "warn");
}

}  // namespace
}  // namespace fedwatt
