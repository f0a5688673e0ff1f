// Who was refused, and what operators did: a hash-chained file that a flood cannot fill.
#ifndef FEDWATT_RPC_AUDIT_LOG_H_
#define FEDWATT_RPC_AUDIT_LOG_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/base/hash_chain.h"
#include "fedwatt/base/log.h"

namespace fedwatt {

// No field ever holds key material or a token. Text from strangers is cut to 256 bytes and made one line.
struct AuditEvent {
  std::string event;    // "refused", or what was done: "enrolled", "renewed", "token_issued", "revoked", "stop_asked", "started", "stopped"
  std::string reason;   // of a refusal: a word, see docs/threat-model.md
  std::string method;   // the call, "" outside of calls
  std::string role;     // of the caller
  std::string name;     // of the caller by its certificate, "" when none was proven
  std::string address;  // of the caller, without port
  std::string detail;   // for people
};

// Each line is "HASH JSON" (fedwatt/base/hash_chain.h). Actions are on disk when Action returns. A refusal is written at once, in the page cache; while the same
// (reason, method, role, name, address) comes again within a minute it is only counted, and the count is written as one line, with "repeats", "since" and
// "until". At most 256 kinds are counted apart, at most 256 lines of refusals are written in a burst and 240 an hour after that, and one a minute for all the
// rest together (reason "various"); beyond 64 MiB of file there is one line an hour. So lines plus repeats are always all refusals, but for at most the last minute
// (hour) before a crash. A disk that takes no line does not stop a decision: what could not be written is counted and told with the next line that can ("lost").
//
// Thread-safe.
class AuditLog {
 public:
  static constexpr int64_t kFullBytes = int64_t{64} << 20;

  // `clock` must outlive the log. Errors: as HashChainFile::Open
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(const std::string& path, const Clock* clock, LogSink log, int64_t full_bytes = kFullBytes);
  ~AuditLog();  // writes the counts that are still open

  void Action(const AuditEvent& event);
  void Refusal(const AuditEvent& event);
  // Writes counts whose minute is over. To be called about once a second.
  void Tick();

  ChainHead head() const;

 private:
  using Kind = std::tuple<std::string, std::string, std::string, std::string, std::string>;
  struct Count {
    absl::Time opened, first, last;  // of the kind's window; of the refusals that were not listed
    int64_t repeats = 0;
  };
  AuditLog(std::unique_ptr<HashChainFile> file, const Clock* clock, LogSink log, int64_t full_bytes)
      : clock_(clock), log_(std::move(log)), full_bytes_(full_bytes), file_(std::move(file)) {}
  // False when the budget for lines of refusals is used up.
  bool TakeLine(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountOther(absl::Time first, absl::Time last, int64_t refusals) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteCounts(absl::Time now, bool all) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Write(absl::Time now, const AuditEvent& event, const Count* count, bool durable) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Clock* const clock_;
  const LogSink log_;
  const int64_t full_bytes_;
  mutable absl::Mutex mutex_;
  std::unique_ptr<HashChainFile> file_ ABSL_GUARDED_BY(mutex_);
  std::map<Kind, Count> kinds_ ABSL_GUARDED_BY(mutex_);
  Count others_ ABSL_GUARDED_BY(mutex_);  // what is not counted by kind; opened: when it was last written
  double lines_ ABSL_GUARDED_BY(mutex_) = 256;
  absl::Time lines_at_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  int64_t lost_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace fedwatt

#endif  // FEDWATT_RPC_AUDIT_LOG_H_
