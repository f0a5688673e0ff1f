#include "fedwatt/compression/pipeline.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "fedwatt/model/rejection.h"
#include "stage_support.h"
#include "tests/compression/transform_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::Noise;
using ::fedwatt::testing::SquaredDistance;
using ::fedwatt::testing::SquaredNorm;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

ParameterLayout Layout(std::vector<LayoutEntry> entries) { return *ParameterLayout::Create(std::move(entries)); }
ParameterLayout Flat(int64_t count) { return Layout({{"w", {count}}}); }

// The mean over `rounds` of what arrives when the client keeps what was lost.
std::vector<float> MeanWithErrorFeedback(const Pipeline& pipeline, const ParameterLayout& layout, const std::vector<float>& update, int rounds) {
  std::vector<float> residual(update.size()), sum(update.size()), decoded(update.size());
  for (int round = 1; round <= rounds; ++round) {
    std::vector<float> sent(update.size());
    for (size_t i = 0; i < sent.size(); ++i) sent[i] = update[i] + residual[i];
    const std::string bytes = *pipeline.Encode(layout, sent, static_cast<uint64_t>(round), round);
    EXPECT_THAT(pipeline.DecodeDense(bytes, layout, static_cast<uint64_t>(round), round, absl::MakeSpan(decoded)), IsOk());
    for (size_t i = 0; i < sent.size(); ++i) {
      residual[i] = sent[i] - decoded[i];
      sum[i] += decoded[i] / static_cast<float>(rounds);
    }
  }
  return sum;
}

TEST(PipelineTest, ReadsStagesInTheirOrder) {
  ASSERT_OK_AND_ASSIGN(Pipeline pipeline, Pipeline::Create("ef,top_k:fraction=0.1,rotate,int4:block=64,zstd:level=1,zstd"));
  EXPECT_THAT(pipeline.stage_names(), ElementsAre("ef", "top_k", "rotate", "int4", "zstd", "zstd"));
  EXPECT_TRUE(pipeline.error_feedback());
  EXPECT_TRUE(pipeline.sparse());
  EXPECT_EQ(pipeline.spec(), "ef,top_k:fraction=0.1,rotate,int4:block=64,zstd:level=1,zstd");
  EXPECT_FALSE(Pipeline::Create("rotate,top_k,int4")->sparse());
  EXPECT_FALSE(Pipeline::Create("int4")->error_feedback());
  EXPECT_TRUE(Pipeline::Create("ternary")->sparse());
}

TEST(PipelineTest, RefusesOtherOrders) {
  for (const char* spec : {"", ",", "ef", "top_k", "ef,top_k", "int8,ef", "top_k,ef,int8", "ef,ef,int8", "ef:on=1,int8", "int8,top_k", "zstd,int8",
                           "zstd", "int8,int8", "int8,", ",int8", "int8 ", "top_k:fraction,int8", "top_k:fraction=2,int8", "int8,zstd:level=99"}) {
    EXPECT_FALSE(Pipeline::Create(spec).ok()) << spec;
  }
  EXPECT_THAT(Pipeline::Create("topk,int8"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("did you mean 'top_k'")));
  EXPECT_THAT(Pipeline::Create("int8,top_k"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("comes before the codec 'int8'")));
}

TEST(PipelineTest, RefusesFeedbackForStagesWhoseNoiseOutgrowsIt) {
  for (const char* spec : {"dithered", "ternary", "int2", "random_k,int8", "random_k:scale=unbiased,int8", "rotate,sign:scale=unbiased"}) {
    EXPECT_THAT(Pipeline::Create(spec), IsOk()) << spec;
    EXPECT_THAT(Pipeline::Create(std::string("ef,") + spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("outgrows"))) << spec;
  }
  EXPECT_THAT(Pipeline::Create("ef,random_k:scale=none,ternary:clip=2.5"), IsOk());
}

TEST(PipelineTest, HasAtMostEightStages) {
  EXPECT_THAT(Pipeline::Create("ef,rotate,rotate,rotate,rotate,rotate,rotate,int8"), IsOk());
  EXPECT_THAT(Pipeline::Create("ef,rotate,rotate,rotate,rotate,rotate,rotate,int8,zstd"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("8 stages")));
}

TEST(PipelineTest, KnowsTheShippedStages) {
  EXPECT_THAT(StageNames(), IsSupersetOf({"bfloat16", "ef", "float32", "int2", "int4", "int8", "low_rank", "random_k", "rotate", "sign", "ternary",
                                          "threshold", "top_k", "zstd"}));
  const std::vector<std::string> names = StageNames();
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
}

TEST(PipelineTest, BuffersPassByTheStages) {
  // Of the parameters the largest, 9, is kept; buffers stay as they are, the counter has no values.
  const ParameterLayout layout = Layout({{"mean", {2}, EntryKind::kAveragedBuffer},
                                         {"w", {2, 2}},
                                         {"steps", {}, EntryKind::kLocal, Dtype::kInt64},
                                         {"variance", {1}, EntryKind::kAveragedBuffer},
                                         {"b", {2}}});
  const std::vector<float> values = {100.5f, -0.001f, 1, 9, -3, 2, 77, 4, 5};
  for (const char* spec : {"top_k:fraction=0.1,float32", "top_k:fraction=0.1,bfloat16,zstd"}) {
    ASSERT_OK_AND_ASSIGN(Pipeline pipeline, Pipeline::Create(spec));
    ASSERT_OK_AND_ASSIGN(std::string bytes, pipeline.Encode(layout, values, 1, 1));
    std::vector<float> decoded(9, NAN);
    ASSERT_THAT(pipeline.DecodeDense(bytes, layout, 1, 1, absl::MakeSpan(decoded)), IsOk());
    EXPECT_THAT(decoded, ElementsAre(100.5f, -0.001f, 0, 9, 0, 0, 77, 0, 0)) << spec;
    DecodedValues sparse;
    ASSERT_THAT(pipeline.Decode(bytes, layout, 1, 1, sparse), IsOk());
    EXPECT_TRUE(sparse.is_sparse);
    EXPECT_THAT(sparse.sparse.indices, ElementsAre(3, 0, 1, 6));
    EXPECT_THAT(sparse.sparse.values, ElementsAre(9, 100.5f, -0.001f, 77));
  }
}

TEST(PipelineTest, RefusesBuffersThatAreNotFinite) {
  const ParameterLayout layout = Layout({{"mean", {1}, EntryKind::kAveragedBuffer}, {"w", {1}}});
  ASSERT_OK_AND_ASSIGN(Pipeline pipeline, Pipeline::Create("float32"));
  for (float bad : {NAN, INFINITY}) {
    const absl::Status status = pipeline.Encode(layout, std::vector<float>{bad, 1}, 1, 1).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("value 0")));
    EXPECT_EQ(RejectionOf(status), Rejection::kNotFinite);
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &bad, 4);
    DecodedValues out;
    EXPECT_THAT(pipeline.Decode(bytes, layout, 1, 1, out), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("buffers")));
  }
}

TEST(PipelineTest, RefusesValuesWithinThatAreNotFinite) {
  const Pipeline plain = *Pipeline::Create("float32"), mask = *Pipeline::Create("random_k:fraction=1,float32");
  for (float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
    for (size_t place : {0, 5, 16, 38}) {
      std::vector<float> values(39, 1e38f);
      std::string bytes = *plain.Encode(Flat(39), values, 1, 1);
      std::memcpy(bytes.data() + place * 4, &bad, 4);
      DecodedValues out;
      EXPECT_THAT(mask.Decode('\0' + bytes, Flat(39), 1, 1, out), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("not finite")));
      // Without a transform it is the guard behind that says which value.
      ASSERT_THAT(plain.Decode(bytes, Flat(39), 1, 1, out), IsOk());
      EXPECT_EQ(std::memcmp(&out.dense[place], &bad, 4), 0);
      values[place] = bad;
      const absl::Status status = plain.Encode(Flat(39), values, 1, 1).status();
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("value " + std::to_string(place) + " is not finite")));
      EXPECT_EQ(RejectionOf(status), Rejection::kNotFinite);
    }
  }
}

TEST(PipelineTest, ForgetsWhatTheResultHeldBefore) {
  const ParameterLayout layout = Layout({{"mean", {1}, EntryKind::kAveragedBuffer}, {"w", {3}}});
  const std::vector<float> values = {7, 1, 5, 2};
  DecodedValues out;
  for (const char* spec : {"top_k:fraction=0.3,float32", "float32", "rotate,float32", "ternary", "top_k:fraction=0.3,float32"}) {
    ASSERT_OK_AND_ASSIGN(Pipeline pipeline, Pipeline::Create(spec));
    ASSERT_THAT(pipeline.Decode(*pipeline.Encode(layout, values, 1, 1), layout, 1, 1, out), IsOk());
    EXPECT_EQ(out.is_sparse, pipeline.sparse());
    EXPECT_EQ(out.dense.size(), out.is_sparse ? 0u : 4u) << spec;
    EXPECT_EQ(out.sparse.indices.empty(), !out.is_sparse) << spec;
    EXPECT_EQ(out.sparse.indices.size(), out.sparse.values.size());
  }
  EXPECT_THAT(out.sparse.indices, ElementsAre(2, 0));
}

// Sparse ternary compression (Sattler et al. 2019): the largest values, as one magnitude a tensor with signs.
TEST(PipelineTest, ComposesSparseTernaryCompression) {
  const ParameterLayout layout = Layout({{"w", {2, 5}}, {"b", {10}}});
  const std::vector<float> values = {0, 10, 0.1f, -20, 0, 0.2f, 0, 30, 0, 0, 0.3f, 0, 0, 0, 0, -8, 0, 0, 0.4f, 0};
  ASSERT_OK_AND_ASSIGN(Pipeline pipeline, Pipeline::Create("ef,top_k:fraction=0.2,sign:block=0"));
  ASSERT_OK_AND_ASSIGN(std::string bytes, pipeline.Encode(layout, values, 1, 1));
  std::vector<float> decoded(20);
  ASSERT_THAT(pipeline.DecodeDense(bytes, layout, 1, 1, absl::MakeSpan(decoded)), IsOk());
  // 10, -20 and 30 have mean 20; -8 stands alone in its tensor.
  EXPECT_THAT(decoded, ElementsAre(0, 20, 0, -20, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, -8, 0, 0, 0, 0));

  // At 1 %: H(0.01) + 0.01 = 0.0908 bit a value, 353 times fewer than float32 has.
  const std::vector<float> large = Noise(200'000, 0.01, 1);
  ASSERT_OK_AND_ASSIGN(Pipeline stc, Pipeline::Create("ef,top_k:fraction=0.01,sign:block=0"));
  ASSERT_OK_AND_ASSIGN(bytes, stc.Encode(Flat(200'000), large, 1, 1));
  EXPECT_LT(static_cast<double>(bytes.size()) * 8 / 200'000, 0.094);
}

// With the residual kept, what arrives over time is what was sent, but for the residual's last value over the number of rounds.
TEST(PipelineTest, ErrorFeedbackMakesBiasedPipelinesArriveInTheMean) {
  const std::vector<float> update = Noise(2000, 1, 5);
  const ParameterLayout layout = Layout({{"w", {40, 45}}, {"b", {200}}});
  for (const char* spec : {"ef,top_k:fraction=0.05,sign:block=0", "ef,sign", "ef,ternary:clip=2.5", "ef,random_k:fraction=0.1:scale=none,float32",
                           "ef,threshold:multiple=1.5,float32", "ef,low_rank:rank=4,float32", "ef,rotate,sign"}) {
    ASSERT_OK_AND_ASSIGN(Pipeline pipeline, Pipeline::Create(spec));
    const double few = SquaredDistance(MeanWithErrorFeedback(pipeline, layout, update, 20), update) / SquaredNorm(update);
    const double many = SquaredDistance(MeanWithErrorFeedback(pipeline, layout, update, 400), update) / SquaredNorm(update);
    EXPECT_LT(many, 0.04) << spec;
    EXPECT_LT(many, few / 10) << spec;
  }
}

// DRIVE: with one scale of 32 bits for 4,096 values, the error is (pi / 2 - 1) |x|^2 (Vargaftik et al. 2021, section 4) and vanishes in the mean,
// whatever the vector; a sign without a rotation is off for good.
TEST(PipelineTest, RotatedSignsAreUnbiasedAtOneBit) {
  const int64_t count = 3 * 4096 + 1000;
  std::vector<float> values = Noise(static_cast<size_t>(count), 0.01, 6);
  for (size_t i = 0; i < values.size(); ++i) values[i] = values[i] * values[i] * values[i] * 1e4f + (i % 1000 == 0 ? 1.0f : 0.0f);
  const auto errors = [&](const char* spec, int trials) {
    const Pipeline pipeline = *Pipeline::Create(spec);
    std::vector<float> mean(values.size()), decoded(values.size());
    double single = 0;
    for (int t = 0; t < trials; ++t) {
      const std::string bytes = *pipeline.Encode(Flat(count), values, static_cast<uint64_t>(t), 1);
      EXPECT_LE(static_cast<double>(bytes.size()) * 8 / static_cast<double>(count), 1.012);
      EXPECT_THAT(pipeline.DecodeDense(bytes, Flat(count), static_cast<uint64_t>(t), 1, absl::MakeSpan(decoded)), IsOk());
      single += SquaredDistance(decoded, values) / SquaredNorm(values) / trials;
      for (size_t i = 0; i < mean.size(); ++i) mean[i] += decoded[i] / static_cast<float>(trials);
    }
    return std::pair(single, SquaredDistance(mean, values) / SquaredNorm(values));
  };
  const auto [single, mean] = errors("rotate,sign:scale=unbiased", 200);
  EXPECT_NEAR(single, M_PI / 2 - 1, 0.03);
  EXPECT_LT(mean, 1.15 * single / 200);
  const auto [plain_single, plain_mean] = errors("sign:scale=unbiased", 20);
  EXPECT_GT(plain_mean, 10 * single / 20);
  // The other scale is nearer, and biased towards zero by 2 / pi.
  const auto [shrunk_single, shrunk_mean] = errors("rotate,sign:scale=mean", 200);
  EXPECT_NEAR(shrunk_single, 1 - 2 / M_PI, 0.02);
  EXPECT_GT(shrunk_mean, 10 * mean);
}

TEST(PipelineTest, RandomMasksAreUnbiased) {
  const std::vector<float> values = Noise(500, 1, 7);
  const Pipeline pipeline = *Pipeline::Create("random_k:fraction=0.2,float32");
  std::vector<float> mean(500), decoded(500);
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    ASSERT_THAT(pipeline.DecodeDense(*pipeline.Encode(Flat(500), values, seed, 1), Flat(500), seed, 1, absl::MakeSpan(decoded)), IsOk());
    for (size_t i = 0; i < 500; ++i) mean[i] += decoded[i] / 2000;
  }
  // Variance (n / k - 1) x^2 = 4 x^2 each; of the sum of 500 such squares, sqrt(6 / 500) = 11 % is one deviation, and the bound is four. Without the
  // scale it would be 1,280.
  EXPECT_NEAR(SquaredDistance(mean, values) / SquaredNorm(values) * 2000, 4, 1.8);
}

TEST(PipelineTest, RefusesSideInformationThatIsLongerThanTheBytes) {
  const Pipeline pipeline = *Pipeline::Create("rotate,float32");
  DecodedValues out;
  EXPECT_THAT(pipeline.Decode("", Flat(1), 1, 1, out), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("length")));
  EXPECT_THAT(pipeline.Decode(std::string("\5abc"), Flat(1), 1, 1, out), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("5 bytes, 3 are left")));
  EXPECT_THAT(pipeline.Decode(std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"), Flat(1), 1, 1, out),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("18446744073709551615 bytes")));
}

}  // namespace
}  // namespace fedwatt
