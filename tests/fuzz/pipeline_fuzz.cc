// Pipelines, and with them transforms, decode any bytes to finite values of the layout or to DATA_LOSS; sparse and whole vectors agree.
// Input: pipeline, shapes, bytes.
#include <algorithm>
#include <cmath>
#include <string>

#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/pipeline.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/testing/value_blocks.h"

namespace fedwatt {
namespace {

const std::vector<Pipeline>& Pipelines() {
  static const auto& pipelines = *[] {
    auto* made = new std::vector<Pipeline>;
    // A list with places of its own, so that a new stage does not change what a corpus means.
    for (const char* spec :
         {"ef,top_k:fraction=0.1,sign:block=0", "top_k:fraction=0.5,float32", "random_k:fraction=0.3,int4", "threshold,ternary",
          "rotate,sign:scale=unbiased", "rotate,float32", "low_rank:rank=2,float32", "low_rank:rank=1,top_k:fraction=0.5,rotate,bfloat16", "dct,ecsq",
          "dithered", "int8,zstd", "threshold:multiple=1,float32,zstd"}) {
      made->push_back(*Pipeline::Create(spec));
    }
    return made;
  }();
  return pipelines;
}

// Of tensors a, b, c; the first may be a buffer.
ParameterLayout LayoutOf(bool buffer_first, const std::vector<Segment>& segments) {
  std::vector<LayoutEntry> entries;
  for (const Segment& segment : segments) {
    const EntryKind kind = buffer_first && entries.empty() ? EntryKind::kAveragedBuffer : EntryKind::kParameter;
    entries.push_back({std::string(1, static_cast<char>('a' + entries.size())), {segment.rows, segment.columns}, kind});
  }
  return *ParameterLayout::Create(entries);
}

}  // namespace

std::vector<std::string> testing::FuzzSeeds() {
  std::vector<std::string> seeds;
  for (size_t i = 0; i < Pipelines().size(); ++i) {
    for (const std::vector<Segment>& segments : {std::vector<Segment>{{1, 1}}, {{5, 7}, {1, 3}}, {{3, 2}, {30, 40}, {1, 40}}}) {
      const ParameterLayout layout = LayoutOf(segments.size() == 3, segments);
      Random random(i);
      std::vector<float> values(static_cast<size_t>(layout.value_count()));
      for (float& value : values) value = static_cast<float>(random.Normal());
      seeds.push_back(std::string{static_cast<char>(i), static_cast<char>(segments.size() == 3 ? 0 : 1)} + FuzzInput::PutSegments(segments) +
                      *Pipelines()[i].Encode(layout, values, 7, 1));
    }
  }
  return seeds;
}

}  // namespace fedwatt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fedwatt;
  testing::FuzzInput input(data, size);
  const Pipeline& pipeline = Pipelines()[input.Below(Pipelines().size())];
  const bool buffer_first = input.Below(4) == 0;
  const ParameterLayout layout = LayoutOf(buffer_first, input.Segments());
  const size_t count = static_cast<size_t>(layout.value_count());
  DecodedValues out;
  const absl::Status status = pipeline.Decode(input.Rest(), layout, 7, 1, out);
  std::vector<float> values(count);
  FEDWATT_CHECK(pipeline.DecodeDense(input.Rest(), layout, 7, 1, absl::MakeSpan(values)).code() == status.code());
  FEDWATT_CHECK(status.ok() || status.code() == absl::StatusCode::kDataLoss);
  testing::fuzz_accepted = status.ok();
  // The way without a decoded vector shows the same values, and takes nothing that is finite and is refused whole.
  std::vector<float> shown(count);
  bool finite = true;
  const bool visited = pipeline.VisitBlocks(input.Rest(), layout, 7, 1, [&](const ValueBlock& block) {
    const std::vector<float> part = testing::ValuesOf(block);
    FEDWATT_CHECK(block.begin <= count && part.size() <= count - block.begin);
    std::copy(part.begin(), part.end(), shown.begin() + static_cast<std::ptrdiff_t>(block.begin));
    finite &= std::all_of(part.begin(), part.end(), [](float value) { return std::isfinite(value); });
    return finite;
  });
  FEDWATT_CHECK(!visited || (status.ok() && shown == values));
  if (!status.ok()) return 0;
  for (float value : values) FEDWATT_CHECK(std::isfinite(value));
  FEDWATT_CHECK(out.is_sparse == pipeline.sparse());
  if (!out.is_sparse) {
    FEDWATT_CHECK(out.dense == values && out.sparse.indices.empty());
    return 0;
  }
  FEDWATT_CHECK(out.sparse.indices.size() == out.sparse.values.size() && out.dense.empty());
  std::vector<float> all(count);
  std::vector<bool> seen(count);
  for (size_t i = 0; i < out.sparse.indices.size(); ++i) {
    FEDWATT_CHECK(out.sparse.indices[i] < count && !seen[out.sparse.indices[i]]);
    seen[out.sparse.indices[i]] = true;
    all[out.sparse.indices[i]] = out.sparse.values[i];
  }
  FEDWATT_CHECK(all == values);
  return 0;
}
