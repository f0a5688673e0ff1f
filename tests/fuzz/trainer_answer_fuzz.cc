// What a trainer's process says is read to something in range or refused by name, and what was read is written and read again as the same.
// Input: which part of the protocol, bytes.
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torchscript/protocol.h"
#include "tests/fuzz/fuzz_input.h"

namespace fedwatt {
namespace {

using namespace internal;

// Reads `bytes` to their end; whatever is read is the same after one more trip.
template <typename Read, typename Write>
void Trip(std::string_view bytes, Read read, Write write) {
  const auto whole = [&](std::string_view from) -> decltype(read(std::declval<ByteReader&>())) {
    ByteReader in(from, "fuzz");
    auto value = read(in);
    if (value.ok()) FEDWATT_RETURN_IF_ERROR(ExpectEnd(in, "fuzz"));
    return value;
  };
  const auto value = whole(bytes);
  testing::fuzz_accepted = value.ok();
  if (!value.ok()) {
    FEDWATT_CHECK(absl::IsDataLoss(value.status()) || absl::IsInvalidArgument(value.status()) || absl::IsOutOfRange(value.status()));
    return;
  }
  ByteWriter first, second;
  write(first, *value);
  const auto again = whole(first.str());
  FEDWATT_CHECK(again.ok());
  write(second, *again);
  FEDWATT_CHECK(first.str() == second.str());
}

template <typename Put>
std::string Seed(char part, Put put) {
  ByteWriter out;
  put(out);
  return part + std::string(out.str());
}

}  // namespace

std::vector<std::string> testing::FuzzSeeds() {
  const ParameterLayout layout = *ParameterLayout::Create({{"fc.weight", {2, 3}}, {"mean", {2}, EntryKind::kAveragedBuffer}, {"steps", {}, EntryKind::kLocal, Dtype::kInt64}});
  const std::vector<ChannelGroup> groups = {{"fc", 2, {{.entry = "fc.weight"}}}};
  ExampleStore store;
  store.input_shape = {2};
  store.inputs = std::vector<float>{1, 2, 3, 4};
  store.labels = {0, 1};
  store.output_count = 2;
  const Dataset data = *Dataset::Create(std::move(store));
  ModelProfile profile;
  profile.output_count = 3;
  return {Seed(0, [&](ByteWriter& out) { PutLayout(out, layout); }),
          Seed(1, [&](ByteWriter& out) { PutDataset(out, data); }),
          Seed(2, [&](ByteWriter& out) { PutKept(out, {{"fc", {{0, 1}}}, {"other", {{0, 2}, {3, 4}}}}); }),
          Seed(3, [&](ByteWriter& out) { PutGroups(out, groups); }),
          Seed(4, [&](ByteWriter& out) { PutArchiveChannels(out, {groups, {{"conv", 4, "shares"}}, {1, 2, 3}}); }),
          Seed(5, [&](ByteWriter& out) { PutProfile(out, profile); }),
          Seed(6, [&](ByteWriter& out) { PutRecipe(out, TrainingRecipe()); }),
          Seed(7, [&](ByteWriter& out) { PutWalls(out, {true, 4}); })};
}

}  // namespace fedwatt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fedwatt;
  using namespace fedwatt::internal;
  testing::FuzzInput input(data, size);
  const size_t part = input.Below(8);
  const std::string_view bytes = input.Rest();
  DecodeError(bytes).IgnoreError();
  switch (part) {
    case 0: Trip(bytes, GetLayout, PutLayout); break;
    case 1: Trip(bytes, GetDataset, PutDataset); break;
    case 2: Trip(bytes, GetKept, PutKept); break;
    case 3: Trip(bytes, GetGroups, PutGroups); break;
    case 4: Trip(bytes, GetArchiveChannels, PutArchiveChannels); break;
    case 5: Trip(bytes, GetProfile, PutProfile); break;
    case 6: Trip(bytes, GetRecipe, PutRecipe); break;
    default: Trip(bytes, GetWalls, PutWalls); break;
  }
  return 0;
}
