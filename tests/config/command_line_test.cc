#include "fedwatt/config/command_line.h"

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

CommandLineOptions Fleet() {
  return {.program = "fedwatt-fleet",
          .description = "Trains a simulated fleet.",
          .version = "1.2.3",
          .flags = {Flag::kOut, Flag::kSeed, Flag::kThreads, Flag::kStay, Flag::kInsecure},
          .threads_key = "simulation.workers"};
}

TEST(CommandLineTest, FlagsBecomeSources) {
  ASSERT_OK_AND_ASSIGN(
      const CommandLine line,
      ParseCommandLine(Fleet(), {"--config", "a.toml", "--out", "runs/x", "--seed=7", "--threads", "2", "--stay", "--insecure",
                                 "--set", "federation.rounds=3", "--set", "model.input_shape=[1,28,28]", "--set=data.path=/a=b",
                                 "--log-level", "debug", "--log-format=json", "--show-config"}));
  EXPECT_EQ(line.sources.file, "a.toml");
  EXPECT_EQ(line.log_level, LogLevel::kDebug);
  EXPECT_EQ(line.log_format, LogFormat::kJson);
  EXPECT_TRUE(line.show_config);
  EXPECT_EQ(line.print_and_exit, std::nullopt);
  std::vector<std::string> flags;
  for (const FlagValue& flag : line.sources.flags) flags.push_back(absl::StrCat(flag.flag, " ", flag.key, "=", flag.value));
  EXPECT_THAT(flags,
              ::testing::ElementsAre("--set federation.rounds=3", "--set model.input_shape=[1,28,28]", "--set data.path=/a=b",
                                     "--out out=runs/x", "--seed seed=7", "--threads simulation.workers=2",
                                     "--stay client.stay=true", "--insecure security.insecure=true"));
}

TEST(CommandLineTest, SettingsLoadFromIt) {
  ASSERT_OK_AND_ASSIGN(CommandLine line, ParseCommandLine(Fleet(), {"--insecure", "--set", "seed=3", "--seed", "4"}));
  line.sources.environment.clear();
  ASSERT_OK_AND_ASSIGN(const LoadedSettings loaded, LoadSettings(line.sources));
  EXPECT_TRUE(loaded.settings.security.insecure);
  EXPECT_EQ(loaded.settings.seed, 4u);
  const std::string shown = ShowConfig(loaded);
  EXPECT_THAT(shown, HasSubstr("(flag --seed)\n"));
  EXPECT_THAT(shown, HasSubstr("security.insecure"));
  EXPECT_THAT(shown, HasSubstr("(flag --insecure)\n"));
  EXPECT_EQ(static_cast<size_t>(std::count(shown.begin(), shown.end(), '\n')), loaded.effective.size());
}

TEST(CommandLineTest, MistakesAreUsageErrors) {
  const auto refused = [](std::vector<std::string> arguments, const char* words) {
    const absl::StatusOr<CommandLine> line = ParseCommandLine(Fleet(), arguments);
    EXPECT_THAT(line, StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr(words), HasSubstr("--help"))));
    EXPECT_EQ(ExitCodeFor(line.status()), ExitCode::kUsage);
  };
  refused({"--nonsense"}, "--nonsense");
  refused({"stray"}, "stray");
  refused({"--server", "a:1"}, "--server");  // not this binary's flag
  refused({"--config"}, "--config");
  refused({"--out", "a", "--out", "b"}, "--out");
  refused({"--set", "noequals"}, "--set: expected KEY=VALUE, got 'noequals'");
  refused({"--set", "=3"}, "--set");
  refused({"--set"}, "--set");
  refused({"--set", "a=1", "b=2"}, "b=2");
  refused({"--log-level", "loud"}, "got 'loud'");
  refused({"--log-format", "xml"}, "got 'xml'");
}

TEST(CommandLineTest, HelpAndVersionArePrintedByTheCaller) {
  ASSERT_OK_AND_ASSIGN(const CommandLine help, ParseCommandLine(Fleet(), {"--help"}));
  ASSERT_TRUE(help.print_and_exit.has_value());
  EXPECT_THAT(*help.print_and_exit, AllOf(HasSubstr("Trains a simulated fleet."), HasSubstr("--config"), HasSubstr("--set"),
                                          HasSubstr("--show-config"), HasSubstr("--threads"), Not(HasSubstr("--listen"))));
  ASSERT_OK_AND_ASSIGN(const CommandLine brief, ParseCommandLine(Fleet(), {"-h"}));
  EXPECT_EQ(brief.print_and_exit, help.print_and_exit);
  ASSERT_OK_AND_ASSIGN(const CommandLine version, ParseCommandLine(Fleet(), {"--version"}));
  EXPECT_EQ(version.print_and_exit, "fedwatt-fleet 1.2.3\n");
  ASSERT_OK_AND_ASSIGN(const CommandLine schema, ParseCommandLine(Fleet(), {"--help-config"}));
  EXPECT_EQ(schema.print_and_exit, DescribeSchema());
}

TEST(CommandLineTest, ErrorLinesPointToTheExplanation) {
  EXPECT_EQ(ErrorLine(absl::UnavailableError("localhost:7443: refused")),
            "error: localhost:7443: refused (unreachable; fedwatt explain 7)");
  EXPECT_EQ(ErrorLine(WithExitCode(absl::InvalidArgumentError("--x; see --help"), ExitCode::kUsage)), "error: --x; see --help");
}

}  // namespace
}  // namespace fedwatt
