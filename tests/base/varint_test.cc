#include "fedwatt/base/varint.h"

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::StatusIs;
using ::testing::_;

TEST(VarintTest, RoundTripsAndHasOneSpelling) {
  for (uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{127}, uint64_t{128}, uint64_t{300}, uint64_t{1} << 35, ~uint64_t{0}}) {
    std::string bytes;
    PutVarint(value, bytes);
    bytes += 'x';
    std::string_view rest = bytes;
    ASSERT_OK_AND_ASSIGN(uint64_t taken, TakeVarint(rest));
    EXPECT_EQ(taken, value);
    EXPECT_EQ(rest, "x");
  }
  std::string bytes;
  PutVarint(300, bytes);
  EXPECT_EQ(bytes, "\xac\x02");
  for (std::string bad : {std::string(), std::string("\x80"), std::string("\x80\0", 2), std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
                          std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")}) {
    std::string_view view = bad;
    EXPECT_THAT(TakeVarint(view), StatusIs(absl::StatusCode::kDataLoss, _));
  }
}

}  // namespace
}  // namespace fedwatt
