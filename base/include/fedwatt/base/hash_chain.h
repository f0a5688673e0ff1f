// Files of lines of which each holds the hash of all before it, so that nothing in them can be changed afterwards unnoticed.
#ifndef FEDWATT_BASE_HASH_CHAIN_H_
#define FEDWATT_BASE_HASH_CHAIN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/base/digest.h"

namespace fedwatt {

// Where a line stands: head = SHA-256(previous in hexadecimal, payload).
struct ChainHead {
  int64_t sequence = 0;   // from 1; 0: the chain is empty
  Digest previous, head;  // all zero where there is none
};
ChainHead NextHead(const ChainHead& last, std::string_view payload);

struct ChainEntry {
  ChainHead position;
  std::string payload;
};
// Reads lines "HEAD PAYLOAD". Any byte that was changed, added or taken away inside shows; what was cut off at the end shows only against a head that
// somebody else has kept. Errors: DATA_LOSS  the line, and what does not fit
absl::StatusOr<std::vector<ChainEntry>> ReadHashChain(std::string_view text, const std::string& where);

// Appends to such a file. Owned by one thread.
class HashChainFile {
 public:
  // Opens or creates, 0600, and verifies what is there. A last line without its end, as a crash leaves it, is cut off: it was never told to anyone.
  // Errors: as ReadHashChain; RESOURCE_EXHAUSTED  larger than 4 GiB; otherwise the file's
  static absl::StatusOr<std::unique_ptr<HashChainFile>> Open(const std::string& path);
  ~HashChainFile();

  // `payload` holds no line end. `durable`: on disk when it returns (fdatasync). Errors: the file's; the chain is then as before.
  absl::StatusOr<ChainHead> Append(std::string_view payload, bool durable);

  const ChainHead& head() const { return head_; }
  int64_t size_bytes() const { return size_; }

 private:
  HashChainFile(std::string path, int fd, int64_t size, ChainHead head) : path_(std::move(path)), fd_(fd), size_(size), head_(head) {}
  std::string path_;
  int fd_;
  int64_t size_;
  ChainHead head_;
};

}  // namespace fedwatt

#endif  // FEDWATT_BASE_HASH_CHAIN_H_
