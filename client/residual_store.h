// What a partition's encodings lost (error feedback), kept over rounds and restarts. Private to the room.
#ifndef FEDWATT_CLIENT_RESIDUAL_STORE_H_
#define FEDWATT_CLIENT_RESIDUAL_STORE_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/round/participant.h"

namespace fedwatt::internal {

// A residual changes only when the update that left it counts. Between encoding and verdict the new one is staged beside the old, on disk before
// the upload starts, so that a client killed in between neither loses nor doubles anything: after its restart it asks what became of the attempt.
// Owned by one thread.
class ResidualStore {
 public:
  // Files `<path>` and `<path>.staged`; "" keeps everything in memory.
  explicit ResidualStore(std::string path) : path_(std::move(path)) {}

  // The residual of this run and layout; null when there is none. Another run's or model's is forgotten.
  const Residual* Find(const std::string& run_id, const Digest& layout);
  // Errors: what the disk says; the residual is then staged in memory only
  absl::Status Stage(const std::string& attempt_id, const std::string& run_id, const Digest& layout, Residual residual);
  // The attempt whose verdict is not known.
  std::optional<std::string> staged_attempt();

  enum class Verdict { kCounted, kNotCounted, kUnknown };
  // kUnknown (the coordinator has forgotten, or what is kept is good for nothing) drops both residuals: some feedback is lost, nothing is sent twice. Does nothing when nothing is staged.
  absl::Status Settle(Verdict verdict);

 private:
  struct Entry {
    std::string attempt_id, run_id;
    Digest layout;
    Residual residual;
  };
  void Load();
  static absl::StatusOr<Entry> Read(const std::string& path);
  static absl::Status Write(const std::string& path, const Entry& entry);

  const std::string path_;
  bool loaded_ = false;
  std::optional<Entry> kept_, staged_;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_CLIENT_RESIDUAL_STORE_H_
