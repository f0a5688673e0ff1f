// Pieces of blobs and uploads: made, checked, put together.
#ifndef FEDWATT_RPC_CHUNKS_H_
#define FEDWATT_RPC_CHUNKS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/v1/coordinator.pb.h"

namespace fedwatt {

// The largest piece: far below gRPC's limit for a message, and small enough that many parallel transfers cost little memory.
inline constexpr int64_t kChunkBytes = 128 * 1024;

// The largest model container inside an assignment, and the largest update inside a report: what small ones save, the calls, headers and records
// of a transfer, is nothing to a larger one, which had better be resumable.
inline constexpr int64_t kMaxInlineBytes = 32 * 1024;

// Fills `chunk` with the piece of `whole` that starts at `offset`, in [0, whole.size()), at most kChunkBytes long.
void FillChunk(std::string_view whole, int64_t offset, v1::Chunk* chunk);

// Checks a piece that must start at `expected_offset` and end within `total_bytes`.
// Errors: DATA_LOSS  CRC32C does not fit (rejection garbage)
//         INVALID_ARGUMENT  empty, longer than kChunkBytes, or offset not the expected one
//         RESOURCE_EXHAUSTED  goes beyond total_bytes (rejection oversize)
absl::Status CheckChunk(const v1::Chunk& chunk, int64_t expected_offset, int64_t total_bytes);

// Collects a blob of known digest and length from pieces in order; keeps what has arrived over any number of cut connections.
// Memory: what arrived, growing with it, so that a claimed length alone costs nothing. Owned by one thread.
class BlobAssembler {
 public:
  // `total_bytes` in [1, 2^40].
  BlobAssembler(const Digest& digest, int64_t total_bytes) : digest_(digest), total_bytes_(total_bytes) {}

  // Errors: as CheckChunk; nothing is kept of a refused piece
  absl::Status Add(const v1::Chunk& chunk);
  // The whole, once. Errors: DATA_LOSS  incomplete, or the SHA-256 is another (rejection digest_mismatch); then everything is dropped
  absl::StatusOr<std::string> Finish() &&;

  int64_t received_bytes() const { return static_cast<int64_t>(data_.size()); }
  bool complete() const { return received_bytes() == total_bytes_; }

 private:
  Digest digest_;
  int64_t total_bytes_;
  std::string data_;
};

// 128 random bits from OpenSSL's generator as 32 hexadecimal digits: request, session and client ids.
std::string RandomId();

}  // namespace fedwatt

#endif  // FEDWATT_RPC_CHUNKS_H_
