#include "fedwatt/base/bytes.h"

#include <limits>

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

TEST(ByteWriterTest, WritesLittleEndian) {
  ByteWriter writer;
  writer.Put<uint32_t>(0x01020304);
  writer.Put<int16_t>(-2);
  writer.Put(1.0f);
  writer.PutBytes("ab");
  EXPECT_EQ(writer.str(), std::string("\x04\x03\x02\x01\xfe\xff\x00\x00\x80\x3f" "ab", 12));
}

TEST(ByteReaderTest, ReadsBackWhatTheWriterWrote) {
  ByteWriter writer;
  writer.Put<uint64_t>(std::numeric_limits<uint64_t>::max());
  writer.Put(-0.5);
  ByteReader reader(writer.str(), "state");
  EXPECT_EQ(*reader.Get<uint64_t>("a"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(*reader.Get<double>("b"), -0.5);
  EXPECT_EQ(reader.remaining(), 0u);
}

TEST(ByteReaderTest, RefusesToReadPastTheEndAndNamesFieldAndOffset) {
  ByteReader reader("abcde", "state");
  ASSERT_THAT(reader.GetBytes(2, "head"), IsOk());
  EXPECT_THAT(reader.Get<uint32_t>("length"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("'length' needs 4 bytes at offset 2, 3 are left")));
  // A failed read moves nothing.
  EXPECT_EQ(reader.offset(), 2u);
  EXPECT_EQ(*reader.GetBytes(3, "tail"), "cde");
  EXPECT_THAT(reader.Get<uint8_t>("more"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("state")));
}

TEST(ByteReaderTest, RefusesCountsThatWouldOverflowAnOffset) {
  ByteReader reader("abcde", "state");
  ASSERT_THAT(reader.GetBytes(1, "head"), IsOk());
  EXPECT_THAT(reader.GetBytes(std::numeric_limits<uint64_t>::max(), "all"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("all")));
  EXPECT_THAT(reader.GetBytes(0, "nothing"), IsOk());
}

}  // namespace
}  // namespace fedwatt
