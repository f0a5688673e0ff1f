#include "fedwatt/base/failpoint.h"

#include <signal.h>

#include <cerrno>

#include "gtest/gtest.h"

namespace fedwatt {
namespace {

class FailpointTest : public ::testing::Test {
 protected:
  ~FailpointTest() override { ArmFailpoints(""); }
};

TEST_F(FailpointTest, IsNothingUntilItIsArmed) {
  EXPECT_EQ(Failpoint("a"), 0);
  ASSERT_TRUE(ArmFailpoints("a=EIO"));
  EXPECT_EQ(Failpoint("b"), 0);
  EXPECT_EQ(Failpoint("a"), EIO);
  ASSERT_TRUE(ArmFailpoints(""));
  EXPECT_EQ(Failpoint("a"), 0);
}

TEST_F(FailpointTest, FailsFromThePassageOnThatWasAskedFor) {
  ASSERT_TRUE(ArmFailpoints("a=ENOSPC:2"));
  EXPECT_EQ(Failpoint("a"), 0);
  EXPECT_EQ(Failpoint("a"), ENOSPC);
  EXPECT_EQ(Failpoint("a"), ENOSPC);
}

TEST_F(FailpointTest, CountsOnlyPassagesThatHoldTheText) {
  ASSERT_TRUE(ArmFailpoints("a@global-1=EIO:2"));
  EXPECT_EQ(Failpoint("a", "/out/address"), 0);
  EXPECT_EQ(Failpoint("a", "/out/global-1.state"), 0);
  EXPECT_EQ(Failpoint("a", "/out/global-2.state"), 0);
  EXPECT_EQ(Failpoint("a", "/out/global-1.state"), EIO);
}

TEST_F(FailpointTest, AnUnreadableSpecArmsNothing) {
  for (const char* spec : {"a=ENOENT", "a:0", "a:x", ":2", "a=EIO,b:-1"}) {
    EXPECT_FALSE(ArmFailpoints(spec)) << spec;
    EXPECT_EQ(Failpoint("a"), 0) << spec;
  }
}

using FailpointDeathTest = FailpointTest;

TEST_F(FailpointDeathTest, KillsAsKillNineDoes) {
  EXPECT_EXIT(
      {
        ArmFailpoints("a:2");
        Failpoint("a");
        Failpoint("a");
      },
      ::testing::KilledBySignal(SIGKILL), "");
}

}  // namespace
}  // namespace fedwatt
