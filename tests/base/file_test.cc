#include "fedwatt/base/file.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;

class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/fedwatt_file_XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  static int Mode(const std::string& path) {
    struct stat info = {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0);
    return info.st_mode & 0777;
  }

  std::string folder_;
};

TEST_F(FileTest, WritesReplacesAndReadsBack) {
  const std::string bytes("a\0b\n", 4);
  ASSERT_THAT(WriteFileAtomically(Path("f"), "older and longer"), IsOk());
  ASSERT_THAT(WriteFileAtomically(Path("f"), bytes), IsOk());
  EXPECT_EQ(*ReadFile(Path("f")), bytes);
  // Nothing temporary stays behind.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(FileTest, AppliesTheModeWhateverTheMask) {
  const mode_t old_mask = ::umask(0);
  EXPECT_THAT(WriteFileAtomically(Path("secret"), "x", 0600), IsOk());
  ::umask(0777);
  EXPECT_THAT(WriteFileAtomically(Path("open"), "x", 0644), IsOk());
  ::umask(old_mask);
  EXPECT_EQ(Mode(Path("secret")), 0600);
  EXPECT_EQ(Mode(Path("open")), 0644);
}

TEST_F(FileTest, NamesMissingFilesAndFolders) {
  EXPECT_THAT(ReadFile(Path("none")), StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  EXPECT_THAT(WriteFileAtomically(Path("no/folder/f"), "x"), StatusIs(absl::StatusCode::kNotFound, _));
  EXPECT_THAT(ReadFile(folder_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("folder")));
}

TEST_F(FileTest, BoundsWhatItReads) {
  ASSERT_THAT(WriteFileAtomically(Path("f"), "12345"), IsOk());
  EXPECT_EQ(*ReadFile(Path("f"), 5), "12345");
  EXPECT_THAT(ReadFile(Path("f"), 4), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("larger than 4")));
}

TEST_F(FileTest, ReadsFilesThatReportNoSize) {
  absl::StatusOr<std::string> status = ReadFile("/proc/self/status");
  ASSERT_THAT(status, IsOk());
  EXPECT_THAT(*status, HasSubstr("Pid:"));
}

TEST_F(FileTest, MakesFoldersOnceAndRefusesFilesInTheirPlace) {
  ASSERT_THAT(MakeDirectories(Path("a/b/c"), 0700), IsOk());
  EXPECT_EQ(Mode(Path("a/b/c")), 0700);
  EXPECT_THAT(MakeDirectories(Path("a/b/c")), IsOk());
  ASSERT_THAT(WriteFileAtomically(Path("f"), "x"), IsOk());
  EXPECT_THAT(MakeDirectories(Path("f")), StatusIs(absl::StatusCode::kAlreadyExists, _));
}

TEST_F(FileTest, LockExcludesAndNamesItsHolder) {
  std::optional<FileLock> first;
  {
    absl::StatusOr<FileLock> lock = FileLock::Acquire(Path("lock"));
    ASSERT_THAT(lock, IsOk());
    first.emplace(*std::move(lock));
  }
  // An flock belongs to the open file, so a second open in this process stands for another process.
  EXPECT_THAT(FileLock::Acquire(Path("lock")), StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(std::to_string(::getpid()))));
  first.reset();
  EXPECT_THAT(FileLock::Acquire(Path("lock")), IsOk());
}

TEST_F(FileTest, LockDiesWithItsProcess) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    absl::StatusOr<FileLock> lock = FileLock::Acquire(Path("lock"));
    const char answer = lock.ok() ? 'y' : 'n';
    if (::write(ready[1], &answer, 1) != 1) ::_exit(1);
    ::pause();
    ::_exit(0);
  }
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  ASSERT_EQ(answer, 'y');
  EXPECT_THAT(FileLock::Acquire(Path("lock")), StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(std::to_string(child))));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_THAT(FileLock::Acquire(Path("lock")), IsOk());
  ::close(ready[0]);
  ::close(ready[1]);
}

}  // namespace
}  // namespace fedwatt
