#include "fedwatt/config/settings.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

class SettingsTest : public ::testing::Test {
 protected:
  SettingsTest() {
    folder_ = std::filesystem::path(::testing::TempDir()) /
              absl::StrCat("settings_", ::testing::UnitTest::GetInstance()->current_test_info()->name(), "_", getpid());
    std::filesystem::create_directories(folder_);
  }
  ~SettingsTest() override { std::filesystem::remove_all(folder_); }

  std::string WriteConfig(const std::string& text) {
    const std::string path = folder_ / "run.toml";
    std::ofstream(path) << text;
    return path;
  }
  absl::StatusOr<LoadedSettings> LoadText(const std::string& text) { return LoadSettings({.file = WriteConfig(text)}); }
  static absl::StatusOr<LoadedSettings> Set(const std::string& key, const std::string& value) {
    return LoadSettings({.flags = {{key, value, "--set"}}});
  }
  static SettingWithOrigin Effective(const LoadedSettings& loaded, const std::string& key) {
    for (const SettingWithOrigin& setting : loaded.effective) {
      if (setting.key == key) return setting;
    }
    ADD_FAILURE() << key;
    return {};
  }

  std::filesystem::path folder_;
};

TEST_F(SettingsTest, DefaultsLoadWithoutAnySource) {
  ASSERT_OK_AND_ASSIGN(const LoadedSettings loaded, LoadSettings({}));
  const Settings& settings = loaded.settings;
  EXPECT_EQ(settings.federation.rounds, 10);
  EXPECT_EQ(settings.federation.clients_per_round, 10);
  EXPECT_EQ(settings.federation.wait_for_clients, 10);
  EXPECT_EQ(settings.federation.quorum, 0.5);
  EXPECT_EQ(settings.federation.deadline, absl::Minutes(10));
  EXPECT_EQ(settings.federation.target_accuracy, std::nullopt);
  EXPECT_EQ(settings.aggregation.strategy, "fedavg");
  EXPECT_EQ(settings.compression.preset, "no_regret");
  EXPECT_EQ(settings.compression.uplink, "");
  EXPECT_EQ(settings.selection.policy, "uniform");
  EXPECT_EQ(settings.fit.policy, "full");
  EXPECT_EQ(settings.energy.meter, "auto");
  ASSERT_EQ(settings.energy.device_mix.size(), 1u);
  EXPECT_EQ(settings.energy.device_mix[0].name, "server_core");
  EXPECT_EQ(settings.server.listen, "0.0.0.0:7443");
  EXPECT_EQ(settings.security.directory, "./security");
  EXPECT_FALSE(settings.security.insecure);
  EXPECT_EQ(settings.durability, Durability::kUpdate);
  EXPECT_EQ(settings.seed, 1u);
  EXPECT_EQ(settings.partition.seed, 1u);
  for (const SettingWithOrigin& setting : loaded.effective) EXPECT_EQ(setting.origin, "default") << setting.key;
}

TEST_F(SettingsTest, EveryNameThatScriptsRelyOnExists) {
  std::set<std::string> keys;
  for (const SettingDescription& setting : SettingDescriptions()) {
    EXPECT_TRUE(keys.insert(setting.key).second) << "twice: " << setting.key;
    EXPECT_FALSE(setting.help.empty()) << setting.key;
    EXPECT_FALSE(setting.type.empty()) << setting.key;
  }
  for (const char* key : {"model.architecture",
                          "model.torchscript",
                          "model.sandbox",
                          "model.max_memory_bytes",
                          "model.max_silence",
                          "model.input_shape",
                          "model.options",
                          "data.path",
                          "data.test_path",
                          "data.format",
                          "data.normalization",
                          "data.sequence_length",
                          "data.held_out_fraction",
                          "data.regression",
                          "partition.kind",
                          "partition.alpha",
                          "partition.clients",
                          "partition.shards_per_client",
                          "partition.min_examples",
                          "federation.rounds",
                          "federation.clients_per_round",
                          "federation.wait_for_clients",
                          "federation.quorum",
                          "federation.deadline",
                          "federation.over_selection",
                          "federation.target_accuracy",
                          "federation.evaluate_every",
                          "federation.evaluation",
                          "federation.federated_held_out_fraction",
                          "training.local_epochs",
                          "training.local_steps",
                          "training.batch_size",
                          "training.client_learning_rate",
                          "training.learning_rate_schedule",
                          "training.learning_rate_decay",
                          "training.learning_rate_decay_every",
                          "training.momentum",
                          "training.weight_decay",
                          "training.proximal_mu",
                          "training.threads",
                          "training.loss",
                          "aggregation.strategy",
                          "aggregation.server_learning_rate",
                          "aggregation.momentum",
                          "aggregation.beta1",
                          "aggregation.beta2",
                          "aggregation.tau",
                          "compression.preset",
                          "compression.uplink",
                          "compression.downlink",
                          "privacy.clip_norm",
                          "privacy.max_norm",
                          "privacy.max_abs",
                          "privacy.max_example_count",
                          "privacy.max_update_bytes",
                          "selection.policy",
                          "fit.policy",
                          "fit.widths",
                          "fit.shares",
                          "fit.memory_mb",
                          "fit.channels",
                          "federation.evaluate_widths",
                          "fit.first",
                          "fit.live",
                          "fit.format",
                          "training.quantization",
                          "energy.meter",
                          "energy.watts_per_core",
                          "energy.source",
                          "energy.scope",
                          "energy.calibration",
                          "energy.device_class",
                          "security.directory",
                          "security.insecure",
                          "server.listen",
                          "server.names",
                          "client.server",
                          "client.name",
                          "client.state_directory",
                          "client.partition",
                          "client.stay",
                          "client.min_battery_percent",
                          "client.require_charger",
                          "client.allow_metered",
                          "client.allow_bfloat16",
                          "client.architectures",
                          "client.codecs",
                          "client.max_examples",
                          "client.max_model_bytes",
                          "client.max_parameters",
                          "client.min_cohort",
                          "client.max_temperature_celsius",
                          "durability",
                          "seed",
                          "out",
                          "simulation.workers"}) {
    EXPECT_EQ(keys.count(key), 1u) << key;
    EXPECT_THAT(DescribeSchema(), HasSubstr(absl::StrCat(key, " (")));
  }
}

// Every subset of the three sources: the highest one present wins, and the origin says which.
TEST_F(SettingsTest, FlagsBeatEnvironmentBeatsFileBeatsDefault) {
  const std::string path = WriteConfig("[federation]\n\nrounds = 20\n");
  for (int present = 0; present < 8; ++present) {
    SettingsSources sources;
    int64_t expected = 10;
    std::string origin = "default";
    if (present & 1) {
      sources.file = path;
      expected = 20;
      origin = absl::StrCat("file ", path, ":3");
    }
    if (present & 2) {
      sources.environment["FEDWATT_FEDERATION_ROUNDS"] = "30";
      expected = 30;
      origin = "environment FEDWATT_FEDERATION_ROUNDS";
    }
    if (present & 4) {
      sources.flags = {{"federation.rounds", "39", "--set"}, {"federation.rounds", "40", "--set"}};
      expected = 40;
      origin = "flag --set";
    }
    ASSERT_OK_AND_ASSIGN(const LoadedSettings loaded, LoadSettings(sources));
    EXPECT_EQ(loaded.settings.federation.rounds, expected) << present;
    EXPECT_EQ(Effective(loaded, "federation.rounds").value, absl::StrCat(expected));
    EXPECT_EQ(Effective(loaded, "federation.rounds").origin, origin);
  }
}

TEST_F(SettingsTest, ReadsEveryTypeFromAFile) {
  ASSERT_OK_AND_ASSIGN(const LoadedSettings loaded, LoadText(R"(
seed = 7
durability = "round"
out = "runs/a"
[model]
architecture = "fedavg_cnn"
input_shape = [1, 28, 28]
options = { dropout = 0.5, width = 3, bias = true, name = "x" }
[federation]
deadline = "1h30m"
target_accuracy = 0.85
clients_per_round = 0
evaluation = "both"
[training]
client_learning_rate = 1
[server]
names = ["edge.example", "10.0.0.1"]
[client]
partition = "0-24/100"
stay = true
[energy]
device_class = "phone:0.75,laptop:0.25"
)"));
  const Settings& settings = loaded.settings;
  EXPECT_EQ(settings.seed, 7u);
  EXPECT_EQ(settings.partition.seed, 7u);
  EXPECT_EQ(settings.durability, Durability::kRound);
  EXPECT_EQ(settings.out, "runs/a");
  EXPECT_EQ(settings.model.architecture.name, "fedavg_cnn");
  EXPECT_THAT(settings.model.architecture.input_shape, ElementsAre(1, 28, 28));
  EXPECT_THAT(settings.model.architecture.options,
              UnorderedElementsAre(Pair("dropout", "0.5"), Pair("width", "3"), Pair("bias", "true"), Pair("name", "x")));
  EXPECT_EQ(settings.federation.deadline, absl::Minutes(90));
  EXPECT_EQ(settings.federation.target_accuracy, 0.85);
  EXPECT_EQ(settings.federation.evaluation, EvaluationMode::kBoth);
  EXPECT_EQ(settings.training.recipe.client_learning_rate, 1.0);
  EXPECT_THAT(settings.server.names, ElementsAre("edge.example", "10.0.0.1"));
  EXPECT_EQ(settings.client.partition, (PartitionRange{0, 24, 100}));
  EXPECT_EQ(settings.partition.clients, 100);
  EXPECT_TRUE(settings.client.stay);
  ASSERT_EQ(settings.energy.device_mix.size(), 2u);
  EXPECT_EQ(settings.energy.device_mix[0].name, "phone");
  EXPECT_EQ(settings.energy.device_mix[0].share, 0.75);
  EXPECT_EQ(Effective(loaded, "energy.device_class").value, "phone:0.75,laptop:0.25");
  EXPECT_EQ(Effective(loaded, "model.input_shape").value, "[1,28,28]");
}

TEST_F(SettingsTest, ReadsEveryTypeFromText) {
  ASSERT_OK_AND_ASSIGN(const LoadedSettings loaded,
                       LoadSettings({.flags = {{"model.input_shape", "[1,28,28]", "--set"},
                                               {"model.options.dropout", "0.5", "--set"},
                                               {"model.options", "{ width = 8 }", "--set"},
                                               {"data.path", "/a b/c", "--set"},
                                               {"federation.deadline", "90s", "--set"},
                                               {"federation.quorum", "1", "--set"},
                                               {"client.stay", "true", "--stay"},
                                               {"server.names", "[\"a\", 'b']", "--set"}},
                                     .environment = {{"FEDWATT_MODEL_OPTIONS_DEPTH", "2"}, {"FEDWATT_SEED", "9"}}}));
  EXPECT_THAT(loaded.settings.model.architecture.input_shape, ElementsAre(1, 28, 28));
  EXPECT_THAT(loaded.settings.model.architecture.options,
              UnorderedElementsAre(Pair("dropout", "0.5"), Pair("width", "8"), Pair("depth", "2")));
  EXPECT_EQ(loaded.settings.data.path, "/a b/c");
  EXPECT_EQ(loaded.settings.federation.deadline, absl::Seconds(90));
  EXPECT_EQ(loaded.settings.federation.quorum, 1.0);
  EXPECT_THAT(loaded.settings.server.names, ElementsAre("a", "b"));
  EXPECT_EQ(loaded.settings.seed, 9u);
  EXPECT_EQ(Effective(loaded, "client.stay").origin, "flag --stay");
}

TEST_F(SettingsTest, UnknownKeyNamesLineAndNearest) {
  const absl::StatusOr<LoadedSettings> slip = LoadText("[federation]\nround = 3\n");
  EXPECT_THAT(slip, StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("run.toml:2: unknown key 'federation.round'"),
                                                                       HasSubstr("did you mean 'federation.rounds'?"))));
  EXPECT_THAT(LoadText("\n\nsede = 3\n"), StatusIs(absl::StatusCode::kInvalidArgument,
                                                   AllOf(HasSubstr("run.toml:3: unknown key 'sede'"), HasSubstr("'seed'"))));
  EXPECT_THAT(LoadText("[fedration]\nrounds = 3\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr(":2:"), HasSubstr("'federation.rounds'"))));
  EXPECT_THAT(LoadText("[nothing_like_it]\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("run.toml:1: unknown key")));
  EXPECT_THAT(Set("training.batchsize", "3"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("flag --set: unknown key 'training.batchsize'; did you mean 'training.batch_size'?")));
  EXPECT_THAT(Set("zzzzzzzzzzzzzzzzzzzz", "3"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--help-config")));
}

TEST_F(SettingsTest, VariablesOfOurSectionsMustBeKnownOthersAreNotOurs) {
  EXPECT_THAT(LoadSettings({.environment = {{"FEDWATT_FEDERATION_ROUND", "3"}}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("environment FEDWATT_FEDERATION_ROUND: unknown variable; did you mean "
                                 "FEDWATT_FEDERATION_ROUNDS?")));
  EXPECT_THAT(LoadSettings({.environment = {{"FEDWATT_BUILD_DIR", "x"}, {"PATH", "y"}, {"FEDWATT_", "z"}}}), IsOk());
}

struct BadValue {
  const char* key;
  const char* value;
  const char* expected;
};
// Without it the test's name would hold the pointers' bytes, which change from run to run.
void PrintTo(const BadValue& bad, std::ostream* out) { *out << bad.key << " = " << bad.value; }
class BadValueTest : public SettingsTest, public ::testing::WithParamInterface<BadValue> {};

TEST_P(BadValueTest, IsRefusedWithKeyExpectedGotAndWhere) {
  const BadValue& bad = GetParam();
  EXPECT_THAT(Set(bad.key, bad.value), StatusIs(absl::StatusCode::kInvalidArgument,
                                                HasSubstr(absl::StrCat("flag --set: ", bad.key, ": expected ", bad.expected))));
  EXPECT_THAT(Set(bad.key, bad.value),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(absl::StrCat("got '", bad.value, "'"))));
}

INSTANTIATE_TEST_SUITE_P(
    Values, BadValueTest,
    ::testing::Values(
        BadValue{"fit.widths", "0.5", "array of numbers in (0, 1]"}, BadValue{"fit.widths", "[0]", "array of numbers in (0, 1]"},
        BadValue{"fit.widths", "[nan]", "array of numbers"}, BadValue{"fit.shares", "[\"1\"]", "array of numbers > 0"},
        BadValue{"fit.memory_mb", "[1.5]", "array of integers"}, BadValue{"fit.live", "65", "integer in [0, 64]"},
        BadValue{"fit.first", "1.5", "number in [0, 1]"}, BadValue{"client.max_parameters", "-1", "integer in [0, "}, BadValue{"client.max_model_bytes", "0", "integer in [1, "},
        BadValue{"federation.rounds", "ten", "integer in [1, "}, BadValue{"federation.rounds", "3.0", "integer"},
        BadValue{"federation.rounds", "0", "integer"}, BadValue{"federation.rounds", "-1", "integer"},
        BadValue{"federation.rounds", "", "integer"}, BadValue{"federation.rounds", "99999999999999999999", "integer"},
        BadValue{"federation.rounds", "3\nseed = 4", "integer"}, BadValue{"federation.quorum", "0", "number in (0, 1]"},
        BadValue{"federation.quorum", "1.0001", "number in (0, 1]"}, BadValue{"federation.quorum", "nan", "number"},
        BadValue{"federation.quorum", "inf", "number"}, BadValue{"federation.over_selection", "-0.1", "number in [0, 10]"},
        BadValue{"federation.target_accuracy", "85", "number in (0, 1]"}, BadValue{"federation.deadline", "60", "duration"},
        BadValue{"federation.deadline", "0s", "duration"}, BadValue{"federation.deadline", "-5s", "duration"},
        BadValue{"federation.deadline", "inf", "duration"},
        BadValue{"federation.evaluation", "centrally", "one of central, federated"},
        BadValue{"federation.evaluate_widths", "often", "one of never, last, always"},
        BadValue{"federation.wait_for_clients", "0", "integer"}, BadValue{"training.momentum", "1", "number in [0, 1)"},
        BadValue{"training.momentum", "-0.1", "number"}, BadValue{"training.client_learning_rate", "0", "number > 0"},
        BadValue{"training.client_learning_rate", "inf", "number > 0"}, BadValue{"training.weight_decay", "-1", "number >= 0"},
        BadValue{"training.batch_size", "0", "integer"}, BadValue{"training.batch_size", "1000001", "integer"},
        BadValue{"training.local_steps", "4294967297", "integer"}, BadValue{"model.input_shape", "28", "array"},
        BadValue{"model.input_shape", "[0]", "array"}, BadValue{"model.input_shape", "[1.5]", "array"},
        BadValue{"model.input_shape", "[1,", "array"}, BadValue{"model.options", "3", "table"},
        BadValue{"model.architecture", "", "non-empty string"},
        BadValue{"data.format", "parquet", "one of associative_recall, cifar10, csv, idx, text"},
        BadValue{"data.held_out_fraction", "1", "number in (0, 1)"}, BadValue{"data.regression", "yes", "true or false"},
        BadValue{"server.names", "[1]", "array of strings"}, BadValue{"client.partition", "8/8", "part of how many"},
        BadValue{"client.partition", "3", "part of how many"}, BadValue{"energy.device_class", "phone:0", "class, or mix"},
        BadValue{"energy.device_class", "phone:", "class, or mix"}, BadValue{"energy.device_class", "", "class, or mix"},
        BadValue{"partition.kind", "none", "one of dirichlet, iid"}, BadValue{"durability", "always", "one of update, round"},
        BadValue{"seed", "-1", "integer >= 0"}, BadValue{"simulation.workers", "-1", "integer"},
        BadValue{"privacy.max_example_count", "2147483648", "integer"}));

TEST_F(SettingsTest, NamesThatOtherRoomsKnowAreCheckedThere) {
  const auto refused = [](const char* key, const char* value, const char* words) {
    EXPECT_THAT(Set(key, value), StatusIs(absl::StatusCode::kInvalidArgument,
                                          AllOf(HasSubstr(absl::StrCat("flag --set: ", key, ": ")), HasSubstr(words))));
  };
  refused("aggregation.strategy", "fedavgg", "did you mean 'fedavg'?");
  refused("compression.uplink", "int88", "did you mean 'int8'?");
  refused("compression.uplink", "chain:step=0.01", "downlink");
  refused("compression.downlink", "ef,int8", "'ef'");
  refused("compression.preset", "smalest", "did you mean 'smallest'?");
  refused("compression.downlink", "int88", "did you mean 'int8'?");
  refused("energy.meter", "rapple", "unknown meter");
  refused("energy.device_class", "phone:1,toaster:1", "toaster");
  refused("selection.policy", "unifrom", "did you mean 'uniform'?");
  refused("fit.policy", "fixd", "did you mean 'fixed'?");
  refused("fit.channels", "orderd", "did you mean 'ordered'?");
  for (const char* meter : {"auto", "none", "cpu_time"}) EXPECT_THAT(Set("energy.meter", meter), IsOk());
}

TEST_F(SettingsTest, WrongTypeInAFileNamesTheLine) {
  EXPECT_THAT(LoadText("[training]\nbatch_size = \"ten\"\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("run.toml:2: training.batch_size: expected integer in [1, "), HasSubstr("ten"))));
  EXPECT_THAT(LoadText("training = 3\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("run.toml:1: unknown key 'training'")));
  EXPECT_THAT(LoadText("[federation.rounds]\nx = 1\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("federation.rounds: expected integer")));
  EXPECT_THAT(LoadText("[federation]\ndeadline = 60\n"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("with a unit")));
}

TEST_F(SettingsTest, FilesThatAreNotTomlOrNotThere) {
  EXPECT_THAT(LoadText("seed = 1\nseed = 2\n"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("run.toml:2: not TOML")));
  EXPECT_THAT(LoadText("[federation\n"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("run.toml:1: not TOML")));
  EXPECT_THAT(LoadText(std::string("a\0b", 3)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not TOML")));
  EXPECT_THAT(LoadSettings({.file = "/nonexistent/run.toml"}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent/run.toml")));
}

TEST_F(SettingsTest, OnlyTheFlagTurnsTlsOff) {
  EXPECT_THAT(LoadText("[security]\ninsecure = true\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("flag --insecure")));
  EXPECT_THAT(LoadSettings({.environment = {{"FEDWATT_SECURITY_INSECURE", "true"}}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("flag --insecure")));
  EXPECT_THAT(Set("security.insecure", "true"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("flag --insecure")));
  ASSERT_OK_AND_ASSIGN(const LoadedSettings loaded, LoadSettings({.flags = {{"security.insecure", "true", "--insecure"}}}));
  EXPECT_TRUE(loaded.settings.security.insecure);
}

TEST_F(SettingsTest, SecurityDirectoryLiesBesideTheFile) {
  ASSERT_OK_AND_ASSIGN(const LoadedSettings beside, LoadText("seed = 2\n[data]\npath = \"images\"\n"));
  EXPECT_EQ(beside.settings.security.directory, (folder_ / "security").string());
  EXPECT_EQ(beside.settings.data.path, "images");  // as typed, relative to the working folder
  ASSERT_OK_AND_ASSIGN(const LoadedSettings named, LoadText("[security]\ndirectory = \"keys\"\n"));
  EXPECT_EQ(named.settings.security.directory, "keys");
}

TEST_F(SettingsTest, DependentDefaultsFollow) {
  ASSERT_OK_AND_ASSIGN(const LoadedSettings few, Set("federation.clients_per_round", "3"));
  EXPECT_EQ(few.settings.federation.wait_for_clients, 3);
  ASSERT_OK_AND_ASSIGN(const LoadedSettings small, Set("partition.clients", "8"));
  EXPECT_EQ(small.settings.federation.clients_per_round, 8);
  EXPECT_EQ(small.settings.federation.wait_for_clients, 8);
  ASSERT_OK_AND_ASSIGN(
      const LoadedSettings all,
      LoadSettings({.flags = {{"federation.clients_per_round", "0", "--set"}, {"partition.clients", "100", "--set"}}}));
  EXPECT_EQ(all.settings.federation.wait_for_clients, 100);
  ASSERT_OK_AND_ASSIGN(const LoadedSettings unknown, Set("federation.clients_per_round", "0"));
  EXPECT_EQ(unknown.settings.federation.wait_for_clients, 1);
  ASSERT_OK_AND_ASSIGN(const LoadedSettings archive, Set("model.torchscript", "m.pt"));
  EXPECT_EQ(archive.settings.model.architecture.name, "torchscript");
  EXPECT_EQ(Effective(archive, "model.architecture").origin, "flag --set");
  EXPECT_TRUE(archive.settings.model.sandbox.required);
  ASSERT_OK_AND_ASSIGN(const LoadedSettings loose, LoadText("[model]\nsandbox = \"best\"\nmax_memory_bytes = 1000000\nmax_silence = \"90s\"\n"));
  EXPECT_FALSE(loose.settings.model.sandbox.required);
  EXPECT_EQ(loose.settings.model.sandbox.memory_bytes, 1000000);
  EXPECT_EQ(loose.settings.model.sandbox.max_silence, absl::Seconds(90));
  EXPECT_THAT(Set("model.sandbox", "off"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("one of required, best")));
}

TEST_F(SettingsTest, ClientPartitionDecidesTheNumberOfParts) {
  ASSERT_OK_AND_ASSIGN(const LoadedSettings loaded, LoadSettings({.file = WriteConfig("[partition]\nclients = 100\n"),
                                                                  .flags = {{"client.partition", "3/8", "--partition"}}}));
  EXPECT_EQ(loaded.settings.client.partition, (PartitionRange{3, 3, 8}));
  EXPECT_EQ(loaded.settings.partition.clients, 8);
  EXPECT_EQ(Effective(loaded, "partition.clients").origin, "flag --partition");
}

TEST_F(SettingsTest, ValuesThatDoNotFitTogetherAreRefused) {
  EXPECT_THAT(
      LoadText("[partition]\nclients = 8\n[federation]\nclients_per_round = 9\n"),
      StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("run.toml:4: federation.clients_per_round"),
                                                         HasSubstr("at most partition.clients = 8"), HasSubstr("run.toml:2"))));
  EXPECT_THAT(LoadText("[partition]\nclients = 8\n[federation]\nclients_per_round = 8\n"), IsOk());
  EXPECT_THAT(LoadText("[partition]\nclients = 8\n[federation]\nwait_for_clients = 9\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("federation.wait_for_clients")));
  EXPECT_THAT(LoadText("[federation]\ntarget_accuracy = 0.5\nevaluation = \"none\"\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("federation.target_accuracy")));
  EXPECT_THAT(LoadText("[federation]\ntarget_accuracy = 0.5\n[data]\nregression = true\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("regression")));
  EXPECT_THAT(LoadText("[model]\narchitecture = \"lenet\"\ntorchscript = \"m.pt\"\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("exclude each other")));
  EXPECT_THAT(Set("model.architecture", "torchscript"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("model.torchscript")));
  EXPECT_THAT(LoadText("[privacy]\nclip_norm = 2\nmax_norm = 1\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("privacy.max_norm = 1")));
  EXPECT_THAT(LoadText("[fit]\nwidths = [0.5]\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("default: fit.policy = 'full'"), HasSubstr("fit.widths"))));
  EXPECT_THAT(LoadText("[fit]\npolicy = \"by_capability\"\nwidths = [0.5, 1]\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("run.toml:3: fit.widths"), HasSubstr("widest first"))));
  EXPECT_THAT(LoadText("[fit]\npolicy = \"fixed\"\nwidths = [0.5]\nmemory_mb = [1]\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("one width for all")));
}

TEST_F(SettingsTest, ReadsAMixOfWidths) {
  ASSERT_OK_AND_ASSIGN(const LoadedSettings loaded,
                       LoadText("[fit]\npolicy = \"by_capability\"\nwidths = [1, 0.5, 0.0625]\nshares = [1, 2.5, 3]\nchannels = \"rolling\"\nlive = 0\n"));
  const FitOptions& fit = loaded.settings.fit;
  EXPECT_EQ(fit.policy, "by_capability");
  EXPECT_THAT(fit.widths, ElementsAre(1, 0.5, 0.0625));
  EXPECT_THAT(fit.shares, ElementsAre(1, 2.5, 3));
  EXPECT_EQ(fit.channels, "rolling");
  EXPECT_EQ(fit.live, 0);
  EXPECT_EQ(Effective(loaded, "fit.widths").value, "[1,0.5,0.0625]");
  ASSERT_OK_AND_ASSIGN(const LoadedSettings memory, LoadText("[fit]\npolicy = \"by_capability\"\nwidths = [1, 0.5]\nmemory_mb = [2000, 0]\n"));
  EXPECT_THAT(memory.settings.fit.memory_mb, ElementsAre(2000, 0));
}

TEST_F(SettingsTest, ReadsWidthsByBudget) {
  ASSERT_OK_AND_ASSIGN(const LoadedSettings loaded, LoadText("[fit]\npolicy = \"by_budget\"\nwidths = [1, 0.5, 0.25]\nfirst = 0.5\n"));
  EXPECT_EQ(loaded.settings.fit.first, 0.5);
  EXPECT_THAT(LoadText("[fit]\npolicy = \"by_budget\"\nwidths = [1, 0.5]\nfirst = 0.25\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("run.toml:4: fit.first"), HasSubstr("one of fit.widths"))));
  EXPECT_THAT(LoadText("[fit]\npolicy = \"by_budgt\"\n"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("by_budget")));
}

TEST_F(SettingsTest, ReadsAPruningSchedule) {
  ASSERT_OK_AND_ASSIGN(const LoadedSettings loaded, LoadText("[federation]\nrounds = 21\n[prune]\ntarget = 0.3\nbegin = 2\nend = 20\nevery = 3\nchannels = \"taylor\"\nregrow = 0.2\n"));
  const PruneOptions& prune = loaded.settings.prune;
  EXPECT_EQ(prune.target, 0.3);
  EXPECT_EQ(prune.begin, 2);
  EXPECT_EQ(prune.end, 20);
  EXPECT_EQ(prune.every, 3);
  EXPECT_EQ(prune.channels, "taylor");
  EXPECT_EQ(prune.regrow, 0.2);
  EXPECT_EQ(prune.unit, "channels");
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  ASSERT_OK_AND_ASSIGN(const LoadedSettings masked, LoadText("[model]\ntorchscript = \"m.pt\"\n[prune]\ntarget = 0.1\nunit = \"weights\"\n"));
  EXPECT_EQ(masked.settings.prune.unit, "weights");
  EXPECT_THAT(LoadText("[prune]\nunit = \"rows\"\n"), StatusIs(kInvalid, HasSubstr("expected channels or weights, got 'rows'")));
  EXPECT_THAT(LoadText("[prune]\ntarget = 0.5\nunit = \"weights\"\nchannels = \"ordered\"\n"), StatusIs(kInvalid, HasSubstr("single weights")));
  EXPECT_THAT(LoadText("[fit]\npolicy = \"fixed\"\nwidths = [0.5]\n[prune]\ntarget = 0.5\nunit = \"weights\"\n"), StatusIs(kInvalid, HasSubstr("run.toml:6: prune.unit")));
  EXPECT_THAT(LoadText("[prune]\ntarget = 0\n"), StatusIs(kInvalid, HasSubstr("prune.target")));
  EXPECT_THAT(LoadText("[prune]\ntarget = 0.5\nregrow = 0.6\n"), StatusIs(kInvalid, HasSubstr("prune.regrow")));
  EXPECT_THAT(LoadText("[prune]\ntarget = 0.5\nbegin = 4\nend = 3\n"), StatusIs(kInvalid, AllOf(HasSubstr("run.toml:4"), HasSubstr("prune.begin = 4, got 3"))));
  EXPECT_THAT(LoadText("[prune]\ntarget = 0.5\nchannels = \"rolling\"\n"), StatusIs(kInvalid, HasSubstr("prune.channels = 'rolling'")));
  EXPECT_THAT(LoadText("[federation]\nrounds = 20\n[prune]\ntarget = 0.5\nend = 20\n"), StatusIs(kInvalid, HasSubstr("less than federation.rounds = 20, got 20")));
  EXPECT_THAT(LoadText("[model]\ntorchscript = \"m.pt\"\n[prune]\ntarget = 0.5\nend = 3\n"), IsOk());
  EXPECT_THAT(LoadText("[model]\ntorchscript = \"m.pt\"\n[prune]\ntarget = 0.5\nend = 4\nevery = 2\nregrow = 0.1\n"),
              StatusIs(kInvalid, AllOf(HasSubstr("run.toml:7: prune.regrow"), HasSubstr("expected 0"))));
}

// What --show-config prints can be given back: every shown value is accepted and shown the same again.
TEST_F(SettingsTest, ShownValuesReadBack) {
  ASSERT_OK_AND_ASSIGN(
      const LoadedSettings loaded,
      LoadText("[federation]\nquorum = 0.1\ndeadline = \"90s\"\n[training]\nclient_learning_rate = 0.012345678901\n"
               "[model]\ninput_shape = [3, 32, 32]\n[server]\nnames = [\"a\"]\n"));
  for (const SettingWithOrigin& setting : loaded.effective) {
    if (setting.value.empty() || setting.key == "security.insecure" || absl::StartsWith(setting.value, "{")) continue;
    SCOPED_TRACE(setting.key);
    ASSERT_OK_AND_ASSIGN(const LoadedSettings again, Set(setting.key, setting.value));
    EXPECT_EQ(Effective(again, setting.key).value, setting.value);
  }
}

TEST(ParsePartitionRangeTest, AcceptsOnePartAndRanges) {
  ASSERT_OK_AND_ASSIGN(const PartitionRange one, ParsePartitionRange("3/8"));
  EXPECT_EQ(one, (PartitionRange{3, 3, 8}));
  ASSERT_OK_AND_ASSIGN(const PartitionRange range, ParsePartitionRange("0-24/100"));
  EXPECT_EQ(range, (PartitionRange{0, 24, 100}));
  for (const char* bad :
       {"", "3", "8/8", "3/0", "-1/8", "5-3/8", "1-2-3/8", "1/2/3", " 1/8", "+1/8", "a/8", "1-/8", "1/99999999999999999999"}) {
    EXPECT_THAT(ParsePartitionRange(bad), Not(IsOk())) << bad;
  }
}

TEST(LearningRateAtTest, FollowsTheSchedule) {
  TrainingSettings training;
  training.recipe.client_learning_rate = 0.1;
  training.learning_rate_decay = 0.5;
  training.learning_rate_decay_every = 2;
  EXPECT_EQ(LearningRateAt(training, 4, 4), 0.1);
  training.schedule = LearningRateSchedule::kStep;
  EXPECT_EQ(LearningRateAt(training, 4, 1), 0.1);
  EXPECT_EQ(LearningRateAt(training, 4, 2), 0.1);
  EXPECT_EQ(LearningRateAt(training, 4, 3), 0.05);
  EXPECT_EQ(LearningRateAt(training, 4, 5), 0.025);
  training.schedule = LearningRateSchedule::kCosine;
  EXPECT_DOUBLE_EQ(LearningRateAt(training, 4, 1), 0.1);
  EXPECT_DOUBLE_EQ(LearningRateAt(training, 4, 3), 0.05);
  EXPECT_NEAR(LearningRateAt(training, 4, 4), 0.05 * (1 - std::sqrt(0.5)), 1e-12);
}

}  // namespace
}  // namespace fedwatt
