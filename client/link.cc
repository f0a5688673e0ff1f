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
  std::shared_ptr<grpc::ChannelCredentials> credentials = InsecureClientCredentials();
  std::string how = "without TLS";
  if (!options.insecure) {
    if (options.security_directory.empty()) {
      return absl::InvalidArgumentError("security.directory: not set; name the coordinator's folder, enrol, or ask for insecure");
    }
    FEDWATT_ASSIGN_OR_RETURN(link->identity_, ReadClientIdentity(options.security_directory, options.security_wait));
    FEDWATT_ASSIGN_OR_RETURN(link->identity_name_, IdentityName(*link->identity_));
    credentials = ClientCredentials(*link->identity_);
    how = absl::StrCat("as '", link->identity_name_, "' of ", options.security_directory);
  }
  FEDWATT_ASSIGN_OR_RETURN(link->channel_, MakeChannel(options.server, credentials));
  link->stub_ = v1::Coordinator::NewStub(link->channel_);
  link->last_answer_ns_ = absl::ToInt64Nanoseconds(RealClock().Monotonic());
  Log(link->log_, LogLevel::kInfo, absl::StrCat("coordinator ", link->address_, ", ", how));
  return link;
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
    absl::Status diagnosis = DiagnoseConnection(server_, identity_ ? &*identity_ : nullptr, kDiagnosisTimeout);
    if (!diagnosis.ok()) {
      words = diagnosis;
    } else if (!identity_.has_value()) {
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
  while (!stop.stop_requested()) {
    const absl::Duration left = until - RealClock().Monotonic();
    if (left <= absl::ZeroDuration()) return true;
    const absl::Duration slice = std::min(left, absl::Milliseconds(200));  // so that a stop is heard
    if (channel_->WaitForConnected(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(slice))) return true;
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
