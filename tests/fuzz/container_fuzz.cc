// Containers are parsed or refused, and what is parsed is written again as it was. Checksums are put right first, or hardly anything would get past
// them. Input: whether to put them right, bytes.
#include <cstring>
#include <string>

#include "fedwatt/base/digest.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/container.h"
#include "tests/fuzz/fuzz_input.h"

namespace fedwatt {
namespace {

// docs/container.md: the kind at 6, the header's length at 8, the layout's digest at 20; each part ends with its own checksum.
void CorrectChecksums(std::string& bytes) {
  if (bytes.size() < 62) return;
  uint32_t header;
  std::memcpy(&header, bytes.data() + 8, 4);
  if (header < 62 || header > bytes.size()) return;
  uint16_t codec = 0;
  std::memcpy(&codec, bytes.data() + 52, 2);
  const size_t entries = size_t{58} + codec;
  if (bytes[6] == 1 && entries <= header - 4) {
    const Digest digest = Sha256(std::string_view(bytes).substr(entries, header - 4 - entries));
    std::memcpy(bytes.data() + 20, digest.bytes.data(), 32);
  }
  const auto put = [&](size_t begin, size_t end) {
    const uint32_t crc = Crc32c(std::string_view(bytes).substr(begin, end - begin));
    std::memcpy(bytes.data() + end, &crc, 4);
  };
  put(0, header - 4);
  if (bytes.size() >= header + size_t{4}) put(header, bytes.size() - 4);
}

}  // namespace

std::vector<std::string> testing::FuzzSeeds() {
  const ParameterLayout layout = *ParameterLayout::Create(
      {{"w", {2, 3}}, {"mean", {2}, EntryKind::kAveragedBuffer}, {"steps", {}, EntryKind::kLocal, Dtype::kInt64}, {"b", {3}}});
  std::vector<std::string> seeds;
  for (const ContainerKind kind : {ContainerKind::kModel, ContainerKind::kUpdate, ContainerKind::kModelDelta}) {
    ContainerHeader header{kind, "ef,top_k:fraction=0.1,int8", layout.digest()};
    if (kind == ContainerKind::kModel) header.layout = layout;
    seeds.push_back('\0' + WriteContainer(header, "payload"));
    seeds.push_back('\1' + WriteContainer(header, ""));
  }
  return seeds;
}

}  // namespace fedwatt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fedwatt;
  testing::FuzzInput input(data, size);
  const bool correct = input.Below(2) == 0;
  std::string bytes(input.Rest());
  if (correct) CorrectChecksums(bytes);
  const absl::StatusOr<ContainerView> view = ParseContainer(bytes, 1 << 16);
  testing::fuzz_accepted = view.ok();
  if (!view.ok()) {
    const absl::StatusCode code = view.status().code();
    FEDWATT_CHECK(code == absl::StatusCode::kDataLoss || code == absl::StatusCode::kInvalidArgument || code == absl::StatusCode::kResourceExhausted);
    return 0;
  }
  FEDWATT_CHECK(view->payload.data() >= bytes.data() && view->payload.data() + view->payload.size() <= bytes.data() + bytes.size());
  FEDWATT_CHECK(WriteContainer(view->header, view->payload) == bytes);
  return 0;
}
