// What every pipeline promises, for each registered codec alone and for chains of every kind.
#include <cfloat>
#include <cmath>
#include <optional>
#include <ostream>
#include <set>

#include "fedwatt/compression/pipeline.h"
#include "tests/compression/transform_testing.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/value_blocks.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::Noise;
using ::fedwatt::testing::SquaredDistance;
using ::fedwatt::testing::SquaredNorm;
using ::fedwatt::testing::StatusIs;
using ::testing::_;

// `error` is the most that |decoded - x|^2 / |x|^2 may be for normal values, `bits` the most that a value may take of a layout of 19,170.
struct Case {
  std::string spec;
  double error;
  double bits;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.spec; }
};

std::vector<Case> Cases() {
  std::vector<Case> cases = {
      {"float32", 0, 32.1},
      {"bfloat16", 0x1p-16, 16.1},
      {"int8", 2e-4, 8.3},
      {"int4", 0.1, 4.3},
      {"int2", 3, 2.3},
      {"sign", 0.38, 1.1},
      {"sign:block=0:scale=unbiased", 0.6, 1.1},
      {"ternary", 4, 1.6},
      {"ternary:clip=2.5", 2, 1.8},
      {"float32,zstd", 0, 31},
      {"int8,zstd:level=19", 2e-4, 7.8},
      {"bfloat16,zstd,zstd:level=1", 0x1p-16, 15},
      {"rotate,float32", 1e-11, 32.1},
      {"rotate,sign:scale=unbiased", 0.62, 1.1},
      {"rotate,int4", 0.1, 4.3},
      {"rotate,rotate,int2,zstd", 3, 2.3},
      {"top_k:fraction=0.01,float32", 0.95, 0.5},
      {"ef,top_k:fraction=0.01,sign:block=0", 0.95, 0.13},
      {"top_k:fraction=0.1,rotate,sign", 0.9, 0.8},
      {"top_k:fraction=0.3,threshold:multiple=1.2,int8", 0.9, 3.5},
      {"top_k:fraction=1,float32", 0, 33},
      {"random_k:fraction=0.25,float32", 3.3, 8.1},
      {"random_k:fraction=0.7:scale=none,bfloat16", 0.32, 11.5},
      {"random_k:fraction=0.5,top_k:fraction=0.1,ternary", 2, 0.6},
      {"threshold,int4", 0.99, 0.2},
      {"threshold:multiple=1,ternary", 2, 2.2},
      {"low_rank:rank=8,float32", 0.85, 24},
      {"ef,low_rank:rank=2,int8,zstd", 1, 4},
      {"low_rank:rank=2,top_k:fraction=0.5,rotate,float32,zstd", 1, 8.5},
  };
  std::set<std::string> known;
  for (const Case& c : cases) known.insert(c.spec);
  for (const std::string& codec : Codecs().Names()) {
    if (known.count(codec) == 0) cases.push_back({codec, 10, 33});
  }
  return cases;
}

ParameterLayout LayoutOf(std::vector<LayoutEntry> entries) { return *ParameterLayout::Create(std::move(entries)); }

const std::vector<ParameterLayout>& Layouts() {
  static const auto& layouts = *new std::vector<ParameterLayout>{
      LayoutOf({{"w", {1}}}),
      LayoutOf({{"w", {}}, {"v", {}}, {"u", {3}}}),
      LayoutOf({{"mean", {5}, EntryKind::kAveragedBuffer}}),
      LayoutOf({{"w", {17, 31}}, {"steps", {}, EntryKind::kLocal, Dtype::kInt64}, {"mean", {3}, EntryKind::kAveragedBuffer}, {"b", {1, 7, 1}}}),
      LayoutOf({{"mean", {2}, EntryKind::kAveragedBuffer}, {"conv", {5, 3, 3, 3}}, {"var", {9}, EntryKind::kAveragedBuffer}, {"b", {259}}}),
  };
  return layouts;
}
// 19,170 values, as of a small network.
const ParameterLayout& Network() {
  static const auto& layout = *new ParameterLayout(LayoutOf({{"1.w", {64, 256}}, {"1.b", {64}}, {"2.w", {40, 65}}, {"2.b", {40}}, {"3.w", {2, 41}}}));
  return layout;
}

bool IsBuffer(const ParameterLayout& layout, size_t value) {
  for (size_t i = layout.entries().size(); i-- > 0;) {
    const LayoutEntry& entry = layout.entries()[i];
    if (entry.kind == EntryKind::kLocal || static_cast<size_t>(layout.offset(i)) > value) continue;
    return entry.kind == EntryKind::kAveragedBuffer;
  }
  return false;
}

class PipelineContractTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(pipeline_, Pipeline::Create(GetParam().spec)); }

  std::string Encode(const ParameterLayout& layout, const std::vector<float>& values) {
    absl::StatusOr<std::string> bytes = pipeline_->Encode(layout, values, 9, 3);
    EXPECT_THAT(bytes, IsOk());
    return bytes.value_or("");
  }
  absl::StatusOr<std::vector<float>> Decode(std::string_view bytes, const ParameterLayout& layout) {
    std::vector<float> values(static_cast<size_t>(layout.value_count()), NAN);
    FEDWATT_RETURN_IF_ERROR(pipeline_->DecodeDense(bytes, layout, 9, 3, absl::MakeSpan(values)));
    return values;
  }
  static std::vector<float> Values(const ParameterLayout& layout, uint64_t seed) {
    return Noise(static_cast<size_t>(layout.value_count()), 0.02, seed);
  }
  // What VisitBlocks shows, written out; nullopt where it fails.
  std::optional<std::vector<float>> Visit(std::string_view bytes, const ParameterLayout& layout) {
    std::vector<float> values(static_cast<size_t>(layout.value_count()));
    std::vector<int> seen(values.size());
    const bool good = pipeline_->VisitBlocks(bytes, layout, 9, 3, [&](const ValueBlock& block) {
      const std::vector<float> shown = fedwatt::testing::ValuesOf(block);
      for (size_t i = 0; i < shown.size(); ++i) {
        EXPECT_EQ(seen.at(block.begin + i)++, 0);
        values[block.begin + i] = shown[i];
      }
      return true;
    });
    return good ? std::optional(values) : std::nullopt;
  }
  // Whether it can, by its first stage: those that can, all do.
  bool HasBlocks() const {
    const std::string& first = pipeline_->stage_names().front();
    return first == "float32" || first == "bfloat16" || first == "int8" || first == "int4" || first == "int2";
  }
  // Whatever bytes decode to is a vector of this layout.
  void ExpectWellFormed(const DecodedValues& out, const ParameterLayout& layout) {
    const size_t count = static_cast<size_t>(layout.value_count());
    ASSERT_EQ(out.is_sparse, pipeline_->sparse());
    if (out.is_sparse) {
      ASSERT_EQ(out.sparse.indices.size(), out.sparse.values.size());
      ASSERT_EQ(std::set<uint32_t>(out.sparse.indices.begin(), out.sparse.indices.end()).size(), out.sparse.indices.size());
      for (uint32_t index : out.sparse.indices) ASSERT_LT(index, count);
      for (float value : out.sparse.values) ASSERT_TRUE(std::isfinite(value));
    } else {
      ASSERT_EQ(out.dense.size(), count);
    }
  }

  std::optional<Pipeline> pipeline_;
};

TEST_P(PipelineContractTest, ErrorAndSizeAreAsExpected) {
  const std::vector<float> values = Values(Network(), 1);
  const std::string bytes = Encode(Network(), values);
  ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Decode(bytes, Network()));
  EXPECT_LE(SquaredDistance(decoded, values), GetParam().error * SquaredNorm(values));
  EXPECT_LE(static_cast<double>(bytes.size()) * 8 / static_cast<double>(values.size()), GetParam().bits);
}

TEST_P(PipelineContractTest, BuffersComeBackExactly) {
  for (const ParameterLayout& layout : Layouts()) {
    const std::vector<float> values = Values(layout, 2);
    ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Decode(Encode(layout, values), layout));
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_TRUE(std::isfinite(decoded[i]));
      if (IsBuffer(layout, i)) {
        EXPECT_EQ(decoded[i], values[i]) << i;
      }
    }
  }
}

TEST_P(PipelineContractTest, IsDeterministicAndSparseValuesAreThoseOfTheWholeVector) {
  for (const ParameterLayout& layout : Layouts()) {
    const std::vector<float> values = Values(layout, 3);
    const std::string bytes = Encode(layout, values);
    EXPECT_EQ(bytes, Encode(layout, values));
    ASSERT_OK_AND_ASSIGN(std::vector<float> dense, Decode(bytes, layout));
    DecodedValues out;
    ASSERT_THAT(pipeline_->Decode(bytes, layout, 9, 3, out), IsOk());
    ExpectWellFormed(out, layout);
    if (!out.is_sparse) {
      EXPECT_EQ(out.dense, dense);
      continue;
    }
    std::vector<float> all(dense.size());
    for (size_t i = 0; i < out.sparse.indices.size(); ++i) all[out.sparse.indices[i]] = out.sparse.values[i];
    EXPECT_EQ(all, dense);
  }
}

TEST_P(PipelineContractTest, BlocksShowWhatIsDecoded) {
  for (const ParameterLayout& layout : Layouts()) {
    const std::string bytes = Encode(layout, Values(layout, 3));
    const std::optional<std::vector<float>> shown = Visit(bytes, layout);
    ASSERT_EQ(shown.has_value(), HasBlocks());
    if (!shown.has_value()) continue;
    ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Decode(bytes, layout));
    EXPECT_EQ(*shown, decoded);
    // A visitor that has seen enough is heard.
    int shown_blocks = 0;
    EXPECT_FALSE(pipeline_->VisitBlocks(bytes, layout, 9, 3, [&](const ValueBlock&) { return ++shown_blocks < 1; }));
    EXPECT_EQ(shown_blocks, 1);
  }
  // More than one chunk, cut by segments.
  const std::string bytes = Encode(Network(), Values(Network(), 8));
  if (HasBlocks()) {
    EXPECT_EQ(Visit(bytes, Network()), *Decode(bytes, Network()));
  }
}

TEST_P(PipelineContractTest, ZerosStayZeros) {
  for (const ParameterLayout& layout : Layouts()) {
    const std::vector<float> zeros(static_cast<size_t>(layout.value_count()));
    ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Decode(Encode(layout, zeros), layout));
    EXPECT_EQ(decoded, zeros);
  }
}

TEST_P(PipelineContractTest, RefusesEveryOtherLength) {
  for (const ParameterLayout& layout : Layouts()) {
    const std::string bytes = Encode(layout, Values(layout, 4));
    for (size_t size = 0; size < bytes.size(); ++size) {
      ASSERT_THAT(Decode(std::string_view(bytes).substr(0, size), layout), StatusIs(absl::StatusCode::kDataLoss, _))
          << size << " of " << bytes.size();
    }
    EXPECT_THAT(Decode(bytes + '\0', layout), StatusIs(absl::StatusCode::kDataLoss, _));
  }
}

TEST_P(PipelineContractTest, BearsDamageAndRandomBytes) {
  Random random(5);
  for (const ParameterLayout& layout : Layouts()) {
    const std::string good = Encode(layout, Values(layout, 5));
    for (int trial = 0; trial < 400; ++trial) {
      std::string bytes = good;
      if (trial % 2 == 0) {
        for (uint64_t i = 0; i <= random.Below(4); ++i) bytes[random.Below(bytes.size())] ^= static_cast<char>(1 << random.Below(8));
      } else {
        bytes.resize(random.Below(2 * good.size() + 8));
        for (char& c : bytes) c = static_cast<char>(random.Next());
      }
      DecodedValues out;
      const absl::Status status = pipeline_->Decode(bytes, layout, 9, 3, out);
      ASSERT_TRUE(status.ok() || status.code() == absl::StatusCode::kDataLoss) << status;
      if (status.ok()) ExpectWellFormed(out, layout);
      const std::optional<std::vector<float>> shown = Visit(bytes, layout);
      const bool finite = shown.has_value() && std::all_of(shown->begin(), shown->end(), [](float value) { return std::isfinite(value); });
      if (finite) {
        ASSERT_EQ(*shown, out.dense) << status;
      } else if (status.ok() && HasBlocks()) {
        ASSERT_TRUE(shown.has_value());
      }
    }
  }
}

TEST_P(PipelineContractTest, EncodeRefusesWhatIsNotFinite) {
  for (const ParameterLayout& layout : Layouts()) {
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      std::vector<float> values = Values(layout, 6);
      values.back() = bad;
      EXPECT_THAT(pipeline_->Encode(layout, values, 9, 3), StatusIs(absl::StatusCode::kInvalidArgument, _));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Specs, PipelineContractTest, ::testing::ValuesIn(Cases()), [](const auto& info) {
  std::string name;
  for (char c : info.param.spec) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

}  // namespace
}  // namespace fedwatt
