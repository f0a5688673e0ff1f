// Runs the binary `fedwatt` as users do.
#ifndef FEDWATT_TESTS_TOOL_RUN_TOOL_H_
#define FEDWATT_TESTS_TOOL_RUN_TOOL_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "fedwatt/base/file.h"

namespace fedwatt::testing {

struct Outcome {
  int code = -1;  // exit code; -1 when a signal ended it
  std::string out, err;
};

// A folder of its own for each test, in which the tool runs.
class ToolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string folder = ::testing::TempDir() + "fedwatt-tool-XXXXXX";
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }

  // Ends up with the process's id; Await gets the rest. Standard input is `input`.
  pid_t Start(std::vector<std::string> arguments, const std::string& input = "") {
    EXPECT_TRUE(WriteFileAtomically(Path("stdin"), input).ok());
    arguments.insert(arguments.begin(), "fedwatt");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, Path("stdin").c_str(), O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, Path("stdout").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, Path("stderr").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addchdir_np(&actions, folder_.c_str());
    pid_t pid = -1;
    EXPECT_EQ(::posix_spawn(&pid, FEDWATT_TOOL_BINARY, &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
  }

  Outcome Await(pid_t pid) {
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, ReadFile(Path("stdout")).value_or(""),
            ReadFile(Path("stderr")).value_or("")};
  }

  Outcome Run(std::vector<std::string> arguments, const std::string& input = "") {
    return Await(Start(std::move(arguments), input));
  }

  std::string folder_;
};

// Wrong usage: exit 2, nothing on stdout, one line on stderr.
inline void ExpectUsage(const Outcome& outcome, const std::string& part) {
  EXPECT_EQ(outcome.code, 2);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err.substr(0, 7), "error: ");
  EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
  EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
}

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_TOOL_RUN_TOOL_H_
