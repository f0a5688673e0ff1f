#include "fedwatt/compression/kept_channels.h"

#include <cmath>

#include "fedwatt/base/random.h"
#include "fedwatt/base/varint.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<ChannelRange> Drawn(int64_t count, double share, uint64_t seed) {
  Random random(seed);
  std::vector<ChannelRange> ranges;
  for (int64_t i = 0; i < count; ++i) {
    if (random.Uniform() >= share) continue;
    if (!ranges.empty() && ranges.back().end == i) {
      ++ranges.back().end;
    } else {
      ranges.push_back({i, i + 1});
    }
  }
  return ranges;
}

TEST(KeptChannelsTest, GoAndComeBackInAboutTheirEntropy) {
  for (const double share : {0.01, 0.1, 0.3, 0.5, 0.9}) {
    const int64_t count = 200000;
    const std::vector<ChannelRange> ranges = Drawn(count, share, 1);
    const std::string packed = PackRanges(ranges);
    ASSERT_OK_AND_ASSIGN(const std::vector<ChannelRange> back, UnpackRanges(packed));
    EXPECT_EQ(back, ranges);
    const double bits = -share * std::log2(share) - (1 - share) * std::log2(1 - share);
    EXPECT_LT(static_cast<double>(packed.size()), 1.05 * static_cast<double>(count) * bits / 8 + 40) << share;
  }
}

TEST(KeptChannelsTest, FewRangesAndLongOnesAreNotPacked) {
  EXPECT_THAT(PackRanges({}), IsEmpty());
  std::vector<ChannelRange> ranges;
  for (int64_t i = 0; i < 16; ++i) ranges.push_back({2 * i, 2 * i + 1});
  EXPECT_THAT(PackRanges(ranges), IsEmpty());
  ranges.push_back({100, 101});
  EXPECT_FALSE(PackRanges(ranges).empty());
  ranges.back().end = 100000000;
  EXPECT_THAT(PackRanges(ranges), IsEmpty()) << "so short a text may not claim so many channels";
  EXPECT_EQ(PackedBytes({{"a", ranges}, {"b", Drawn(1000, 0.5, 2)}}), static_cast<int64_t>(PackRanges(Drawn(1000, 0.5, 2)).size()));
}

TEST(KeptChannelsTest, RefusesHostileBytes) {
  const std::string packed = PackRanges(Drawn(5000, 0.2, 3));
  EXPECT_THAT(UnpackRanges(""), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")));
  std::string claims;
  PutVarint(uint64_t{1} << 40, claims);
  EXPECT_THAT(UnpackRanges(claims + packed), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("expected [1, ")));
  for (size_t i = 0; i < packed.size(); ++i) {
    EXPECT_THAT(UnpackRanges(packed.substr(0, i)), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(""))) << i;
    std::string damaged = packed;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    // What still decodes is a choice like any other.
    if (absl::StatusOr<std::vector<ChannelRange>> ranges = UnpackRanges(damaged); ranges.ok()) {
      int64_t last = -1;
      for (const ChannelRange& range : *ranges) {
        ASSERT_GT(range.begin, last);
        ASSERT_GT(range.end, range.begin);
        last = range.end;
      }
    }
  }
}

}  // namespace
}  // namespace fedwatt
