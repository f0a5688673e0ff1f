#include "link.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/rejection.h"
#include "fedwatt/rpc/conversion.h"
#include "wait.h"

namespace fedwatt::internal {
namespace {

constexpr absl::Duration kDiagnosisTimeout = absl::Seconds(2);
constexpr absl::Duration kRenewalTimeout = absl::Seconds(5);
constexpr absl::Duration kShortestRenewalPause = absl::Milliseconds(200);
constexpr absl::Duration kLongestRenewalPause = absl::Minutes(1);

// A coordinator that shuts down cancels the calls it holds.
bool NobodyAnswered(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable || status.code() == absl::StatusCode::kDeadlineExceeded ||
         status.code() == absl::StatusCode::kCancelled;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Link>> Link::Create(const ConnectionOptions& options, LogSink log) {
  std::unique_ptr<Link> link(new Link());
  FEDWATT_ASSIGN_OR_RETURN(HostPort target, ParseAddress(options.server));
  link->server_ = options.server;
  link->port_ = target.port;
  link->address_ = absl::StrCat(options.server, " (from ", options.server_origin, ")");
  link->log_ = std::move(log);
  std::optional<TlsIdentity> identity;
  std::string how = "without TLS";
  if (!options.insecure) {
    if (options.security_directory.empty()) {
      return absl::InvalidArgumentError("security.directory: not set; name the coordinator's folder, enrol, or ask for insecure");
    }
    link->security_directory_ = options.security_directory;
    FEDWATT_ASSIGN_OR_RETURN(identity, ReadClientIdentity(options.security_directory, options.security_wait));
    FEDWATT_ASSIGN_OR_RETURN(link->identity_name_, IdentityName(*identity));
    link->signing_key_pem_ = identity->signing_key_pem;
    how = absl::StrCat("as '", link->identity_name_, "' of ", options.security_directory);
  }
  FEDWATT_RETURN_IF_ERROR(link->Connect(std::move(identity)));
  link->last_answer_ns_ = absl::ToInt64Nanoseconds(RealClock().Monotonic());
  Log(link->log_, LogLevel::kInfo, absl::StrCat("coordinator ", link->address_, ", ", how));
  return link;
}

absl::Status Link::Connect(std::optional<TlsIdentity> identity) {
  absl::Time renewal = absl::InfiniteFuture();
  if (identity.has_value()) {
    FEDWATT_ASSIGN_OR_RETURN(renewal, RenewalTime(identity->certificate_pem));
  }
  FEDWATT_ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel,
                           MakeChannel(server_, identity.has_value() ? ClientCredentials(*identity) : InsecureClientCredentials()));
  absl::MutexLock lock(&connection_);
  identity_ = std::move(identity);
  stub_ = v1::Coordinator::NewStub(channel);
  channel_ = std::move(channel);
  renew_at_ = absl::ToUnixNanos(renewal);
  return absl::OkStatus();
}

std::shared_ptr<v1::Coordinator::Stub> Link::stub() const {
  absl::MutexLock lock(&connection_);
  return stub_;
}

std::shared_ptr<grpc::Channel> Link::channel() const {
  absl::MutexLock lock(&connection_);
  return channel_;
}

void Link::KeepIdentity() {
  const absl::Time now = RealClock().Now();
  int64_t due = renew_at_;
  // One thread does it; the others go on with what they have, which is good for a while.
  if (absl::ToUnixNanos(now) < due || !renew_at_.compare_exchange_strong(due, std::numeric_limits<int64_t>::max())) return;
  TlsIdentity present;
  {
    absl::MutexLock lock(&connection_);
    present = *identity_;
  }
  absl::StatusOr<TlsIdentity> next = NextIdentity(present);
  absl::Status done = next.ok() ? Connect(*std::move(next)) : next.status();
  if (done.ok()) {
    Log(log_, LogLevel::kInfo, absl::StrCat("certificate of '", identity_name_, "' renewed"));
  } else {
    // In a tenth of what is left, so that there are many tries.
    absl::Duration pause = kLongestRenewalPause;
    if (absl::StatusOr<absl::Time> end = ExpiryTime(present.certificate_pem); end.ok()) {
      pause = std::clamp((*end - now) / 10, kShortestRenewalPause, kLongestRenewalPause);
    }
    renew_at_ = absl::ToUnixNanos(now + pause);
    Log(log_, LogLevel::kWarning, absl::StrCat("certificate of '", identity_name_, "' not renewed yet: ", std::string(done.message())));
  }
}

absl::StatusOr<TlsIdentity> Link::NextIdentity(const TlsIdentity& present) {
  FEDWATT_ASSIGN_OR_RETURN(TlsIdentity stored, ReadClientIdentity(security_directory_, absl::ZeroDuration()));
  FEDWATT_ASSIGN_OR_RETURN(std::string stored_name, IdentityName(stored));
  if (stored_name != identity_name_) return absl::FailedPreconditionError(absl::StrCat(security_directory_, " holds another identity now: '", stored_name, "'"));
  if (stored.certificate_pem != present.certificate_pem) return stored;
  if (identity_name_ == "local") return absl::UnavailableError("the coordinator renews it in the folder, and has not yet");
  FEDWATT_ASSIGN_OR_RETURN(SigningRequest signing, MakeSigningRequest());
  v1::RenewRequest request;
  request.set_csr_pem(signing.csr_pem);
  v1::RenewResponse response;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kRenewalTimeout));
  FEDWATT_RETURN_IF_ERROR(FromGrpcStatus(stub()->Renew(&context, request, &response)));
  const TlsIdentity renewed{present.ca_pem, response.certificate_chain_pem(), signing.key_pem, present.signing_key_pem};
  FEDWATT_RETURN_IF_ERROR(WriteIdentity(security_directory_, renewed));
  return renewed;
}

void Link::NoteAnswer(const absl::Status& status) {
  if (NobodyAnswered(status)) return;
  last_answer_ns_ = absl::ToInt64Nanoseconds(RealClock().Monotonic());
  if (broken_.exchange(false)) Log(log_, LogLevel::kInfo, absl::StrCat("coordinator ", address_, " answers again"));
}

absl::Duration Link::SinceLastAnswer() const { return RealClock().Monotonic() - absl::Nanoseconds(last_answer_ns_.load()); }

absl::Status Link::Explain(const absl::Status& status, absl::Duration next_try) {
  if (NobodyAnswered(status)) broken_ = true;
  {
    absl::MutexLock lock(&mutex_);
    const absl::Duration now = RealClock().Monotonic();
    if (now - last_explained_ < absl::Seconds(1)) return status;
    last_explained_ = now;
  }
  absl::Status words = status;
  if (status.code() == absl::StatusCode::kUnavailable) {
    std::optional<TlsIdentity> identity;
    {
      absl::MutexLock connection(&connection_);
      identity = identity_;
    }
    absl::Status diagnosis = DiagnoseConnection(server_, identity.has_value() ? &*identity : nullptr, kDiagnosisTimeout);
    if (!diagnosis.ok()) {
      words = diagnosis;
    } else if (!identity.has_value()) {
      words = absl::UnavailableError(absl::StrCat(std::string(status.message()), " (somebody listens there; does the coordinator use TLS?)"));
    }
  }
  words = absl::Status(words.code(), absl::StrCat(NobodyAnswered(status) ? "cannot reach the coordinator " : "trouble at the coordinator ", address_,
                                                  ": ", std::string(words.message())));
  if (words.code() != absl::StatusCode::kUnauthenticated) {
    const std::string wait = absl::FormatDuration(absl::Trunc(next_try, absl::Milliseconds(1)));
    Log(log_, LogLevel::kWarning, absl::StrCat(std::string(words.message()), "; next try in ", wait));
  }
  return words;
}

bool Link::AwaitConnection(absl::Duration span, std::stop_token stop) {
  const absl::Duration until = RealClock().Monotonic() + span;
  const std::shared_ptr<grpc::Channel> channel = this->channel();
  while (!stop.stop_requested()) {
    const absl::Duration left = until - RealClock().Monotonic();
    if (left <= absl::ZeroDuration()) return true;
    const absl::Duration slice = std::min(left, absl::Milliseconds(200));  // so that a stop is heard
    if (channel->WaitForConnected(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(slice))) return true;
  }
  return false;
}

absl::Duration Retrier::Draw(const v1::RetryWindow& window) {
  absl::StatusOr<absl::Duration> min = FromProto(window.min_duration());
  absl::StatusOr<absl::Duration> max = FromProto(window.max_duration());
  if (!min.ok() || !max.ok()) return options_.base;
  // A window is pacing, not a way to send a client away for good.
  return std::min(DrawFromWindow({*min, *max}, random_), absl::Hours(24));
}

absl::Status Retrier::Pause(const absl::Status& status, std::stop_token stop) {
  if (stop.stop_requested()) return absl::CancelledError("stopped");
  absl::Duration wait;
  if (IsTransient(status)) {
    wait = backoff_.Next();
    absl::Status words = link_->Explain(status, wait);
    if (words.code() == absl::StatusCode::kUnauthenticated) return words;
    if (link_->SinceLastAnswer() > options_.give_up_after) return words;
    // Once connected, the jitter alone spreads the crowd that a restarted coordinator finds before its door.
    if (!link_->AwaitConnection(wait, stop)) return absl::CancelledError("stopped");
    wait = std::min(wait, options_.base) * random_.Uniform();
  } else if (status.code() == absl::StatusCode::kResourceExhausted && !RejectionOf(status).has_value()) {
    std::optional<v1::RetryWindows> retry = RetryOf(status);
    wait = retry.has_value() ? Draw(retry->not_now()) : backoff_.Next();
  } else {
    return status;
  }
  return WaitFor(wait, stop) ? absl::OkStatus() : absl::CancelledError("stopped");
}

}  // namespace fedwatt::internal
