#include "fedwatt/model/container.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/bytes.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/rejection.h"
#include "layout_bytes.h"

namespace fedwatt {
namespace {

// docs/container.md gives these bytes one by one.
constexpr std::string_view kMagic("\x89" "FWT", 4);
constexpr uint16_t kVersion = 1;
constexpr size_t kPrefixBytes = 20;  // magic, version, kind, zero, header length, payload length: the same in every version
constexpr size_t kCrcBytes = 4;
constexpr size_t kMinHeaderBytes = kPrefixBytes + kCrcBytes;
constexpr size_t kMaxCodecBytes = 1024;

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

uint32_t LoadCrc(std::string_view bytes, size_t offset) {
  uint32_t crc;
  std::memcpy(&crc, bytes.data() + offset, sizeof(crc));
  return crc;
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

// The fields between the prefix and the checksum, which has been verified.
absl::Status ReadHeaderFields(ByteReader& reader, ContainerHeader& header) {
  FEDWATT_ASSIGN_OR_RETURN(std::string_view digest, reader.GetBytes(32, "layout digest"));
  FEDWATT_ASSIGN_OR_RETURN(header.layout_digest, Digest::FromRaw(digest));
  FEDWATT_ASSIGN_OR_RETURN(uint16_t codec_bytes, reader.Get<uint16_t>("codec length"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view codec, reader.GetBytes(codec_bytes, "codec"));
  if (!IsCodecSpelling(codec)) {
    return absl::InvalidArgumentError("container: codec is not [1, 1024] printable ASCII characters without spaces");
  }
  header.codec = std::string(codec);
  if (header.kind == ContainerKind::kModel) {
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
  }
  if (reader.remaining() != 0) {
    return absl::InvalidArgumentError(absl::StrCat("container: ", reader.remaining(), " unread bytes at the end of the header"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string WriteContainer(const ContainerHeader& header, std::string_view payload) {
  FEDWATT_CHECK(IsCodecSpelling(header.codec));
  ByteWriter fields;
  const bool is_model = header.kind == ContainerKind::kModel;
  fields.PutBytes((is_model ? header.layout.digest() : header.layout_digest).Raw());
  fields.Put(static_cast<uint16_t>(header.codec.size()));
  fields.PutBytes(header.codec);
  if (is_model) {
    FEDWATT_CHECK(header.layout.value_count() > 0);
    fields.Put(static_cast<uint32_t>(header.layout.entries().size()));
    internal::PutLayoutEntries(header.layout.entries(), fields);
  }
  ByteWriter prefix;
  prefix.PutBytes(kMagic);
  prefix.Put(kVersion);
  prefix.Put(static_cast<uint8_t>(header.kind));
  prefix.Put<uint8_t>(0);
  prefix.Put(static_cast<uint32_t>(kPrefixBytes + fields.size() + kCrcBytes));
  prefix.Put(static_cast<uint64_t>(payload.size()));
  FEDWATT_CHECK(prefix.size() == kPrefixBytes);

  const uint32_t header_crc = Crc32c(fields.str(), Crc32c(prefix.str()));
  const uint32_t payload_crc = Crc32c(payload);
  std::string out;
  out.reserve(kPrefixBytes + fields.size() + kCrcBytes + payload.size() + kCrcBytes);
  out.append(prefix.str()).append(fields.str());
  out.append(reinterpret_cast<const char*>(&header_crc), kCrcBytes);
  out.append(payload);
  out.append(reinterpret_cast<const char*>(&payload_crc), kCrcBytes);
  return out;
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
  if (bytes.size() < kMinHeaderBytes) return Truncated(kMinHeaderBytes, bytes.size());

  ByteReader prefix(bytes.substr(kMagic.size()), "container");
  FEDWATT_ASSIGN_OR_RETURN(uint16_t version, prefix.Get<uint16_t>("version"));
  FEDWATT_ASSIGN_OR_RETURN(uint8_t kind, prefix.Get<uint8_t>("kind"));
  FEDWATT_ASSIGN_OR_RETURN(uint8_t zero, prefix.Get<uint8_t>("zero"));
  FEDWATT_ASSIGN_OR_RETURN(uint32_t header_bytes, prefix.Get<uint32_t>("header length"));
  FEDWATT_ASSIGN_OR_RETURN(uint64_t payload_bytes, prefix.Get<uint64_t>("payload length"));
  if (header_bytes < kMinHeaderBytes) {
    return Garbage(absl::DataLossError(absl::StrCat("container: header length ", header_bytes, ", expected >= ", kMinHeaderBytes)));
  }
  if (bytes.size() < header_bytes) return Truncated(header_bytes, bytes.size());
  const size_t fields_end = header_bytes - kCrcBytes;
  if (Crc32c(bytes.substr(0, fields_end)) != LoadCrc(bytes, fields_end)) {
    return Garbage(absl::DataLossError("container: the header's checksum does not match"));
  }
  if (version != kVersion || zero != 0) {
    return Garbage(absl::InvalidArgumentError(absl::StrCat("container: version ", version, ", expected ", kVersion)));
  }
  if (kind < static_cast<uint8_t>(ContainerKind::kModel) || kind > static_cast<uint8_t>(ContainerKind::kModelDelta)) {
    return Garbage(absl::InvalidArgumentError(absl::StrCat("container: unknown kind ", static_cast<int>(kind))));
  }
  // Subtractions, not sums: the lengths may be anything.
  const uint64_t rest = bytes.size() - header_bytes;
  if (rest < kCrcBytes || payload_bytes > rest - kCrcBytes) {
    return WithRejection(absl::DataLossError(absl::StrCat("container: ", payload_bytes, " payload bytes and a checksum expected after the header, ",
                                                          rest, " bytes are there")),
                         Rejection::kTruncated);
  }
  if (payload_bytes < rest - kCrcBytes) {
    return Garbage(absl::DataLossError(absl::StrCat("container: ", rest - kCrcBytes - payload_bytes, " trailing bytes")));
  }
  ContainerView view;
  view.header.kind = static_cast<ContainerKind>(kind);
  view.payload = bytes.substr(header_bytes, payload_bytes);
  if (Crc32c(view.payload) != LoadCrc(bytes, header_bytes + payload_bytes)) {
    return Garbage(absl::DataLossError("container: the payload's checksum does not match"));
  }
  ByteReader fields(bytes.substr(kPrefixBytes, fields_end - kPrefixBytes), "container header");
  if (absl::Status status = ReadHeaderFields(fields, view.header); !status.ok()) return Garbage(std::move(status));
  return view;
}

}  // namespace fedwatt
