#include "saved_state.h"

#include "absl/strings/str_cat.h"
#include "fedwatt/base/bytes.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {
namespace {

constexpr std::string_view kMagic = "FWST";
constexpr uint16_t kVersion = 1;

}  // namespace

std::string SealState(std::string_view kind, const Digest& layout_digest, std::string_view body) {
  FEDWATT_CHECK(kind.size() <= 255);
  ByteWriter writer;
  writer.PutBytes(kMagic);
  writer.Put(kVersion);
  writer.Put(static_cast<uint8_t>(kind.size()));
  writer.PutBytes(kind);
  writer.PutBytes(layout_digest.Raw());
  writer.PutBytes(body);
  const uint32_t crc = Crc32c(writer.str());
  writer.Put(crc);
  return std::move(writer).str();
}

absl::StatusOr<std::string_view> OpenState(std::string_view kind, const Digest& layout_digest, std::string_view state) {
  uint32_t crc;
  if (state.size() < sizeof(crc)) return absl::DataLossError(absl::StrCat("saved state: only ", state.size(), " bytes"));
  const std::string_view sealed = state.substr(0, state.size() - sizeof(crc));
  std::memcpy(&crc, state.data() + sealed.size(), sizeof(crc));
  if (Crc32c(sealed) != crc) return absl::DataLossError("saved state: the checksum does not match");

  ByteReader reader(sealed, "saved state");
  FEDWATT_ASSIGN_OR_RETURN(std::string_view magic, reader.GetBytes(kMagic.size(), "magic"));
  FEDWATT_ASSIGN_OR_RETURN(uint16_t version, reader.Get<uint16_t>("version"));
  if (magic != kMagic || version != kVersion) return absl::DataLossError("saved state: wrong magic or version");
  FEDWATT_ASSIGN_OR_RETURN(uint8_t kind_bytes, reader.Get<uint8_t>("kind length"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view saved_kind, reader.GetBytes(kind_bytes, "kind"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view saved_digest, reader.GetBytes(layout_digest.bytes.size(), "layout digest"));
  if (saved_kind != kind) {
    return absl::InvalidArgumentError(absl::StrCat("saved state: of '", std::string(saved_kind), "', expected '", std::string(kind), "'"));
  }
  if (saved_digest != layout_digest.Raw()) return absl::InvalidArgumentError("saved state: of another layout");
  return sealed.substr(reader.offset());
}

}  // namespace fedwatt::internal
