#include "fedwatt/compression/codec.h"

#include <cmath>
#include <cstring>

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

TEST(MakeCodecTest, KnowsTheShippedOnes) { EXPECT_THAT(Codecs().Names(), IsSupersetOf({"bfloat16", "float32", "int8"})); }

TEST(MakeCodecTest, ParsesOptions) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Codec> codec, MakeCodec("int8:block=2"));
  const std::vector<float> values = {1, 2, 3};
  ASSERT_OK_AND_ASSIGN(std::string bytes, codec->Encode(values, {{}, 1, 1}));
  EXPECT_EQ(bytes.size(), 2 * 4 + 3u);
}

TEST(MakeCodecTest, RefusesBadSpellings) {
  EXPECT_THAT(MakeCodec("float3"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("did you mean 'float32'")));
  EXPECT_THAT(MakeCodec(""), StatusIs(absl::StatusCode::kNotFound, _));
  for (const char* spec : {"int8:", "int8:block", "int8:=2", "int8:block=", "int8:block=0", "int8:block=-1", "int8:block=65537", "int8:block=2x",
                           "int8:block=2:block=2", "int8:block=99999999999", "float32:block=2"}) {
    EXPECT_THAT(MakeCodec(spec), StatusIs(absl::StatusCode::kInvalidArgument, _)) << spec;
  }
  EXPECT_THAT(MakeCodec("int8:block=65536"), IsOk());
}

TEST(Float32Test, KeepsEveryBit) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Codec> codec, MakeCodec("float32"));
  const std::vector<float> values = {1.0f, -0.0f, NAN, INFINITY, 1e-45f, 3.4e38f};
  const CodingContext context;
  ASSERT_OK_AND_ASSIGN(std::string bytes, codec->Encode(values, context));
  std::vector<float> decoded(values.size());
  ASSERT_THAT(codec->Decode(bytes, context, absl::MakeSpan(decoded)), IsOk());
  EXPECT_EQ(std::memcmp(decoded.data(), values.data(), values.size() * sizeof(float)), 0);
  EXPECT_EQ(codec->ErrorBound(1e9), 0);
}

}  // namespace
}  // namespace fedwatt
