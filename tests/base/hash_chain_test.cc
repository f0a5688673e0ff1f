#include "fedwatt/base/hash_chain.h"

#include <unistd.h>

#include <filesystem>

#include "fedwatt/base/file.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

class HashChainTest : public ::testing::Test {
 protected:
  HashChainTest() : path_(::testing::TempDir() + "fedwatt-chain-" + std::to_string(::getpid())) {}
  ~HashChainTest() override { std::filesystem::remove(path_); }

  std::string Text() const { return ReadFile(path_).value_or(""); }
  void Write(int lines) {
    ASSERT_OK_AND_ASSIGN(auto file, HashChainFile::Open(path_));
    for (int i = 0; i < lines; ++i) ASSERT_THAT(file->Append("line " + std::to_string(i), i % 2 == 0).status(), IsOk());
  }

  const std::string path_;
};

TEST_F(HashChainTest, HashesAreThoseOfTheHexadecimalHeadAndThePayload) {
  Write(1);
  EXPECT_EQ(Text(), Sha256(std::string(64, '0') + "line 0").Hex() + " line 0\n");
}

TEST_F(HashChainTest, AnyChangedByteAnyLineTakenAwayAndAnySwapShows) {
  Write(20);
  const std::string text = Text();
  ASSERT_OK_AND_ASSIGN(std::vector<ChainEntry> entries, ReadHashChain(text, "x"));
  ASSERT_EQ(entries.size(), 20u);
  for (size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = changed[i] == 'x' ? 'y' : 'x';
    EXPECT_THAT(ReadHashChain(changed, "x").status(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("x: record "))) << i;
    // A shorter text is a prefix only where it ends with a line.
    EXPECT_EQ(ReadHashChain(text.substr(0, i), "x").ok(), i == 0 || text[i - 1] == '\n') << i;
  }
  std::vector<std::string> lines;
  for (size_t start = 0; start < text.size(); start = text.find('\n', start) + 1) lines.push_back(text.substr(start, text.find('\n', start) + 1 - start));
  for (size_t gone = 0; gone + 1 < lines.size(); ++gone) {
    std::string without, swapped;
    for (size_t i = 0; i < lines.size(); ++i) {
      if (i != gone) without += lines[i];
      swapped += lines[i == gone ? gone + 1 : i == gone + 1 ? gone : i];
    }
    EXPECT_FALSE(ReadHashChain(without, "x").ok()) << gone;
    EXPECT_FALSE(ReadHashChain(swapped, "x").ok()) << gone;
  }
}

TEST_F(HashChainTest, GoesOnAfterATornLineAndRefusesDamage) {
  Write(3);
  const std::string whole = Text();
  ASSERT_THAT(WriteFileAtomically(path_, whole + "abc"), IsOk());
  Write(1);
  ASSERT_OK_AND_ASSIGN(std::vector<ChainEntry> entries, ReadHashChain(Text(), "x"));
  EXPECT_EQ(entries.size(), 4u);
  ASSERT_THAT(WriteFileAtomically(path_, "abc\n" + whole), IsOk());
  EXPECT_THAT(HashChainFile::Open(path_).status(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("record 1")));
}

}  // namespace
}  // namespace fedwatt
