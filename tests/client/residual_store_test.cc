#include "client/residual_store.h"

#include <fstream>

#include "fedwatt/base/file.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::internal {
namespace {

using ::fedwatt::testing::IsOk;
using ::testing::ElementsAre;
using ::testing::Optional;
using Verdict = ResidualStore::Verdict;

class ResidualStoreTest : public ::testing::Test {
 protected:
  std::string path_ = ::testing::TempDir() + "/residual-" + ::testing::UnitTest::GetInstance()->current_test_info()->name();
  Digest layout_ = Sha256("layout");
  void SetUp() override {
    std::remove(path_.c_str());
    std::remove((path_ + ".staged").c_str());
  }
  // A store as a new process would open it.
  ResidualStore Reopen() const { return ResidualStore(path_); }
  void Keep(std::vector<float> values, int64_t round) {
    ResidualStore store = Reopen();
    ASSERT_THAT(store.Stage("kept", "run", layout_, {std::move(values), round}), IsOk());
    ASSERT_THAT(store.Settle(Verdict::kCounted), IsOk());
  }
};

TEST_F(ResidualStoreTest, CountsOnlyWhatCounted) {
  Keep({1, 2}, 3);
  ResidualStore store = Reopen();
  ASSERT_NE(store.Find("run", layout_), nullptr);
  EXPECT_THAT(store.Find("run", layout_)->values, ElementsAre(1, 2));
  EXPECT_EQ(store.Find("run", layout_)->round, 3);
  ASSERT_THAT(store.Stage("a", "run", layout_, {{5, 6}, 4}), IsOk());
  EXPECT_THAT(store.Find("run", layout_)->values, ElementsAre(1, 2)) << "a staged residual must not be used before its verdict";
  ASSERT_THAT(store.Settle(Verdict::kNotCounted), IsOk());
  EXPECT_THAT(store.Find("run", layout_)->values, ElementsAre(1, 2));
  EXPECT_EQ(store.staged_attempt(), std::nullopt);
}

// The process dies after staging: the next one finds the question open, and each answer does the right thing.
TEST_F(ResidualStoreTest, AKilledProcessNeitherLosesNorDoubles) {
  for (Verdict verdict : {Verdict::kCounted, Verdict::kNotCounted, Verdict::kUnknown}) {
    SetUp();
    Keep({1, 2}, 3);
    {
      ResidualStore killed = Reopen();
      ASSERT_THAT(killed.Stage("a", "run", layout_, {{5, 6}, 4}), IsOk());
    }
    {
      ResidualStore next = Reopen();
      EXPECT_THAT(next.staged_attempt(), Optional(std::string("a")));
      ASSERT_THAT(next.Settle(verdict), IsOk());
    }
    ResidualStore after = Reopen();
    EXPECT_EQ(after.staged_attempt(), std::nullopt);
    const Residual* residual = after.Find("run", layout_);
    if (verdict == Verdict::kUnknown) {
      EXPECT_EQ(residual, nullptr);
    } else {
      ASSERT_NE(residual, nullptr);
      EXPECT_EQ(residual->values[0], verdict == Verdict::kCounted ? 5 : 1);
      EXPECT_EQ(residual->round, verdict == Verdict::kCounted ? 4 : 3);
    }
  }
}

TEST_F(ResidualStoreTest, BelongsToOneRunAndModel) {
  Keep({1, 2}, 3);
  EXPECT_EQ(Reopen().Find("another run", layout_), nullptr);
  EXPECT_EQ(Reopen().Find("run", Sha256("another layout")), nullptr);
  EXPECT_NE(Reopen().Find("run", layout_), nullptr);
}

TEST_F(ResidualStoreTest, DamageIsForgottenNotUsed) {
  Keep({1, 2}, 3);
  absl::StatusOr<std::string> bytes = ReadFile(path_);
  ASSERT_THAT(bytes, IsOk());
  for (size_t at = 0; at < bytes->size(); ++at) {
    std::string damaged = *bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    std::ofstream(path_, std::ios::binary) << damaged;
    EXPECT_EQ(Reopen().Find("run", layout_), nullptr) << at;
    std::ofstream(path_, std::ios::binary) << bytes->substr(0, at);
    EXPECT_EQ(Reopen().Find("run", layout_), nullptr) << at;
  }
}

TEST_F(ResidualStoreTest, WithoutAPathItLivesInMemory) {
  ResidualStore store("");
  ASSERT_THAT(store.Stage("a", "run", layout_, {{7}, 1}), IsOk());
  ASSERT_THAT(store.Settle(Verdict::kCounted), IsOk());
  ASSERT_NE(store.Find("run", layout_), nullptr);
  EXPECT_THAT(store.Find("run", layout_)->values, ElementsAre(7));
}

}  // namespace
}  // namespace fedwatt::internal
