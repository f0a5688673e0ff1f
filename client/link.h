// The connection that all of a client's participants share. Private to the room.
#ifndef FEDWATT_CLIENT_LINK_H_
#define FEDWATT_CLIENT_LINK_H_

#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "fedwatt/base/log.h"
#include "fedwatt/client/connection.h"
#include "fedwatt/round/retry_policy.h"
#include "fedwatt/rpc/channel.h"
#include "fedwatt/rpc/security.h"
#include "fedwatt/rpc/status_conversion.h"
#include "fedwatt/v1/coordinator.grpc.pb.h"
#include "grpcpp/client_context.h"

namespace fedwatt::internal {

inline constexpr absl::Duration kCallTimeout = absl::Seconds(20);

// Thread-safe.
class Link {
 public:
  // Errors: as ReadClientIdentity and MakeChannel
  static absl::StatusOr<std::unique_ptr<Link>> Create(const ConnectionOptions& options, LogSink log);

  // Of the present connection; a renewed certificate brings another one, and calls that are under way end on the one they began on.
  std::shared_ptr<v1::Coordinator::Stub> stub() const;
  std::shared_ptr<grpc::Channel> channel() const;
  int port() const { return port_; }
  // The certificate's name; "" without TLS.
  const std::string& identity_name() const { return identity_name_; }
  // The key that must have signed every assignment; nothing without TLS, "" where the identity has none.
  const std::optional<std::string>& signing_key_pem() const { return signing_key_pem_; }
  // "127.0.0.1:9000 (from flag --server)".
  const std::string& address() const { return address_; }

  // Renews the certificate in its folder once it is due (RenewalTime), or takes over what the coordinator or another process renewed there, and connects anew
  // with it. Costs a comparison when nothing is due; where it cannot be done now, it is tried again later. Before each unary call.
  void KeepIdentity();

  // One unary call. CANCELLED when `stop` ended it.
  template <typename Request, typename Response>
  absl::Status Call(grpc::Status (v1::Coordinator::Stub::*method)(grpc::ClientContext*, const Request&, Response*), const Request& request,
                    Response* response, std::stop_token stop, absl::Duration timeout = kCallTimeout) {
    KeepIdentity();
    const std::shared_ptr<v1::Coordinator::Stub> stub = this->stub();
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
    std::stop_callback canceller(stop, [&context] { context.TryCancel(); });
    absl::Status status = FromGrpcStatus((stub.get()->*method)(&context, request, response));
    if (stop.stop_requested()) return absl::CancelledError("stopped");
    NoteAnswer(status);
    return status;
  }

  // Keeps book of when the coordinator last answered anything.
  void NoteAnswer(const absl::Status& status);
  absl::Duration SinceLastAnswer() const;
  // `status` in words. For lost connections it looks for the cause, at most once a second, and logs it with the address; the result is
  // UNAUTHENTICATED where no retry can help.
  absl::Status Explain(const absl::Status& status, absl::Duration next_try);

  // Waits at most `span` for a connection; false once `stop` is asked. gRPC drives a connection forward only while a call or a wait like this
  // one polls it, so a plain sleep after a failure would let every attempt time out.
  bool AwaitConnection(absl::Duration span, std::stop_token stop);

 private:
  Link() = default;

  // Connects with `identity`; null without TLS.
  absl::Status Connect(std::optional<TlsIdentity> identity);
  // The identity to go on with when the present one is due.
  absl::StatusOr<TlsIdentity> NextIdentity(const TlsIdentity& present);

  std::string server_, address_, identity_name_, security_directory_;
  std::optional<std::string> signing_key_pem_;
  int port_ = 0;
  LogSink log_;
  std::atomic<int64_t> renew_at_{std::numeric_limits<int64_t>::max()};  // Unix nanoseconds
  mutable absl::Mutex connection_;
  std::optional<TlsIdentity> identity_ ABSL_GUARDED_BY(connection_);
  std::shared_ptr<grpc::Channel> channel_ ABSL_GUARDED_BY(connection_);
  std::shared_ptr<v1::Coordinator::Stub> stub_ ABSL_GUARDED_BY(connection_);
  std::atomic<int64_t> last_answer_ns_{0};
  std::atomic<bool> broken_{false};
  absl::Mutex mutex_;
  absl::Duration last_explained_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
};

struct RetryOptions {
  absl::Duration base, cap, give_up_after;
};

// What to do after a failed call. Owned by one thread.
class Retrier {
 public:
  Retrier(Link* link, const RetryOptions& options, uint64_t seed)
      : link_(link), options_(options), backoff_(options.base, options.cap, seed), random_(seed ^ 1) {}

  // Waits and returns OK if trying again makes sense; otherwise the error to give up with (CANCELLED when `stop` is asked).
  absl::Status Pause(const absl::Status& status, std::stop_token stop);
  void Reset() { backoff_.Reset(); }
  // A wait drawn from a window that the coordinator sent.
  absl::Duration Draw(const v1::RetryWindow& window);

 private:
  Link* link_;
  RetryOptions options_;
  Backoff backoff_;
  Random random_;
};

// Repeats `call()` (an absl::Status) until it works or Pause gives up.
template <typename F>
absl::Status Repeat(Retrier& retrier, std::stop_token stop, F call) {
  for (;;) {
    absl::Status status = call();
    if (status.ok()) {
      retrier.Reset();
      return status;
    }
    if (absl::Status verdict = retrier.Pause(status, stop); !verdict.ok()) return verdict;
  }
}

}  // namespace fedwatt::internal

#endif  // FEDWATT_CLIENT_LINK_H_
