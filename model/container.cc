#include "fedwatt/model/container.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/bytes.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/base/varint.h"
#include "fedwatt/model/rejection.h"
#include "layout_bytes.h"

namespace fedwatt {
namespace {

// docs/container.md gives these bytes one by one.
constexpr std::string_view kMagic("\x89" "FWT", 4);
constexpr uint8_t kVersion = 2;
constexpr size_t kPrefixBytes = 6;  // magic, version, kind
constexpr size_t kTagBytes = 6;     // of layout and codec
constexpr size_t kCrcBytes = 4;
constexpr size_t kMaxCodecBytes = 1024;

uint32_t LayoutTag(const Digest& digest) {
  uint32_t tag;
  std::memcpy(&tag, digest.bytes.data(), sizeof(tag));
  return tag;
}
uint16_t CodecTag(std::string_view codec) { return static_cast<uint16_t>(Crc32c(codec)); }

absl::Status Garbage(absl::Status status) { return WithRejection(std::move(status), Rejection::kGarbage); }
absl::Status Truncated(uint64_t expected, size_t got) {
  return WithRejection(absl::DataLossError(absl::StrCat("container: ends after ", got, " bytes, expected ", expected)),
                       Rejection::kTruncated);
}

bool IsCodecSpelling(std::string_view codec) {
  if (codec.empty() || codec.size() > kMaxCodecBytes) return false;
  for (char c : codec) {
    if (c < 0x21 || c > 0x7e) return false;
  }
  return true;
}

absl::StatusOr<LayoutEntry> ReadEntry(ByteReader& reader) {
  LayoutEntry entry;
  FEDWATT_ASSIGN_OR_RETURN(uint32_t name_bytes, reader.Get<uint32_t>("name length"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view name, reader.GetBytes(name_bytes, "name"));
  FEDWATT_ASSIGN_OR_RETURN(uint8_t dtype, reader.Get<uint8_t>("dtype"));
  FEDWATT_ASSIGN_OR_RETURN(uint8_t kind, reader.Get<uint8_t>("kind"));
  FEDWATT_ASSIGN_OR_RETURN(uint8_t rank, reader.Get<uint8_t>("rank"));
  entry.name = std::string(name);
  entry.dtype = static_cast<Dtype>(dtype);
  entry.kind = static_cast<EntryKind>(kind);
  for (uint8_t i = 0; i < rank; ++i) {
    FEDWATT_ASSIGN_OR_RETURN(uint64_t dimension, reader.Get<uint64_t>("dimension"));
    entry.shape.push_back(static_cast<int64_t>(dimension));  // one beyond int64 turns negative and is refused by Create
  }
  return entry;
}

// A model's fields before its payload.
absl::Status ReadModelFields(ByteReader& reader, ContainerHeader& header) {
  FEDWATT_ASSIGN_OR_RETURN(std::string_view digest, reader.GetBytes(32, "layout digest"));
  FEDWATT_ASSIGN_OR_RETURN(header.layout_digest, Digest::FromRaw(digest));
  FEDWATT_ASSIGN_OR_RETURN(uint16_t codec_bytes, reader.Get<uint16_t>("codec length"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view codec, reader.GetBytes(codec_bytes, "codec"));
  if (!IsCodecSpelling(codec)) {
    return absl::InvalidArgumentError("container: codec is not [1, 1024] printable ASCII characters without spaces");
  }
  header.codec = std::string(codec);
  FEDWATT_ASSIGN_OR_RETURN(uint32_t entry_count, reader.Get<uint32_t>("entry count"));
  std::vector<LayoutEntry> entries;  // grows with the bytes read; a hostile count reserves nothing
  for (uint32_t i = 0; i < entry_count; ++i) {
    FEDWATT_ASSIGN_OR_RETURN(LayoutEntry entry, ReadEntry(reader));
    entries.push_back(std::move(entry));
  }
  FEDWATT_ASSIGN_OR_RETURN(header.layout, ParameterLayout::Create(std::move(entries)));
  if (header.layout.digest() != header.layout_digest) {
    return absl::InvalidArgumentError("container: layout digest does not match the layout entries");
  }
  return absl::OkStatus();
}

}  // namespace

bool ContainerView::IsFor(const Digest& digest) const {
  return header.kind == ContainerKind::kModel ? header.layout_digest == digest : layout_tag == LayoutTag(digest);
}

bool ContainerView::IsBy(std::string_view codec) const {
  return header.kind == ContainerKind::kModel ? header.codec == codec : codec_tag == CodecTag(codec);
}

std::string WriteContainer(const ContainerHeader& header, std::string_view payload) {
  FEDWATT_CHECK(IsCodecSpelling(header.codec));
  ByteWriter fields;
  if (header.kind == ContainerKind::kModel) {
    FEDWATT_CHECK(header.layout.value_count() > 0);
    fields.PutBytes(header.layout.digest().Raw());
    fields.Put(static_cast<uint16_t>(header.codec.size()));
    fields.PutBytes(header.codec);
    fields.Put(static_cast<uint32_t>(header.layout.entries().size()));
    internal::PutLayoutEntries(header.layout.entries(), fields);
  } else {
    fields.Put(LayoutTag(header.layout_digest));
    fields.Put(CodecTag(header.codec));
  }
  std::string out(kMagic);
  out.push_back(static_cast<char>(kVersion));
  out.push_back(static_cast<char>(header.kind));
  PutVarint(fields.size() + payload.size(), out);
  out.reserve(out.size() + fields.size() + payload.size() + kCrcBytes);
  out.append(fields.str()).append(payload);
  const uint32_t crc = Crc32c(out);
  out.append(reinterpret_cast<const char*>(&crc), kCrcBytes);
  return out;
}

int64_t PayloadBytes(int64_t container_bytes) {
  // Length and payload share what is left; the length's own bytes depend on it.
  const int64_t left = container_bytes - static_cast<int64_t>(kPrefixBytes + kCrcBytes);
  for (int64_t length_bytes = 1; length_bytes <= 9 && left - length_bytes >= static_cast<int64_t>(kTagBytes); ++length_bytes) {
    std::string length;
    PutVarint(static_cast<uint64_t>(left - length_bytes), length);
    if (static_cast<int64_t>(length.size()) == length_bytes) return left - length_bytes - static_cast<int64_t>(kTagBytes);
  }
  return 0;
}

absl::StatusOr<ContainerView> ParseContainer(std::string_view bytes, int64_t max_bytes) {
  if (max_bytes < 0 || bytes.size() > static_cast<uint64_t>(max_bytes)) {
    return WithRejection(absl::ResourceExhaustedError(
                             absl::StrCat("container: ", bytes.size(), " bytes, at most ", max_bytes, " are allowed")),
                         Rejection::kOversize);
  }
  if (bytes.substr(0, kMagic.size()) != kMagic.substr(0, bytes.size())) {
    return Garbage(absl::DataLossError("container: wrong magic at offset 0"));
  }
  std::string_view rest = bytes.substr(std::min(bytes.size(), kPrefixBytes));
  const absl::StatusOr<uint64_t> length = TakeVarint(rest);
  // Without an end it may go on; with one it is damaged.
  if (!length.ok() && rest.empty()) return Truncated(kPrefixBytes + 1 + kTagBytes + kCrcBytes, bytes.size());
  if (!length.ok()) return Garbage(absl::DataLossError("container: the length is damaged"));
  // Subtractions, not sums: the length may be anything.
  if (rest.size() < kCrcBytes || *length > rest.size() - kCrcBytes) {
    return WithRejection(
        absl::DataLossError(absl::StrCat("container: ", *length, " bytes and a checksum expected after the length, ", rest.size(), " are there")),
        Rejection::kTruncated);
  }
  if (*length < rest.size() - kCrcBytes) {
    return Garbage(absl::DataLossError(absl::StrCat("container: ", rest.size() - kCrcBytes - *length, " trailing bytes")));
  }
  uint32_t crc;
  std::memcpy(&crc, bytes.data() + bytes.size() - kCrcBytes, kCrcBytes);
  if (Crc32c(bytes.substr(0, bytes.size() - kCrcBytes)) != crc) {
    return Garbage(absl::DataLossError("container: the checksum does not match"));
  }
  const uint8_t version = static_cast<uint8_t>(bytes[4]), kind = static_cast<uint8_t>(bytes[5]);
  if (version != kVersion) return Garbage(absl::InvalidArgumentError(absl::StrCat("container: version ", version, ", expected ", kVersion)));
  if (kind < static_cast<uint8_t>(ContainerKind::kModel) || kind > static_cast<uint8_t>(ContainerKind::kModelDelta)) {
    return Garbage(absl::InvalidArgumentError(absl::StrCat("container: unknown kind ", static_cast<int>(kind))));
  }
  ContainerView view;
  view.header.kind = static_cast<ContainerKind>(kind);
  ByteReader reader(rest.substr(0, *length), "container");
  if (view.header.kind == ContainerKind::kModel) {
    if (absl::Status status = ReadModelFields(reader, view.header); !status.ok()) return Garbage(std::move(status));
  } else {
    const absl::StatusOr<uint32_t> layout_tag = reader.Get<uint32_t>("layout tag");
    const absl::StatusOr<uint16_t> codec_tag = reader.Get<uint16_t>("codec tag");
    if (!layout_tag.ok() || !codec_tag.ok()) return Garbage(absl::DataLossError("container: too short for its tags"));
    view.layout_tag = *layout_tag;
    view.codec_tag = *codec_tag;
  }
  view.payload = rest.substr(reader.offset(), *length - reader.offset());
  return view;
}

}  // namespace fedwatt
