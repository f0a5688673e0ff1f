// Codecs decode any bytes to finite values or to DATA_LOSS, and to the same ones sparsely.
// Input: codec, segments, bytes.
#include <cmath>

#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/codec.h"
#include "tests/fuzz/fuzz_input.h"

namespace fedwatt {
namespace {

const std::vector<std::unique_ptr<Codec>>& AllCodecs() {
  static const auto& codecs = *[] {
    auto* made = new std::vector<std::unique_ptr<Codec>>;
    // A list with places of its own, so that a new codec does not change what a corpus means.
    for (const char* spec :
         {"bfloat16", "dithered", "ecsq", "float32", "int2", "int4:block=7", "int8", "sign:block=0", "sign:block=100", "ternary"}) {
      made->push_back(*MakeCodec(spec));
    }
    return made;
  }();
  return codecs;
}

}  // namespace

std::vector<std::string> testing::FuzzSeeds() {
  std::vector<std::string> seeds;
  for (size_t i = 0; i < AllCodecs().size(); ++i) {
    for (const std::vector<Segment>& segments : {std::vector<Segment>{{1, 1}}, {{5, 7}, {1, 3}}, {{30, 40}, {1, 40}, {3, 40}}}) {
      Random random(i);
      std::vector<float> values;
      for (const Segment& segment : segments) {
        for (int64_t j = 0; j < segment.count(); ++j) values.push_back(static_cast<float>(random.Normal()));
      }
      seeds.push_back(static_cast<char>(i) + FuzzInput::PutSegments(segments) + *AllCodecs()[i]->Encode(values, {segments, 7, 1}));
    }
  }
  return seeds;
}

}  // namespace fedwatt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fedwatt;
  testing::FuzzInput input(data, size);
  const Codec& codec = *AllCodecs()[input.Below(AllCodecs().size())];
  const std::vector<Segment> segments = input.Segments();
  const CodingContext context{segments, 7, 1};
  size_t count = 0;
  for (const Segment& segment : segments) count += static_cast<size_t>(segment.count());
  std::vector<float> values(count);
  const absl::Status status = codec.Decode(input.Rest(), context, absl::MakeSpan(values));
  FEDWATT_CHECK(status.ok() || status.code() == absl::StatusCode::kDataLoss);
  testing::fuzz_accepted = status.ok();
  if (status.ok() && codec.name() != "float32" && codec.name() != "bfloat16") {
    for (float value : values) FEDWATT_CHECK(std::isfinite(value));
  }
  if (!codec.sparse()) return 0;
  SparseValues sparse;
  FEDWATT_CHECK(codec.DecodeSparse(input.Rest(), context, sparse).code() == status.code());
  if (!status.ok()) return 0;
  FEDWATT_CHECK(sparse.indices.size() == sparse.values.size());
  std::vector<float> all(count);
  std::vector<bool> seen(count);
  for (size_t i = 0; i < sparse.indices.size(); ++i) {
    FEDWATT_CHECK(sparse.indices[i] < count && !seen[sparse.indices[i]]);
    seen[sparse.indices[i]] = true;
    all[sparse.indices[i]] = sparse.values[i];
  }
  FEDWATT_CHECK(all == values);
  return 0;
}
