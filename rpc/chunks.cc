#include "fedwatt/rpc/chunks.h"

#include <openssl/rand.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/rejection.h"

namespace fedwatt {

void FillChunk(std::string_view whole, int64_t offset, v1::Chunk* chunk) {
  std::string_view piece = whole.substr(static_cast<size_t>(offset), kChunkBytes);
  chunk->set_offset_bytes(offset);
  chunk->set_data(piece.data(), piece.size());
  chunk->set_crc32c(Crc32c(piece));
}

absl::Status CheckChunk(const v1::Chunk& chunk, int64_t expected_offset, int64_t total_bytes) {
  const int64_t size = static_cast<int64_t>(chunk.data().size());
  if (size < 1 || size > kChunkBytes) {
    return absl::InvalidArgumentError(absl::StrCat("chunk: ", size, " bytes, expected [1, ", kChunkBytes, "]"));
  }
  if (chunk.offset_bytes() != expected_offset) {
    return absl::InvalidArgumentError(absl::StrCat("chunk: starts at ", chunk.offset_bytes(), ", expected ", expected_offset));
  }
  if (size > total_bytes - expected_offset) {
    return WithRejection(absl::ResourceExhaustedError(absl::StrCat("chunk: ends at ", expected_offset + size, " of ", total_bytes, " bytes")),
                         Rejection::kOversize);
  }
  if (chunk.crc32c() != static_cast<int64_t>(Crc32c(chunk.data()))) {
    return WithRejection(absl::DataLossError(absl::StrCat("chunk: the CRC32C of ", size, " bytes at ", expected_offset, " does not fit")),
                         Rejection::kGarbage);
  }
  return absl::OkStatus();
}

absl::Status BlobAssembler::Add(const v1::Chunk& chunk) {
  FEDWATT_RETURN_IF_ERROR(CheckChunk(chunk, received_bytes(), total_bytes_));
  data_.append(chunk.data());
  return absl::OkStatus();
}

absl::StatusOr<std::string> BlobAssembler::Finish() && {
  std::string data = std::move(data_);
  data_.clear();
  if (static_cast<int64_t>(data.size()) != total_bytes_) {
    return absl::DataLossError(absl::StrCat("blob: ", data.size(), " of ", total_bytes_, " bytes arrived"));
  }
  if (Digest digest = Sha256(data); digest != digest_) {
    return WithRejection(absl::DataLossError(absl::StrCat("blob: SHA-256 is ", digest.Hex().substr(0, 16), "..., expected ",
                                                          digest_.Hex().substr(0, 16), "...")),
                         Rejection::kDigestMismatch);
  }
  return data;
}

std::string RandomId() {
  unsigned char raw[16];
  // Fails only when the machine has no entropy at all; an id that repeats would be worse than stopping.
  FEDWATT_CHECK(RAND_bytes(raw, sizeof(raw)) == 1);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(raw), sizeof(raw)));
}

}  // namespace fedwatt
