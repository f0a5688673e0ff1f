#include "fedwatt/base/text.h"

#include "gtest/gtest.h"

namespace fedwatt {
namespace {

TEST(TruncateUtf8Test, CutsBetweenCharacters) {
  EXPECT_EQ(TruncateUtf8("plain", 10), "plain");
  EXPECT_EQ(TruncateUtf8("plain", 3), "pla");
  EXPECT_EQ(TruncateUtf8("plain", 0), "");
  EXPECT_EQ(TruncateUtf8("a\u00e9b", 2), "a");             // two bytes do not fit into one
  EXPECT_EQ(TruncateUtf8("a\u00e9b", 3), "a\u00e9");
  EXPECT_EQ(TruncateUtf8("\U0001f50b", 3), "");
  EXPECT_EQ(TruncateUtf8("\U0001f50b", 4), "\U0001f50b");
}

TEST(TruncateUtf8Test, ReplacesWhatIsNoText) {
  EXPECT_EQ(TruncateUtf8("a\xff" "b", 10), "a?b");
  EXPECT_EQ(TruncateUtf8("\xc3", 10), "?");                 // cut short
  EXPECT_EQ(TruncateUtf8("\xc0\xaf", 10), "??");            // overlong
  EXPECT_EQ(TruncateUtf8("\xed\xa0\x80", 10), "???");       // a surrogate
  EXPECT_EQ(TruncateUtf8("\xf4\x90\x80\x80", 10), "????");  // beyond U+10FFFF
}

TEST(OneLineTest, LeavesNothingThatATerminalWouldObey) {
  EXPECT_EQ(OneLine("a\x1b[31mb\n"), "a [31mb ");
  EXPECT_EQ(OneLine("\r\x7f\u00e9"), "  \u00e9");
}

}  // namespace
}  // namespace fedwatt
