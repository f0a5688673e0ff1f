#include "fedwatt/round/model_archive.h"

#include <filesystem>
#include <set>

#include "fedwatt/base/file.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::testing::ElementsAre;

std::set<std::string> FilesIn(const std::string& directory) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) names.insert(entry.path().filename());
  return names;
}

TEST(ModelArchiveTest, KeepsTheLastAndTheBest) {
  const std::string directory = ::testing::TempDir() + "/archive";
  std::filesystem::remove_all(directory);
  ASSERT_THAT(MakeDirectories(directory), IsOk());
  {
    ASSERT_OK_AND_ASSIGN(ModelArchive archive, ModelArchive::Open(directory));
    EXPECT_EQ(archive.last_path(), "");
    ASSERT_THAT(archive.Save(1, "one", 0.5), IsOk());
    ASSERT_THAT(archive.Save(2, "two", 0.9), IsOk());
    ASSERT_THAT(archive.Save(3, "three", 0.7), IsOk());
    ASSERT_THAT(archive.Save(4, "four", std::nullopt), IsOk());
    EXPECT_THAT(FilesIn(directory + "/model"), ElementsAre("global-2.fwt", "global-4.fwt"));
  }
  // A restarted coordinator goes on with the same two files.
  ASSERT_OK_AND_ASSIGN(ModelArchive archive, ModelArchive::Open(directory, 0.9));
  EXPECT_EQ(archive.last_path(), directory + "/model/global-4.fwt");
  ASSERT_THAT(archive.Save(5, "five", 0.8), IsOk());
  EXPECT_THAT(FilesIn(directory + "/model"), ElementsAre("global-2.fwt", "global-5.fwt"));
  ASSERT_THAT(archive.Save(6, "six", 0.95), IsOk());
  EXPECT_THAT(FilesIn(directory + "/model"), ElementsAre("global-6.fwt"));
  ASSERT_OK_AND_ASSIGN(std::string bytes, ReadFile(archive.last_path()));
  EXPECT_EQ(bytes, "six");
}

}  // namespace
}  // namespace fedwatt
