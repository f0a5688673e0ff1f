// A client that says exactly what a test wants, right or wrong, to a coordinator in the same process.
#ifndef FEDWATT_TESTS_SERVER_RAW_CLIENT_H_
#define FEDWATT_TESTS_SERVER_RAW_CLIENT_H_

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/random.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/model/container.h"
#include "fedwatt/model/rejection.h"
#include "fedwatt/report/run_record.h"
#include "fedwatt/rpc/channel.h"
#include "fedwatt/rpc/chunks.h"
#include "fedwatt/rpc/conversion.h"
#include "fedwatt/rpc/security.h"
#include "fedwatt/rpc/status_conversion.h"
#include "fedwatt/server/server.h"
#include "fedwatt/v1/coordinator.grpc.pb.h"
#include "fedwatt/v1/operator.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/testing/logistic_trainer.h"

namespace fedwatt::testing {

inline constexpr int64_t kInputs = 4, kClasses = 3;

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "fedwatt-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Quick, insecure, without evaluation.
inline ServerOptions QuickOptions(const std::string& out, int64_t clients) {
  const LogisticTrainer trainer(kInputs, kClasses);
  ServerOptions options;
  options.insecure = true;
  options.out_directory = out;
  options.engine.run_id = "run";
  options.engine.rounds = 1;
  options.engine.clients_per_round = clients;
  options.engine.wait_for_clients = clients;
  options.engine.quorum = 0.5;
  options.engine.deadline = absl::Seconds(20);
  options.model.plan.run_id = "run";
  options.model.plan.architecture = {.name = "logistic", .input_shape = {kInputs}, .output_count = kClasses};
  options.model.plan.limits.max_update_bytes = 1 << 20;
  options.model.layout = trainer.layout();
  options.model.max_cohort = clients;
  options.initial_model.assign(static_cast<size_t>(trainer.layout().value_count()), 0.0f);
  options.disconnect_grace = absl::Milliseconds(300);
  options.session_duration = absl::Seconds(20);
  options.farewell_duration = absl::Milliseconds(200);
  return options;
}

// Runs the server on a thread of its own; ends the run when it goes.
class RunningServer {
 public:
  explicit RunningServer(ServerOptions options) {
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Create(std::move(options));
    if (!server.ok()) {
      ADD_FAILURE() << server.status();
      return;
    }
    server_ = *std::move(server);
    outcome_ = std::async(std::launch::async, [this] { return server_->Run(stop_.get_token()); });
  }
  ~RunningServer() {
    if (outcome_.valid()) Stop();
  }
  const std::string& address() const { return server_->address(); }
  Server& server() { return *server_; }
  // Waits for the end by itself.
  RunOutcome Wait() { return outcome_.get(); }
  RunOutcome Stop() {
    stop_.request_stop();
    return outcome_.get();
  }

 private:
  std::unique_ptr<Server> server_;
  std::stop_source stop_;
  std::future<RunOutcome> outcome_;
};

class RawClient {
 public:
  RawClient(const std::string& address, int64_t partition, int64_t count, std::string client_id = "")
      : channel_(*MakeChannel(address, InsecureClientCredentials())), stub_(v1::Coordinator::NewStub(channel_)), partition_(partition), count_(count),
        client_id_(client_id.empty() ? absl::StrCat("client-", partition) : client_id) {}

  std::string held_plan_id;  // said in each wait

  v1::Coordinator::Stub& stub() { return *stub_; }
  const std::shared_ptr<grpc::Channel>& channel() { return channel_; }
  const std::string& session() const { return session_; }
  const v1::TrainAssignment& assignment() const { return assignment_; }

  v1::CheckInRequest CheckInMessage() const {
    v1::CheckInRequest request;
    request.set_request_id(RandomId());
    request.set_client_id(client_id_);
    request.set_partition_index(partition_);
    request.set_partition_count(count_);
    request.mutable_protocol()->set_min_version(1);
    request.mutable_protocol()->set_max_version(1);
    return request;
  }
  absl::StatusOr<v1::CheckInResponse> CheckIn(const v1::CheckInRequest& request) {
    grpc::ClientContext context;
    v1::CheckInResponse response;
    FEDWATT_RETURN_IF_ERROR(FromGrpcStatus(stub_->CheckIn(&context, request, &response)));
    if (response.has_accepted()) session_ = response.accepted().session_id();
    return response;
  }
  absl::StatusOr<v1::CheckInResponse> CheckIn() { return CheckIn(CheckInMessage()); }

  absl::StatusOr<v1::WaitForWorkResponse> Wait(const std::string& current = "", grpc::ClientContext* context = nullptr) {
    grpc::ClientContext own;
    v1::WaitForWorkRequest request;
    request.set_session_id(session_);
    request.set_current_attempt_id(current);
    request.set_held_plan_id(held_plan_id);
    v1::WaitForWorkResponse response;
    FEDWATT_RETURN_IF_ERROR(FromGrpcStatus(stub_->WaitForWork(context != nullptr ? context : &own, request, &response)));
    return response;
  }
  // Checks in and waits until there is something to train.
  void Join() {
    ASSERT_TRUE(CheckIn().ok());
  }
  void AwaitTraining() {
    for (int i = 0; i < 200; ++i) {
      absl::StatusOr<v1::WaitForWorkResponse> work = Wait();
      ASSERT_TRUE(work.ok()) << work.status();
      if (work->has_train()) {
        assignment_ = work->train();
        return;
      }
      ASSERT_TRUE(work->has_wait()) << work->DebugString();
    }
    FAIL() << "no work";
  }

  // A container as the plan wants it, every value `value`.
  std::string GoodUpdate(float value = 0.25f) const { return Update(value, *Digest::FromRaw(assignment_.plan().layout_digest()), "float32"); }
  static std::string Update(float value, const Digest& layout_digest, const std::string& codec_name, int64_t count = kClasses * kInputs + kClasses) {
    std::vector<float> values(static_cast<size_t>(count), value);
    ContainerHeader header;
    header.kind = ContainerKind::kUpdate;
    header.codec = codec_name;
    header.layout_digest = layout_digest;
    return WriteContainer(header, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }

  v1::UploadHeader HeaderFor(const std::string& bytes, int64_t offset = 0) const {
    v1::UploadHeader header;
    header.set_session_id(session_);
    header.set_attempt_id(assignment_.attempt_id());
    header.set_total_bytes(static_cast<int64_t>(bytes.size()));
    header.set_sha256(Sha256(bytes).Raw());
    header.set_offset_bytes(offset);
    return header;
  }
  // Sends `header`, then `bytes` from its offset up to `end` in pieces of `piece`.
  absl::StatusOr<v1::UploadResponse> Upload(const v1::UploadHeader& header, const std::string& bytes, int64_t end, int64_t piece = 16 << 10,
                                            bool spoil_crc = false) {
    grpc::ClientContext context;
    v1::UploadResponse response;
    auto writer = stub_->Upload(&context, &response);
    v1::UploadRequest message;
    *message.mutable_header() = header;
    bool open = writer->Write(message);
    for (int64_t offset = header.offset_bytes(); open && offset < end;) {
      const std::string data = bytes.substr(static_cast<size_t>(offset), static_cast<size_t>(std::min(piece, end - offset)));
      message.mutable_chunk()->set_offset_bytes(offset);
      message.mutable_chunk()->set_data(data);
      message.mutable_chunk()->set_crc32c(static_cast<int64_t>(Crc32c(data)) ^ (spoil_crc ? 1 : 0));
      offset += static_cast<int64_t>(data.size());
      open = writer->Write(message);
    }
    writer->WritesDone();
    FEDWATT_RETURN_IF_ERROR(FromGrpcStatus(writer->Finish()));
    return response;
  }
  absl::StatusOr<v1::UploadResponse> Upload(const std::string& bytes) { return Upload(HeaderFor(bytes), bytes, static_cast<int64_t>(bytes.size())); }

  v1::ReportRequest CompletedReport(const std::string& bytes, int64_t examples = 10) const {
    v1::ReportRequest request;
    request.set_session_id(session_);
    request.set_attempt_id(assignment_.attempt_id());
    request.set_request_id(RandomId());
    request.mutable_completed()->set_payload_sha256(Sha256(bytes).Raw());
    request.mutable_completed()->set_example_count(examples);
    request.mutable_completed()->set_step_count(1);
    request.mutable_completed()->set_mean_loss(1.5);
    return request;
  }
  absl::StatusOr<v1::ReportResponse> Report(const v1::ReportRequest& request) {
    grpc::ClientContext context;
    v1::ReportResponse response;
    FEDWATT_RETURN_IF_ERROR(FromGrpcStatus(stub_->Report(&context, request, &response)));
    return response;
  }
  v1::ReportRequest InlineReport(const std::string& bytes, int64_t examples = 10) const {
    v1::ReportRequest request = CompletedReport(bytes, examples);
    request.mutable_completed()->clear_payload_sha256();
    request.mutable_completed()->set_inline_update(bytes);
    return request;
  }
  absl::StatusOr<v1::ReportResponse> UploadAndReport(const std::string& bytes, int64_t examples = 10) {
    FEDWATT_RETURN_IF_ERROR(Upload(bytes).status());
    return Report(CompletedReport(bytes, examples));
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Coordinator::Stub> stub_;
  int64_t partition_, count_;
  std::string client_id_, session_;
  v1::TrainAssignment assignment_;
};

// The lines of clients.jsonl for `partition`, "outcome/reason".
inline std::vector<std::string> AttemptsOf(const std::string& out, int64_t partition) {
  absl::StatusOr<RunRecord> record = ReadRunRecord(out);
  std::vector<std::string> lines;
  if (!record.ok()) return {record.status().ToString()};
  for (const AttemptRecord& attempt : record->attempts) {
    if (attempt.partition == partition) lines.push_back(absl::StrCat(attempt.outcome, "/", attempt.reason));
  }
  return lines;
}

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_SERVER_RAW_CLIENT_H_
