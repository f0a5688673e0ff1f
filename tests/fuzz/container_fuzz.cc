// Containers are parsed or refused, and what is parsed is written again as it was. Length, digest and checksum are put right first, or hardly anything
// would get past them. Input: whether to put them right, bytes.
#include <algorithm>
#include <cstring>
#include <string>

#include "fedwatt/base/digest.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/base/varint.h"
#include "fedwatt/model/container.h"
#include "tests/fuzz/fuzz_input.h"

namespace fedwatt {
namespace {

// How many bytes the entries of a layout take at the front of `bytes`; all of them where they do not end.
size_t EntryBytes(std::string_view bytes, uint32_t count) {
  size_t at = 0;
  for (; count > 0; --count) {
    uint32_t name;
    if (bytes.size() - at < 7) return bytes.size();
    std::memcpy(&name, bytes.data() + at, 4);
    if (name > bytes.size() - at - 7) return bytes.size();
    at += 7 + name;
    const size_t dimensions = 8 * size_t{static_cast<uint8_t>(bytes[at - 1])};
    if (dimensions > bytes.size() - at) return bytes.size();
    at += dimensions;
  }
  return at;
}

// docs/container.md: the kind at 5, a length at 6, a model's fields behind it: the digest of its entries, a codec's length, the codec, a count, the entries.
void Correct(std::string& bytes) {
  std::string_view rest = std::string_view(bytes).substr(std::min<size_t>(bytes.size(), 6));
  if (!TakeVarint(rest).ok() || rest.size() < 4) return;
  std::string fields(rest.substr(0, rest.size() - 4));
  if (bytes[5] == 1 && fields.size() >= 38) {
    uint16_t codec;
    std::memcpy(&codec, fields.data() + 32, 2);
    const size_t entries = size_t{38} + codec;
    if (entries <= fields.size()) {
      uint32_t count;
      std::memcpy(&count, fields.data() + entries - 4, 4);
      const std::string_view from = std::string_view(fields).substr(entries);
      const Digest digest = Sha256(from.substr(0, EntryBytes(from, count)));
      std::memcpy(fields.data(), digest.bytes.data(), 32);
    }
  }
  bytes.resize(6);
  PutVarint(fields.size(), bytes);
  bytes += fields;
  const uint32_t crc = Crc32c(bytes);
  bytes.append(reinterpret_cast<const char*>(&crc), 4);
}

// The same container but for the tags, which say too little to make them again.
std::string WithTags(const ContainerView& view, std::string bytes, size_t at) {
  std::memcpy(bytes.data() + at, &view.layout_tag, 4);
  std::memcpy(bytes.data() + at + 4, &view.codec_tag, 2);
  bytes.resize(bytes.size() - 4);
  const uint32_t crc = Crc32c(bytes);
  return bytes.append(reinterpret_cast<const char*>(&crc), 4);
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
  if (correct) Correct(bytes);
  const absl::StatusOr<ContainerView> view = ParseContainer(bytes, 1 << 16);
  testing::fuzz_accepted = view.ok();
  if (!view.ok()) {
    const absl::StatusCode code = view.status().code();
    FEDWATT_CHECK(code == absl::StatusCode::kDataLoss || code == absl::StatusCode::kInvalidArgument || code == absl::StatusCode::kResourceExhausted);
    return 0;
  }
  FEDWATT_CHECK(view->payload.data() >= bytes.data() && view->payload.data() + view->payload.size() <= bytes.data() + bytes.size());
  if (view->header.kind == ContainerKind::kModel) {
    FEDWATT_CHECK(WriteContainer(view->header, view->payload) == bytes);
    return 0;
  }
  FEDWATT_CHECK(PayloadBytes(static_cast<int64_t>(bytes.size())) == static_cast<int64_t>(view->payload.size()));
  const std::string written = WriteContainer({view->header.kind, "float32", Digest(), {}}, view->payload);
  FEDWATT_CHECK(WithTags(*view, written, written.size() - view->payload.size() - 10) == bytes);
  return 0;
}
