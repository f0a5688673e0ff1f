#include <cfloat>
#include <cmath>
#include <cstring>

#include "fedwatt/base/random.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/compression/symbol_coder.h"
#include "fedwatt/model/rejection.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Segments = std::vector<Segment>;

std::string Floats(std::initializer_list<float> values) {
  std::string raw;
  for (float value : values) raw.append(reinterpret_cast<const char*>(&value), 4);
  return raw;
}

absl::Status Decode(std::string_view bytes, const Segments& segments, std::vector<float>& out) {
  return (*MakeCodec("ternary"))->Decode(bytes, {segments, 7, 1}, absl::MakeSpan(out));
}

TEST(TernaryTest, LargestValuesAndZerosAreCertain) {
  const Segments segments = {{1, 2}, {1, 0}, {2, 2}, {1, 1}};
  const std::vector<float> values = {0.5f, -0.5f, 0, 3, -3, 3, 0};
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const std::unique_ptr<Codec> codec = *MakeCodec("ternary");
    ASSERT_OK_AND_ASSIGN(std::string bytes, codec->Encode(values, {segments, seed, 1}));
    EXPECT_EQ(bytes.substr(0, 12), Floats({0.5f, 3, 0}));
    std::vector<float> decoded(7, NAN);
    ASSERT_THAT(codec->Decode(bytes, {segments, seed, 1}, absl::MakeSpan(decoded)), IsOk());
    EXPECT_EQ(decoded, values);
  }
}

// The share of ones at |x| = s / 4 over 40,000 draws: deviation sqrt(3 / 16 / 40000) = 0.0022; the bound is 4.6 of them.
TEST(TernaryTest, RoundsUpAsOftenAsItShould) {
  std::vector<float> values(40'001, -0.25f);
  values[0] = 1;
  const Segments segments = {{1, 40'001}};
  const std::unique_ptr<Codec> codec = *MakeCodec("ternary");
  ASSERT_OK_AND_ASSIGN(std::string bytes, codec->Encode(values, {segments, 3, 1}));
  SparseValues decoded;
  ASSERT_THAT(codec->DecodeSparse(bytes, {segments, 3, 1}, decoded), IsOk());
  EXPECT_NEAR(static_cast<double>(decoded.indices.size() - 1) / 40'000, 0.25, 0.01);
  for (size_t i = 1; i < decoded.values.size(); ++i) EXPECT_EQ(decoded.values[i], -1.0f);
  // H(1/4) + 1/4 bit of signs that are all alike: entropy coding needs 0.811 bits a value, five to a byte would take 1.6.
  EXPECT_LT(static_cast<double>(bytes.size()) * 8 / 40'001, 0.84);
}

TEST(TernaryTest, ClipsAtMultiplesOfTheRoot) {
  // Root of the mean square of 15 ones and a 7: sqrt(64 / 16) = 2.
  std::vector<float> values(16, 1.0f);
  values[5] = -7;
  const Segments segments = {{4, 4}};
  ASSERT_OK_AND_ASSIGN(std::string bytes, (*MakeCodec("ternary:clip=2.5"))->Encode(values, {segments, 3, 1}));
  EXPECT_EQ(bytes.substr(0, 4), Floats({5}));
  ASSERT_OK_AND_ASSIGN(bytes, (*MakeCodec("ternary:clip=100"))->Encode(values, {segments, 3, 1}));
  EXPECT_EQ(bytes.substr(0, 4), Floats({7}));
}

TEST(TernaryTest, RefusesWhatEncodeNeverMakes) {
  const Segments segments = {{1, 3}, {1, 2}};
  const std::vector<int64_t> counts = {3, 2};
  const auto coded = [&](const SparseSymbols& symbols) { return *EncodeSymbols(counts, symbols); };
  std::vector<float> decoded(5);
  ASSERT_THAT(Decode(Floats({2, 0}) + coded({{1, 2}, {1, -1}}), segments, decoded), IsOk());
  EXPECT_THAT(decoded, ElementsAre(0, 2, -2, 0, 0));
  EXPECT_THAT(Decode(Floats({2, 1}) + coded({{1}, {1}}), segments, decoded), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("for 0 symbols")));
  EXPECT_THAT(Decode(Floats({0, 0}) + coded({{1}, {1}}), segments, decoded), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("for 1 symbols")));
  EXPECT_THAT(Decode(Floats({2, 0}) + coded({{1}, {2}}), segments, decoded), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("symbol 2")));
  for (float bad : {NAN, INFINITY, -1.0f}) {
    EXPECT_THAT(Decode(Floats({bad, 0}) + coded({{1}, {1}}), segments, decoded), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("a scale"))) << bad;
  }
  EXPECT_THAT(Decode(Floats({-0.0f, 0}), segments, decoded), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("a scale")));
  EXPECT_THAT(Decode(Floats({2}), segments, decoded), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("truncated")));
}

TEST(TernaryTest, EncodeRefusesWhatIsNotFinite) {
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    const std::vector<float> values = {1, bad};
    const Segments segments = {{1, 2}};
    const absl::Status status = (*MakeCodec("ternary"))->Encode(values, {segments, 3, 1}).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not finite")));
    EXPECT_EQ(RejectionOf(status), Rejection::kNotFinite);
  }
}

TEST(TernaryTest, RefusesBadOptions) {
  for (const char* spec : {"ternary:clip=0", "ternary:clip=nan", "ternary:clip=inf", "ternary:clip=", "ternary:clip=-2", "ternary:block=4"}) {
    EXPECT_THAT(MakeCodec(spec), StatusIs(absl::StatusCode::kInvalidArgument, _)) << spec;
  }
}

}  // namespace
}  // namespace fedwatt
