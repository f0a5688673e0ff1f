#include "fedwatt/report/table.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/report/records.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::MakeRound;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(RoundTableTest, KeyValueLinesForLogs) {
  const RoundTable table(RoundTableOptions{});
  EXPECT_EQ(table.Header(), "");
  EXPECT_EQ(table.Legend(), "");
  EXPECT_EQ(table.Row(MakeRound(3, 0.8512)),
            "round=3 ok=2 late=1 failed=0 loss=0.7500 accuracy=0.8512 mb_up=1.00 mb_down=3.00 saving=2.50x joules=~2.00 "
            "seconds=2.50\n");
}

TEST(RoundTableTest, WhatWasNotMeasuredIsADash) {
  RoundRecord empty;
  empty.round = 1;
  empty.reason = "quorum not reached";
  EXPECT_EQ(RoundTable(RoundTableOptions{}).Row(empty),
            "round=1 ok=0 late=0 failed=0 loss=- accuracy=- mb_up=0 mb_down=0 saving=- joules=- seconds=0.00 "
            "abandoned=\"quorum not reached\"\n");
}

TEST(RoundTableTest, ColumnsLineUpUnderTheHeader) {
  const RoundTable table(RoundTableOptions{.terminal = true});
  const std::string header = table.Header();
  RoundRecord failing = MakeRound(100000, 1);
  failing.clients_rejected = 2;
  failing.clients_dropped = 3;
  for (const std::string& row : {table.Row(MakeRound(1, 0.5)), table.Row(failing)}) {
    EXPECT_EQ(row.size(), header.size());
    EXPECT_THAT(row, Not(HasSubstr("\033")));
  }
  EXPECT_THAT(table.Row(failing), HasSubstr("2/1/5"));
  for (const char* name : {"round", "ok/late/fail", "loss", "accuracy", "MB up", "MB down", "saving", "joules", "seconds"}) {
    EXPECT_THAT(header, HasSubstr(name));
  }
  EXPECT_THAT(table.Legend(), AllOf(HasSubstr("~ estimated"), HasSubstr("- not measured")));
}

TEST(RoundTableTest, ColourMarksTrouble) {
  const RoundTable table(RoundTableOptions{.terminal = true, .colour = true});
  RoundRecord good = MakeRound(1, 0.5);
  good.clients_late = 0;
  RoundRecord abandoned = MakeRound(2, 0.5);
  abandoned.committed = false;
  abandoned.reason = "\033[2Jquorum\n";  // may come from outside: nothing in it reaches the terminal raw
  EXPECT_THAT(table.Row(good), Not(HasSubstr("\033")));
  EXPECT_THAT(table.Row(MakeRound(1, 0.5)), HasSubstr("\033[33m"));
  EXPECT_THAT(table.Row(abandoned),
              AllOf(HasSubstr("\033[31m"), HasSubstr("abandoned: \\033[2Jquorum\\n"), Not(HasSubstr("\033[2J"))));
}

TEST(EnergyTextTest, CarriesItsSource) {
  EXPECT_EQ(EnergyText(Microjoules(12345678), EnergyTier::kComponent, 3, 3), "12.3");
  EXPECT_EQ(EnergyText(Microjoules(12345678), EnergyTier::kGeneric, 3, 3), "~12.3");
  EXPECT_EQ(EnergyText(Microjoules(12345678), EnergyTier::kCalibratedHere, 2, 3), "~12.3 (2/3)");
  EXPECT_EQ(EnergyText(std::nullopt, EnergyTier::kMissing, 0, 3), "-");
  EXPECT_EQ(EnergyText(Microjoules(0), EnergyTier::kComponent, 1, 1), "0");
  EXPECT_EQ(EnergyText(Microjoules(1234), EnergyTier::kWall, 1, 1), "0.00123");
  EXPECT_EQ(EnergyText(Microjoules(1), EnergyTier::kWall, 1, 1), "0.000001");
  EXPECT_EQ(EnergyText(Microjoules(123456000000), EnergyTier::kWall, 1, 1), "123456");
}

TEST(SavingTextTest, IsARatioOrADash) {
  EXPECT_EQ(SavingText(400, 100), "4.00x");
  EXPECT_EQ(SavingText(100, 100), "1.00x");
  EXPECT_EQ(SavingText(100, 0), "-");
  EXPECT_EQ(SavingText(0, 100), "-");
}

TEST(RoundTableOptionsForTest, PlainUnlessATerminalThatShowsColour) {
  const int null = open("/dev/null", O_WRONLY);
  EXPECT_FALSE(RoundTableOptionsFor(null).terminal);
  close(null);
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) GTEST_SKIP() << "no pseudo-terminal here";
  setenv("TERM", "xterm", 1);
  unsetenv("NO_COLOR");
  EXPECT_TRUE(RoundTableOptionsFor(terminal).terminal);
  EXPECT_TRUE(RoundTableOptionsFor(terminal).colour);
  setenv("NO_COLOR", "", 1);  // empty means unset
  EXPECT_TRUE(RoundTableOptionsFor(terminal).colour);
  setenv("NO_COLOR", "1", 1);
  EXPECT_TRUE(RoundTableOptionsFor(terminal).terminal);
  EXPECT_FALSE(RoundTableOptionsFor(terminal).colour);
  unsetenv("NO_COLOR");
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(RoundTableOptionsFor(terminal).colour);
  close(terminal);
}

}  // namespace
}  // namespace fedwatt
