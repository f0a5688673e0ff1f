// N clients that take part in one round of a running coordinator without training: all wait for the assignment, then all upload a float32 update of zeros at
// once. Prints, on one line of JSON, the coordinator's resident memory before the first upload byte and at its highest during the uploads.
//
//   parallel_uploads ADDRESS SECURITY_DIRECTORY SERVER_PID CLIENTS
//
// bench/server/memory.sh starts the coordinator and compares 10 with 50 clients.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/model/container.h"
#include "fedwatt/rpc/channel.h"
#include "fedwatt/rpc/chunks.h"
#include "fedwatt/rpc/security.h"
#include "fedwatt/v1/coordinator.grpc.pb.h"

namespace fedwatt {
namespace {

void Require(bool ok, const std::string& what) {
  if (ok) return;
  std::cerr << "parallel_uploads: " << what << "\n";
  std::exit(1);
}

int64_t StatusField(const std::string& pid, const std::string& field) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  std::string name;
  int64_t kibibytes = 0;
  std::string line;
  while (std::getline(status, line)) {
    if (line.rfind(field, 0) == 0) {
      std::sscanf(line.c_str() + field.size(), "%ld", &kibibytes);
      return kibibytes * 1024;
    }
  }
  Require(false, absl::StrCat("process ", pid, " says no ", field));
  return 0;
}

struct Member {
  std::unique_ptr<v1::Coordinator::Stub> stub;
  std::string session;
  v1::TrainAssignment assignment;
};

void Join(Member& member, int64_t index, int64_t count) {
  grpc::ClientContext context;
  v1::CheckInRequest request;
  request.set_request_id(RandomId());
  request.set_client_id(RandomId());
  request.set_partition_index(index);
  request.set_partition_count(count);
  request.mutable_capabilities()->add_codecs("float32");
  request.mutable_protocol()->set_min_version(1);
  request.mutable_protocol()->set_max_version(1);
  v1::CheckInResponse response;
  grpc::Status status = member.stub->CheckIn(&context, request, &response);
  Require(status.ok() && response.has_accepted(), absl::StrCat("check-in: ", status.error_message(), response.refused().message()));
  member.session = response.accepted().session_id();
}

void AwaitWork(Member& member) {
  for (;;) {
    grpc::ClientContext context;
    v1::WaitForWorkRequest request;
    request.set_session_id(member.session);
    v1::WaitForWorkResponse response;
    grpc::Status status = member.stub->WaitForWork(&context, request, &response);
    Require(status.ok(), absl::StrCat("wait for work: ", status.error_message()));
    if (response.has_train()) {
      member.assignment = response.train();
      return;
    }
  }
}

void Upload(Member& member, const std::string& update) {
  const Digest digest = Sha256(update);
  {
    grpc::ClientContext context;
    v1::UploadResponse response;
    auto writer = member.stub->Upload(&context, &response);
    v1::UploadRequest message;
    v1::UploadHeader* header = message.mutable_header();
    header->set_session_id(member.session);
    header->set_attempt_id(member.assignment.attempt_id());
    header->set_total_bytes(static_cast<int64_t>(update.size()));
    header->set_sha256(digest.Raw());
    bool open = writer->Write(message);
    for (int64_t offset = 0; open && offset < static_cast<int64_t>(update.size());) {
      FillChunk(update, offset, message.mutable_chunk());
      offset += static_cast<int64_t>(message.chunk().data().size());
      open = writer->Write(message);
    }
    writer->WritesDone();
    grpc::Status status = writer->Finish();
    Require(status.ok(), absl::StrCat("upload: ", status.error_message()));
  }
  grpc::ClientContext context;
  v1::ReportRequest request;
  request.set_session_id(member.session);
  request.set_attempt_id(member.assignment.attempt_id());
  request.set_request_id(RandomId());
  request.mutable_completed()->set_payload_sha256(digest.Raw());
  request.mutable_completed()->set_example_count(1);
  request.mutable_completed()->set_step_count(1);
  v1::ReportResponse response;
  grpc::Status status = member.stub->Report(&context, request, &response);
  Require(status.ok() && response.has_accepted(), absl::StrCat("report: ", status.error_message(), response.rejected().message()));
}

}  // namespace
}  // namespace fedwatt

int main(int argc, char** argv) {
  using namespace fedwatt;  // NOLINT: a program, not a library
  Require(argc == 5, "usage: parallel_uploads ADDRESS SECURITY_DIRECTORY SERVER_PID CLIENTS");
  const std::string address = argv[1], pid = argv[3];
  const int count = std::atoi(argv[4]);
  absl::StatusOr<TlsIdentity> identity = ReadClientIdentity(argv[2], absl::Seconds(10));
  Require(identity.ok(), identity.status().ToString());

  std::vector<Member> members(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = MakeChannel(address, ClientCredentials(*identity));
    Require(channel.ok(), channel.status().ToString());
    members[i].stub = v1::Coordinator::NewStub(*channel);
    Join(members[i], i, count);
  }
  std::vector<std::thread> threads;
  for (Member& member : members) threads.emplace_back([&member] { AwaitWork(member); });
  for (std::thread& thread : threads) thread.join();
  threads.clear();

  // The layout is only known by its digest; its length follows from the model's blob, whose header says it.
  std::string blob;
  {
    grpc::ClientContext context;
    v1::DownloadBlobRequest request;
    request.set_session_id(members[0].session);
    request.set_digest(members[0].assignment.model().digest());
    auto reader = members[0].stub->DownloadBlob(&context, request);
    v1::DownloadBlobResponse response;
    while (reader->Read(&response)) blob += response.chunk().data();
    Require(reader->Finish().ok(), "download");
  }
  absl::StatusOr<ContainerView> model = ParseContainer(blob, int64_t{1} << 32);
  Require(model.ok(), model.status().ToString());
  ContainerHeader header;
  header.kind = ContainerKind::kUpdate;
  header.codec = "float32";
  header.layout_digest = model->header.layout_digest;
  const int64_t values = model->header.layout.value_count();
  const std::string update = WriteContainer(header, std::string(static_cast<size_t>(4 * values), '\0'));

  const int64_t before = StatusField(pid, "VmRSS:");
  std::atomic<bool> done = false;
  std::atomic<int64_t> highest = before;
  std::thread watcher([&] {
    while (!done) {
      highest = std::max<int64_t>(highest, StatusField(pid, "VmRSS:"));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
  std::barrier start(count);
  for (Member& member : members) {
    threads.emplace_back([&] {
      start.arrive_and_wait();
      Upload(member, update);
    });
  }
  for (std::thread& thread : threads) thread.join();
  done = true;
  watcher.join();
  std::printf("{\"clients\": %d, \"values\": %ld, \"before_bytes\": %ld, \"highest_bytes\": %ld, \"grown_bytes\": %ld, \"model_bytes\": %ld}\n", count,
              static_cast<long>(values), static_cast<long>(before), static_cast<long>(highest.load()), static_cast<long>(highest.load() - before),
              static_cast<long>(4 * values));
  return 0;
}
