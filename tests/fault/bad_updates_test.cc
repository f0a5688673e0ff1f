// Ten thousand bad updates of many kinds, through the calls that the services make: each is refused by its reason, and the model comes out as if nobody had sent them.
#include <cmath>
#include <limits>

#include "coordinator.h"
#include "fedwatt/base/random.h"
#include "fedwatt/model/container.h"
#include "fedwatt/rpc/conversion.h"
#include "fedwatt/rpc/status_conversion.h"
#include "gmock/gmock.h"
#include "tests/fault/simulated_disk.h"
#include "tests/testing/logistic_trainer.h"

namespace fedwatt::testing {
namespace {

using internal::Coordinator;
using internal::Loop;

constexpr int64_t kBadClients = 50, kRounds = 210, kInputs = 4, kClasses = 3;
constexpr int64_t kMaxUpdateBytes = 1 << 12;

// A coordinator that is called directly, on a disk in memory, whose time stands still.
class DirectCoordinator {
 public:
  explicit DirectCoordinator(GlobalModelOptions model) : disk_(1), loop_(&clock_) {
    options_.insecure = true;
    options_.out_directory = "run";
    options_.engine.run_id = "run";
    options_.engine.rounds = kRounds;
    options_.engine.clients_per_round = 0;
    options_.engine.wait_for_clients = kBadClients + 1;
    options_.engine.quorum = 1e-3;
    options_.model = std::move(model);
    options_.initial_model.assign(static_cast<size_t>(options_.model.layout.value_count()), 0.0f);
    options_.clock = &clock_;
    options_.disk = &disk_;
    options_.background = [this](absl::Duration, std::function<void()> task) { loop_.Post(std::move(task)); };
    options_.new_session_id = [this] { return absl::StrCat("session-", ++sessions_); };
    options_.on_round = [this](const RoundRecord& record) { rounds.push_back(record); };
    coordinator_ = *Coordinator::Create(&options_, &loop_, nullptr);
    coordinator_->Start();
  }
  ~DirectCoordinator() { coordinator_.reset(); }

  // Until nothing is left to do.
  void Pump() {
    while (loop_.NextDue() == absl::ZeroDuration()) loop_.RunOnce(absl::ZeroDuration());
  }
  std::string CheckIn(int64_t partition) {
    v1::CheckInRequest request;
    request.set_request_id(absl::StrCat("check-in-", partition));
    request.set_client_id(absl::StrCat("client-", partition));
    request.set_partition_index(partition);
    request.set_partition_count(kBadClients + 1);
    request.mutable_protocol()->set_min_version(1);
    request.mutable_protocol()->set_max_version(1);
    v1::CheckInResponse response;
    coordinator_->CheckIn(Peer{.role = Peer::Role::kInsecure}, request, &response, [](const absl::Status& status) { EXPECT_TRUE(status.ok()) << status; });
    return response.accepted().session_id();
  }
  void Wait(const std::string& session, v1::WaitForWorkResponse* response) {
    v1::WaitForWorkRequest request;
    request.set_session_id(session);
    coordinator_->WaitForWork(++calls_, request, response, [](const absl::Status&) {});
  }
  absl::StatusOr<v1::ReportResponse> Report(const v1::ReportRequest& request) {
    v1::ReportResponse response;
    absl::Status answer = absl::UnknownError("no answer");
    coordinator_->Report(++calls_, request, &response, [&answer](const absl::Status& status) { answer = status; });
    Pump();
    if (!answer.ok()) return answer;
    return response;
  }
  // As services.cc does.
  absl::Status Upload(const v1::UploadHeader& header, std::string_view bytes, bool spoil_crc = false) {
    absl::StatusOr<Coordinator::UploadStream> stream = coordinator_->OpenUpload(header);
    if (!stream.ok()) return stream.status();
    absl::Status added;
    for (size_t at = 0; added.ok() && at < bytes.size(); at += 64) {
      const std::string_view piece = bytes.substr(at, 64);
      added = stream->upload->Append(stream->stream, static_cast<int64_t>(at), piece, static_cast<int64_t>(Crc32c(piece)) ^ (spoil_crc ? 1 : 0));
    }
    coordinator_->CloseUpload(*stream, added);
    Pump();
    return added;
  }

  std::vector<RoundRecord> rounds;

 private:
  SimulatedDisk disk_;
  VirtualClock clock_;
  Loop loop_;
  ServerOptions options_;
  std::unique_ptr<Coordinator> coordinator_;
  int64_t sessions_ = 0, calls_ = 0;
};

GlobalModelOptions ModelOptions() {
  const LogisticTrainer trainer(kInputs, kClasses);
  GlobalModelOptions options;
  options.plan.run_id = "run";
  options.plan.architecture = {.name = "logistic", .input_shape = {kInputs}, .output_count = kClasses};
  options.plan.limits.max_update_bytes = kMaxUpdateBytes;
  options.plan.limits.max_norm = 20;
  options.layout = trainer.layout();
  options.max_cohort = kBadClients + 1;
  return options;
}

using Values = std::vector<float>;

std::string Container(const std::string& payload, const Digest& layout, const std::string& codec = "float32") {
  ContainerHeader header;
  header.kind = ContainerKind::kUpdate;
  header.codec = codec;
  header.layout_digest = layout;
  return WriteContainer(header, payload);
}
std::string Payload(const Values& values) { return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)); }
// With a checksum that fits.
std::string Reseal(std::string bytes) {
  const uint32_t crc = Crc32c(std::string_view(bytes).substr(0, bytes.size() - 4));
  for (int i = 0; i < 4; ++i) bytes[bytes.size() - 4 + static_cast<size_t>(i)] = static_cast<char>(crc >> (8 * i));
  return bytes;
}

// One client's attempt, and how it is spoilt.
struct Attempt {
  DirectCoordinator& coordinator;
  Random& random;
  std::string session, id, other_id;
  Digest layout;
  bool inside = true;  // the report, or uploaded before it

  Values Good() const {
    Values values(static_cast<size_t>(kClasses * kInputs + kClasses));
    for (float& value : values) value = static_cast<float>(random.Uniform() - 0.5);
    return values;
  }
  std::string GoodBytes() const { return Container(Payload(Good()), layout); }
  size_t Place() const { return random.Below(static_cast<uint64_t>(kClasses * kInputs + kClasses)); }
  std::string With(float value) const {
    Values values = Good();
    values[Place()] = value;
    return Container(Payload(values), layout);
  }
  v1::ReportRequest Base(int64_t examples = 10) const {
    v1::ReportRequest request;
    request.set_session_id(session);
    request.set_attempt_id(id);
    request.set_request_id(absl::StrCat("report-", random.Next()));
    request.mutable_completed()->set_example_count(examples);
    request.mutable_completed()->set_step_count(1);
    request.mutable_completed()->set_mean_loss(1.5);
    return request;
  }
  v1::UploadHeader Header(std::string_view bytes) const {
    v1::UploadHeader header;
    header.set_session_id(session);
    header.set_attempt_id(id);
    header.set_total_bytes(static_cast<int64_t>(bytes.size()));
    header.set_sha256(Sha256(bytes).Raw());
    return header;
  }
  // The bytes, inside the report or before it.
  absl::StatusOr<v1::ReportResponse> Send(const std::string& bytes, int64_t examples = 10) const {
    v1::ReportRequest request = Base(examples);
    if (inside) {
      request.mutable_completed()->set_inline_update(bytes);
    } else {
      const absl::Status uploaded = coordinator.Upload(Header(bytes), bytes);
      // Refused before a byte was taken: the report hears of it.
      EXPECT_TRUE(uploaded.ok() || RejectionOf(uploaded)) << uploaded;
      request.mutable_completed()->set_payload_sha256(Sha256(bytes).Raw());
    }
    return coordinator.Report(request);
  }
};

struct Kind {
  std::string name;
  std::optional<Rejection> reason;  // that the report is answered with; else
  absl::StatusCode code = absl::StatusCode::kOk;
  std::function<absl::StatusOr<v1::ReportResponse>(const Attempt&)> send;
};

Kind Bytes(std::string name, Rejection reason, std::function<std::string(const Attempt&)> bytes) {
  return {std::move(name), reason, absl::StatusCode::kOk, [bytes = std::move(bytes)](const Attempt& attempt) { return attempt.Send(bytes(attempt)); }};
}
Kind Weight(std::string name, std::function<int64_t(const Attempt&)> examples) {
  return {std::move(name), Rejection::kBadWeight, absl::StatusCode::kOk, [examples = std::move(examples)](const Attempt& attempt) { return attempt.Send(attempt.GoodBytes(), examples(attempt)); }};
}
Kind Call(std::string name, absl::StatusCode code, std::function<void(const Attempt&, v1::ReportRequest&)> spoil) {
  return {std::move(name), std::nullopt, code, [spoil = std::move(spoil)](const Attempt& attempt) {
            v1::ReportRequest request = attempt.Base();
            request.mutable_completed()->set_inline_update(attempt.GoodBytes());
            spoil(attempt, request);
            return attempt.coordinator.Report(request);
          }};
}

std::vector<Kind> Kinds() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto some = [](const Attempt& a, uint64_t least, uint64_t most) { return least + a.random.Below(most - least + 1); };
  return {
      Bytes("random bytes", Rejection::kGarbage, [=](const Attempt& a) { std::string bytes(some(a, 1, 300), '\0'); for (char& c : bytes) c = static_cast<char>(a.random.Next() | 1); bytes[0] = 'x'; return bytes; }),
      Bytes("wrong magic", Rejection::kGarbage, [=](const Attempt& a) { std::string bytes = a.GoodBytes(); bytes[some(a, 0, 3)] ^= 0x20; return bytes; }),
      Bytes("ends too early", Rejection::kTruncated, [=](const Attempt& a) { return a.GoodBytes().substr(0, some(a, 7, a.GoodBytes().size() - 1)); }),
      Bytes("bytes behind the end", Rejection::kGarbage, [=](const Attempt& a) { return a.GoodBytes() + std::string(some(a, 1, 40), '\0'); }),
      Bytes("a bit of the payload flipped", Rejection::kGarbage, [=](const Attempt& a) { std::string bytes = a.GoodBytes(); bytes[some(a, 13, bytes.size() - 5)] ^= static_cast<char>(1 << a.random.Below(8)); return bytes; }),
      Bytes("a bit of the checksum flipped", Rejection::kGarbage, [=](const Attempt& a) { std::string bytes = a.GoodBytes(); bytes[bytes.size() - some(a, 1, 4)] ^= static_cast<char>(1 << a.random.Below(8)); return bytes; }),
      Bytes("unknown version", Rejection::kGarbage, [=](const Attempt& a) { std::string bytes = a.GoodBytes(); bytes[4] = static_cast<char>(some(a, 3, 255)); return Reseal(bytes); }),
      Bytes("unknown kind", Rejection::kGarbage, [=](const Attempt& a) { std::string bytes = a.GoodBytes(); bytes[5] = static_cast<char>(some(a, 9, 255)); return Reseal(bytes); }),
      Bytes("a length of many bytes", Rejection::kGarbage, [=](const Attempt& a) { std::string bytes = a.GoodBytes(); bytes[6] = static_cast<char>(bytes[6] | 0x80); bytes.insert(7, 1, '\0'); return Reseal(bytes); }),
      Bytes("another layout", Rejection::kWrongLayout, [](const Attempt& a) { return Container(Payload(a.Good()), Sha256(absl::StrCat(a.random.Next()))); }),
      Bytes("another codec: int8", Rejection::kWrongCodec, [](const Attempt& a) { return Container(Payload(a.Good()), a.layout, "int8"); }),
      Bytes("another codec: bfloat16", Rejection::kWrongCodec, [](const Attempt& a) { return Container(Payload(a.Good()), a.layout, "bfloat16"); }),
      Bytes("values missing", Rejection::kWrongCodec, [=](const Attempt& a) { Values values = a.Good(); values.resize(some(a, 0, values.size() - 1)); return Container(Payload(values), a.layout); }),
      Bytes("too many values", Rejection::kWrongCodec, [=](const Attempt& a) { Values values = a.Good(); values.resize(values.size() + some(a, 1, 100)); return Container(Payload(values), a.layout); }),
      Bytes("a part of a value", Rejection::kWrongCodec, [=](const Attempt& a) { return Container(Payload(a.Good()).substr(some(a, 1, 3)), a.layout); }),
      Bytes("not a number", Rejection::kNotFinite, [](const Attempt& a) { return a.With(std::nanf("")); }),
      Bytes("infinite", Rejection::kNotFinite, [=](const Attempt& a) { return a.With(kInfinity); }),
      Bytes("infinite, negative", Rejection::kNotFinite, [=](const Attempt& a) { return a.With(-kInfinity); }),
      Bytes("a value too large", Rejection::kValueTooLarge, [](const Attempt& a) { return a.With(64.5f * std::pow(10.0f, static_cast<float>(30 * a.random.Uniform()))); }),
      Bytes("a value too large, negative", Rejection::kValueTooLarge, [](const Attempt& a) { return a.With(-64.5f * std::pow(10.0f, static_cast<float>(30 * a.random.Uniform()))); }),
      Bytes("too long a vector", Rejection::kNormTooLarge, [](const Attempt& a) { return Container(Payload(Values(static_cast<size_t>(kClasses * kInputs + kClasses), static_cast<float>(6 + 50 * a.random.Uniform()))), a.layout); }),
      Bytes("more bytes than allowed", Rejection::kOversize, [=](const Attempt& a) { return std::string(some(a, kMaxUpdateBytes + 1, kMaxUpdateBytes + 500), 'x'); }),
      Weight("no examples", [](const Attempt&) { return 0; }),
      Weight("a negative number of examples", [](const Attempt& a) { return -1 - static_cast<int64_t>(a.random.Next() >> 2); }),
      Weight("too many examples", [](const Attempt& a) { return (int64_t{1} << 20) + 1 + static_cast<int64_t>(a.random.Next() >> 2); }),
      {"more bytes than announced", Rejection::kOversize, absl::StatusCode::kOk,
       [](const Attempt& a) {
         const std::string bytes = a.GoodBytes();
         EXPECT_EQ(RejectionOf(a.coordinator.Upload(a.Header(bytes.substr(0, 50)), bytes)), Rejection::kOversize);
         v1::ReportRequest request = a.Base();
         request.mutable_completed()->set_payload_sha256(Sha256(bytes).Raw());
         return a.coordinator.Report(request);
       }},
      {"the report names other bytes", Rejection::kDigestMismatch, absl::StatusCode::kOk,
       [](const Attempt& a) {
         const std::string bytes = a.GoodBytes();
         EXPECT_TRUE(a.coordinator.Upload(a.Header(bytes), bytes).ok());
         v1::ReportRequest request = a.Base();
         request.mutable_completed()->set_payload_sha256(Sha256(a.GoodBytes()).Raw());
         return a.coordinator.Report(request);
       }},
      {"pieces that do not fit their checksums", Rejection::kDigestMismatch, absl::StatusCode::kOk,
       [](const Attempt& a) {
         const std::string bytes = a.GoodBytes();
         for (int i = 0; i < 4; ++i) EXPECT_EQ(RejectionOf(a.coordinator.Upload(a.Header(bytes), bytes, /*spoil_crc=*/true)), Rejection::kDigestMismatch);
         v1::ReportRequest request = a.Base();
         request.mutable_completed()->set_payload_sha256(Sha256(bytes).Raw());
         return a.coordinator.Report(request);
       }},
      {"a whole that does not fit its digest", Rejection::kDigestMismatch, absl::StatusCode::kOk,
       [](const Attempt& a) {
         const std::string bytes = a.GoodBytes();
         v1::UploadHeader header = a.Header(bytes);
         header.set_sha256(Sha256("other bytes").Raw());
         for (int i = 0; i < 4; ++i) EXPECT_EQ(RejectionOf(a.coordinator.Upload(header, bytes)), Rejection::kDigestMismatch);
         v1::ReportRequest request = a.Base();
         request.mutable_completed()->set_payload_sha256(Sha256(bytes).Raw());
         return a.coordinator.Report(request);
       }},
      {"an attempt that was never issued", Rejection::kUnknownAttempt, absl::StatusCode::kOk,
       [](const Attempt& a) {
         v1::ReportRequest request = a.Base();
         request.set_attempt_id(absl::StrCat("r1-p7-", a.random.Next()));
         request.mutable_completed()->set_inline_update(a.GoodBytes());
         return a.coordinator.Report(request);
       }},
      {"an attempt of somebody else", Rejection::kUnknownAttempt, absl::StatusCode::kOk,
       [](const Attempt& a) {
         v1::ReportRequest request = a.Base();
         request.set_attempt_id(a.other_id);
         request.mutable_completed()->set_inline_update(a.GoodBytes());
         return a.coordinator.Report(request);
       }},
      Call("no request_id", absl::StatusCode::kInvalidArgument, [](const Attempt&, v1::ReportRequest& request) { request.clear_request_id(); }),
      Call("no outcome", absl::StatusCode::kInvalidArgument, [](const Attempt&, v1::ReportRequest& request) { request.clear_completed(); }),
      Call("an update inside and one that was uploaded", absl::StatusCode::kInvalidArgument, [](const Attempt& a, v1::ReportRequest& request) { request.mutable_completed()->set_payload_sha256(Sha256(a.GoodBytes()).Raw()); }),
      Call("nothing was uploaded", absl::StatusCode::kFailedPrecondition,
           [](const Attempt& a, v1::ReportRequest& request) { request.mutable_completed()->clear_inline_update(); request.mutable_completed()->set_payload_sha256(Sha256(a.GoodBytes()).Raw()); }),
      Call("an unknown number format", absl::StatusCode::kInvalidArgument, [](const Attempt&, v1::ReportRequest& request) { request.mutable_completed()->set_number_format("float12"); }),
      Call("bytes on the wire below zero", absl::StatusCode::kInvalidArgument, [](const Attempt&, v1::ReportRequest& request) { request.mutable_transfer()->set_uplink_wire_bytes(-1); }),
      Call("a phase that nobody knows", absl::StatusCode::kInvalidArgument, [](const Attempt&, v1::ReportRequest& request) { request.add_phases()->set_wall_us(-5); }),
      Call("a session that is not known", absl::StatusCode::kNotFound, [](const Attempt& a, v1::ReportRequest& request) { request.set_session_id(absl::StrCat("session-", a.random.Next())); }),
  };
}

TEST(BadUpdatesTest, TenThousandAreRefusedByNameAndTheModelIsThatOfTheGoodOnes) {
  DirectCoordinator coordinator(ModelOptions());
  GlobalModel alone = *GlobalModel::Create(ModelOptions(), Values(static_cast<size_t>(kClasses * kInputs + kClasses), 0.0f));
  const Digest layout = alone.layout().digest();
  Random random(7);
  FoldScratch scratch;
  const std::vector<Kind> kinds = Kinds();
  EXPECT_GE(kinds.size(), 25u);
  std::vector<std::string> sessions;
  for (int64_t partition = 0; partition <= kBadClients; ++partition) sessions.push_back(coordinator.CheckIn(partition));
  coordinator.Pump();
  int64_t refused = 0;
  std::map<std::string, int64_t> of_kind;
  for (int64_t round = 1; round <= kRounds; ++round) {
    std::vector<v1::WaitForWorkResponse> work(sessions.size());
    for (size_t i = 0; i < sessions.size(); ++i) coordinator.Wait(sessions[i], &work[i]);
    coordinator.Pump();
    for (const v1::WaitForWorkResponse& one : work) ASSERT_EQ(one.train().round(), round) << one.ShortDebugString();
    for (size_t i = 0; i < kBadClients; ++i) {
      const Kind& kind = kinds[static_cast<size_t>(refused) % kinds.size()];
      const Attempt attempt{coordinator, random, sessions[i], work[i].train().attempt_id(), work[i + 1].train().attempt_id(), layout, random.Below(2) == 0};
      absl::StatusOr<v1::ReportResponse> answer = kind.send(attempt);
      ++refused;
      ++of_kind[kind.name];
      if (!kind.reason) {
        ASSERT_EQ(answer.status().code(), kind.code) << kind.name << ": " << answer.status();
        EXPECT_NE(answer.status().message(), "") << kind.name;
      } else {
        ASSERT_TRUE(answer.ok()) << kind.name << ": " << answer.status();
        ASSERT_TRUE(answer->has_rejected()) << kind.name << ": " << answer->ShortDebugString();
        ASSERT_EQ(answer->rejected().reason(), ToProto(*kind.reason)) << kind.name << ": " << answer->ShortDebugString();
        EXPECT_NE(answer->rejected().message(), "") << kind.name;
      }
      // What is still open after that ends, too.
      v1::ReportRequest end = attempt.Base();
      end.mutable_failed()->set_code(13);
      if (!kind.reason || kind.reason == Rejection::kUnknownAttempt) EXPECT_TRUE(coordinator.Report(end).ok()) << kind.name;
    }
    const Attempt good{coordinator, random, sessions[kBadClients], work[kBadClients].train().attempt_id(), "", layout};
    const std::string bytes = good.GoodBytes();
    absl::StatusOr<v1::ReportResponse> answer = good.Send(bytes);
    ASSERT_TRUE(answer.ok() && answer->has_accepted()) << answer.status();
    ASSERT_EQ(coordinator.rounds.size(), static_cast<size_t>(round));
    EXPECT_EQ(coordinator.rounds.back().clients_completed, 1);
    std::unique_ptr<Accumulator> sum = *alone.NewAccumulator();
    ASSERT_TRUE(FoldUpdate(alone.plan(), alone.layout(), bytes, 10, round, kBadClients, *sum, scratch).ok());
    ASSERT_TRUE(alone.Step(*sum->Report(), round).ok());
    ASSERT_EQ(coordinator.rounds.back().model_digest, alone.published_digest().Hex()) << round;
  }
  EXPECT_GE(refused, 10'000);
  EXPECT_EQ(of_kind.size(), kinds.size());
}

}  // namespace
}  // namespace fedwatt::testing
