// A coordinator that can be killed, and clients that outlive it. Shared by the crash matrix and bench/soak.
#ifndef FEDWATT_TESTS_SERVER_KILLABLE_H_
#define FEDWATT_TESTS_SERVER_KILLABLE_H_

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "tests/server/raw_client.h"

namespace fedwatt::testing {

// The child is killed with the object.
class CoordinatorProcess {
 public:
  CoordinatorProcess(std::string program, std::vector<std::string> arguments, const std::string& failpoints, const std::string& log) {
    std::vector<std::string> words{program};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<std::string> environment;
    for (char** entry = environ; *entry != nullptr; ++entry) {
      if (std::string_view(*entry).rfind("FEDWATT_FAILPOINTS=", 0) != 0) environment.emplace_back(*entry);
    }
    environment.push_back("FEDWATT_FAILPOINTS=" + failpoints);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    started_ = ::posix_spawn(&pid_, program.c_str(), &actions, nullptr, Pointers(words).data(), Pointers(environment).data()) == 0;
    posix_spawn_file_actions_destroy(&actions);
    EXPECT_TRUE(started_) << program;
  }
  ~CoordinatorProcess() {
    if (started_) Kill();
  }
  void Kill() {
    ::kill(pid_, SIGKILL);
    Wait();
  }
  // The wait status once it has ended by itself.
  int Wait() {
    int status = 0;
    if (std::exchange(started_, false)) ::waitpid(pid_, &status, 0);
    return status;
  }

 private:
  static std::vector<char*> Pointers(std::vector<std::string>& words) {
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    return pointers;
  }
  pid_t pid_ = 0;
  bool started_ = false;
};

// Trains without training, and does what a client does when its coordinator is away: it tries again, with the same session, attempt and request. Lives on a thread of its own until the run
// is over.
class PatientClient {
 public:
  struct Options {
    std::string address;
    int64_t partition = 0, count = 1, values = 0;
    bool inside = false;  // the update inside its report
    bool may_lose_uploads = false;  // a loss of power is part of the game: what was uploaded and not reported is sent again
    std::function<void(const std::string& attempt, int64_t round)> on_acknowledged;
  };
  explicit PatientClient(Options options) : options_(std::move(options)) {
    Connect();
    thread_ = std::jthread([this](std::stop_token stop) { Run(stop); });
  }
  // By attempt: the rounds that acknowledgements named.
  std::map<std::string, std::vector<int64_t>> acknowledged() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return acknowledged_;
  }
  std::vector<std::string> complaints() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return complaints_;
  }
  bool finished() const { return finished_; }
  void Stop() { thread_ = std::jthread(); }

 private:
  void Connect() {
    grpc::ChannelArguments arguments;
    // A channel's own subchannels: the backoff of one that failed is not the next one's.
    arguments.SetInt("grpc.use_local_subchannel_pool", 1);
    arguments.SetMaxReceiveMessageSize(64 << 20);
    stub_ = v1::Coordinator::NewStub(grpc::CreateCustomChannel(options_.address, grpc::InsecureChannelCredentials(), arguments));
  }
  void Complain(std::string what) {
    std::lock_guard<std::mutex> lock(mutex_);
    complaints_.push_back(absl::StrCat("partition ", options_.partition, ": ", what));
  }
  // Repeats the call until it is answered; false where the session is not known any more, or it is stopped.
  bool Repeat(std::stop_token stop, const std::function<grpc::Status(grpc::ClientContext&)>& call) {
    while (!stop.stop_requested()) {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
      std::stop_callback cancel(stop, [&context] { context.TryCancel(); });
      const absl::Status status = FromGrpcStatus(call(context));
      if (status.ok()) return true;
      if (status.code() == absl::StatusCode::kNotFound) return false;
      const bool again = !RejectionOf(status).has_value() && (status.code() == absl::StatusCode::kUnavailable || status.code() == absl::StatusCode::kCancelled || status.code() == absl::StatusCode::kDeadlineExceeded ||
                         status.code() == absl::StatusCode::kResourceExhausted || status.code() == absl::StatusCode::kUnknown || status.code() == absl::StatusCode::kAborted);
      if (!again) {
        Complain(status.ToString());
        return false;
      }
      absl::SleepFor(absl::Milliseconds(10));
      Connect();
    }
    return false;
  }
  void Run(std::stop_token stop) {
    while (!stop.stop_requested() && !finished_) {
      v1::CheckInRequest request;
      request.set_request_id(RandomId());
      request.set_client_id(absl::StrCat("client-", options_.partition));
      request.set_partition_index(options_.partition);
      request.set_partition_count(options_.count);
      request.mutable_protocol()->set_min_version(1);
      request.mutable_protocol()->set_max_version(1);
      v1::CheckInResponse response;
      if (!Repeat(stop, [&](grpc::ClientContext& context) { return stub_->CheckIn(&context, request, &response); })) continue;
      if (!response.has_accepted()) {
        finished_ = response.refused().reason() == v1::REFUSAL_REASON_FINISHED;
        absl::SleepFor(absl::Milliseconds(10));
        continue;
      }
      Serve(response.accepted().session_id(), stop);
    }
  }
  void Serve(const std::string& session, std::stop_token stop) {
    for (;;) {
      v1::WaitForWorkRequest request;
      request.set_session_id(session);
      v1::WaitForWorkResponse work;
      if (!Repeat(stop, [&](grpc::ClientContext& context) { return stub_->WaitForWork(&context, request, &work); })) return;
      if (work.has_finished()) {
        finished_ = true;
        return;
      }
      if (work.has_train() && !Train(session, work.train(), stop)) return;
    }
  }
  bool Train(const std::string& session, const v1::TrainAssignment& assignment, std::stop_token stop) {
    // Depends on who trains in which round, and on nothing else.
    const float value = 0.01f * static_cast<float>(options_.partition + 1) + 0.001f * static_cast<float>(assignment.round());
    if (assignment.has_plan()) layout_ = *Digest::FromRaw(assignment.plan().layout_digest());
    const std::string update = RawClient::Update(value, layout_, "float32", options_.values);
    v1::ReportRequest report;
    report.set_session_id(session);
    report.set_attempt_id(assignment.attempt_id());
    report.set_request_id(RandomId());
    report.mutable_completed()->set_example_count(10 + options_.partition);
    report.mutable_completed()->set_step_count(1);
    report.mutable_completed()->set_mean_loss(1.5);
    if (options_.inside) {
      report.mutable_completed()->set_inline_update(update);
    } else {
      report.mutable_completed()->set_payload_sha256(Sha256(update).Raw());
      if (!Upload(session, assignment.attempt_id(), update, stop)) return false;
    }
    v1::ReportResponse verdict;
    bool lost = false;
    do {
      if (std::exchange(lost, false) && !Upload(session, assignment.attempt_id(), update, stop)) return false;
      const bool answered = Repeat(stop, [&](grpc::ClientContext& context) {
        grpc::Status status = stub_->Report(&context, report, &verdict);
        // The coordinator has lost what was uploaded.
        lost = options_.may_lose_uploads && status.error_code() == grpc::StatusCode::FAILED_PRECONDITION;
        return lost ? grpc::Status::OK : status;
      });
      if (!answered) return false;
    } while (lost);
    if (!verdict.has_accepted()) {
      Complain(absl::StrCat(assignment.attempt_id(), ": ", verdict.ShortDebugString()));
      return true;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      acknowledged_[assignment.attempt_id()].push_back(verdict.accepted().round());
    }
    if (options_.on_acknowledged) options_.on_acknowledged(assignment.attempt_id(), verdict.accepted().round());
    return true;
  }
  bool Upload(const std::string& session, const std::string& attempt, const std::string& update, std::stop_token stop) {
    return Repeat(stop, [&](grpc::ClientContext& context) {
      v1::QueryUploadRequest query;
      query.set_session_id(session);
      query.set_attempt_id(attempt);
      v1::QueryUploadResponse known;
      grpc::ClientContext query_context;
      query_context.set_deadline(context.deadline());
      grpc::Status status = stub_->QueryUpload(&query_context, query, &known);
      if (!status.ok()) {
        // Its end is known, and the report will hear of it.
        return RejectionOf(FromGrpcStatus(status)) == Rejection::kDuplicate ? grpc::Status::OK : status;
      }
      int64_t offset = known.received_bytes();
      if (offset == static_cast<int64_t>(update.size())) return grpc::Status::OK;
      v1::UploadResponse response;
      auto writer = stub_->Upload(&context, &response);
      v1::UploadRequest message;
      v1::UploadHeader& header = *message.mutable_header();
      header.set_session_id(session);
      header.set_attempt_id(attempt);
      header.set_total_bytes(static_cast<int64_t>(update.size()));
      header.set_sha256(Sha256(update).Raw());
      header.set_offset_bytes(offset);
      bool open = writer->Write(message);
      while (open && offset < static_cast<int64_t>(update.size())) {
        FillChunk(update, offset, message.mutable_chunk());
        offset += static_cast<int64_t>(message.chunk().data().size());
        open = writer->Write(message);
      }
      writer->WritesDone();
      status = writer->Finish();
      if (status.ok() && response.received_bytes() != static_cast<int64_t>(update.size())) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "ended early");
      return status;
    });
  }

  const Options options_;
  std::unique_ptr<v1::Coordinator::Stub> stub_;
  Digest layout_;
  std::atomic<bool> finished_ = false;
  mutable std::mutex mutex_;
  std::map<std::string, std::vector<int64_t>> acknowledged_;
  std::vector<std::string> complaints_;
  std::jthread thread_;  // last: it uses the rest
};

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_SERVER_KILLABLE_H_
