#include "transfer.h"

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/rpc/chunks.h"
#include "wait.h"

namespace fedwatt::internal {
namespace {

// Damage on the way is rare; three times in a row it is not on the way.
constexpr int kMaxDamaged = 3;
// A coordinator that keeps sending us to another offset has lost the thread.
constexpr int kMaxMisplaced = 5;

// Cancels a call when nothing has moved for `limit`. Pat() says that something has.
class Watchdog {
 public:
  Watchdog(grpc::ClientContext* context, absl::Duration limit, std::stop_token stop)
      : last_ns_(NowNs()), canceller_(stop, [context] { context->TryCancel(); }), thread_([this, context, limit](std::stop_token done) {
          for (;;) {
            const absl::Duration left = absl::Nanoseconds(last_ns_.load() - NowNs()) + limit;
            if (left <= absl::ZeroDuration()) {
              stalled_ = true;
              context->TryCancel();
              return;
            }
            if (!WaitFor(left, done)) return;
          }
        }) {}
  void Pat() { last_ns_ = NowNs(); }
  bool stalled() const { return stalled_; }

 private:
  static int64_t NowNs() { return absl::ToInt64Nanoseconds(RealClock().Monotonic()); }

  std::atomic<int64_t> last_ns_;
  std::atomic<bool> stalled_{false};
  std::stop_callback<std::function<void()>> canceller_;
  std::jthread thread_;  // last: it uses the others
};

absl::Status WordFor(const grpc::Status& status, const Watchdog& watchdog, absl::Duration limit) {
  if (watchdog.stalled()) return absl::UnavailableError(absl::StrCat("no progress for ", absl::FormatDuration(limit)));
  return FromGrpcStatus(status);
}

}  // namespace

absl::StatusOr<std::string> Download(Link& link, Retrier& retrier, const std::string& session_id, const Digest& digest, int64_t total_bytes,
                                     absl::Duration stall_timeout, std::stop_token stop, int64_t* transferred) {
  int damaged = 0;
  BlobAssembler assembler(digest, total_bytes);
  for (;;) {
    absl::Status status;
    {
      grpc::ClientContext context;
      Watchdog watchdog(&context, stall_timeout, stop);
      v1::DownloadBlobRequest request;
      request.set_session_id(session_id);
      request.set_digest(digest.Raw());
      request.set_offset_bytes(assembler.received_bytes());
      const std::shared_ptr<v1::Coordinator::Stub> stub = link.stub();
      auto reader = stub->DownloadBlob(&context, request);
      v1::DownloadBlobResponse response;
      while (status.ok() && reader->Read(&response)) {
        watchdog.Pat();
        *transferred += static_cast<int64_t>(response.chunk().data().size());
        status = assembler.Add(response.chunk());
        if (status.ok()) retrier.Reset();
      }
      if (!status.ok()) context.TryCancel();
      grpc::Status finished = reader->Finish();
      if (status.ok()) {
        status = WordFor(finished, watchdog, stall_timeout);
        link.NoteAnswer(status);
        if (status.ok() && !assembler.complete()) status = absl::UnavailableError("the stream ended early");
      }
    }
    if (stop.stop_requested()) return absl::CancelledError("stopped");
    if (status.code() != absl::StatusCode::kDataLoss && assembler.complete()) {
      absl::StatusOr<std::string> blob = std::move(assembler).Finish();
      if (blob.ok()) return blob;
      status = blob.status();
    }
    if (status.code() == absl::StatusCode::kDataLoss || status.code() == absl::StatusCode::kOutOfRange) {
      if (++damaged >= kMaxDamaged) return Annotate(status, absl::StrCat("download, ", damaged, " times"));
      if (status.code() == absl::StatusCode::kOutOfRange) assembler = BlobAssembler(digest, total_bytes);
      status = absl::UnavailableError(status.message());
    }
    FEDWATT_RETURN_IF_ERROR(retrier.Pause(status, stop));
  }
}

absl::Status Upload(Link& link, Retrier& retrier, const std::string& session_id, const std::string& attempt_id, std::string_view update,
                    const Digest& digest, absl::Duration stall_timeout, std::stop_token stop) {
  const int64_t total_bytes = static_cast<int64_t>(update.size());
  int damaged = 0;
  int misplaced = 0;
  int64_t offset = -1;
  bool begun = false;
  for (;;) {
    // Nothing has arrived of an update that was never sent; only what comes after a cut is worth a question.
    int64_t received = 0;
    if (std::exchange(begun, true)) {
      v1::QueryUploadRequest query;
      query.set_session_id(session_id);
      query.set_attempt_id(attempt_id);
      v1::QueryUploadResponse answer;
      FEDWATT_RETURN_IF_ERROR(
          Repeat(retrier, stop, [&] { return link.Call(&v1::Coordinator::Stub::QueryUpload, query, &answer, stop); }));
      received = answer.received_bytes();
    }
    if (received < 0 || received > total_bytes) {
      return absl::InternalError(absl::StrCat("upload: the coordinator says it has ", received, " of ", total_bytes, " bytes"));
    }
    if (received == total_bytes) return absl::OkStatus();
    misplaced = received > offset ? 0 : misplaced;
    offset = received;

    absl::Status status;
    v1::UploadResponse response;
    {
      grpc::ClientContext context;
      Watchdog watchdog(&context, stall_timeout, stop);
      const std::shared_ptr<v1::Coordinator::Stub> stub = link.stub();
      auto writer = stub->Upload(&context, &response);
      v1::UploadRequest message;
      v1::UploadHeader& header = *message.mutable_header();
      header.set_session_id(session_id);
      header.set_attempt_id(attempt_id);
      header.set_total_bytes(total_bytes);
      header.set_sha256(digest.Raw());
      header.set_offset_bytes(offset);
      bool writing = writer->Write(message);
      for (int64_t at = offset; writing && at < total_bytes;) {
        FillChunk(update, at, message.mutable_chunk());
        at += static_cast<int64_t>(message.chunk().data().size());
        writing = writer->Write(message);
        watchdog.Pat();
      }
      if (writing) writer->WritesDone();
      status = WordFor(writer->Finish(), watchdog, stall_timeout);
      link.NoteAnswer(status);
    }
    if (stop.stop_requested()) return absl::CancelledError("stopped");
    if (status.ok() && response.received_bytes() == total_bytes) return absl::OkStatus();
    if (status.ok()) status = absl::UnavailableError("the upload ended early");
    if (status.code() == absl::StatusCode::kDataLoss) {
      if (++damaged >= kMaxDamaged) return Annotate(status, absl::StrCat("upload, ", damaged, " times"));
      status = absl::UnavailableError(status.message());
    }
    if (status.code() == absl::StatusCode::kFailedPrecondition) {
      if (++misplaced >= kMaxMisplaced) return Annotate(status, "upload");
      status = absl::UnavailableError(status.message());
    }
    FEDWATT_RETURN_IF_ERROR(retrier.Pause(status, stop));
  }
}

}  // namespace fedwatt::internal
