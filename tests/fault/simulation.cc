#include "tests/fault/simulation.h"

#include <sqlite3.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <queue>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "coordinator.h"
#include "fedwatt/base/failpoint.h"
#include "fedwatt/base/random.h"
#include "fedwatt/model/container.h"
#include "fedwatt/round/retry_policy.h"
#include "fedwatt/rpc/conversion.h"
#include "fedwatt/rpc/status_conversion.h"
#include "tests/testing/logistic_trainer.h"

namespace fedwatt::testing {
namespace {

using internal::CallId;
using internal::Coordinator;
using internal::Done;
using internal::Loop;

constexpr int64_t kInputs = 4, kClasses = 3;
constexpr char kOut[] = "srv/run";
constexpr absl::Duration kCallTimeout = absl::Seconds(10);
constexpr absl::Duration kLimit = absl::Hours(12);  // within which every run must end

class SimulatedClock : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixSeconds(1'800'000'000) + monotonic_ + jump_; }
  absl::Duration Monotonic() const override { return monotonic_; }
  void AdvanceTo(absl::Duration monotonic) { monotonic_ = std::max(monotonic_, monotonic); }
  void Jump(absl::Duration by) { jump_ += by; }

 private:
  absl::Duration monotonic_ = absl::Seconds(1000), jump_;
};

const ParameterLayout& Layout() {
  static const ParameterLayout* layout = new ParameterLayout(LogisticTrainer(kInputs, kClasses).layout());
  return *layout;
}

GlobalModelOptions ModelOptions(int64_t clients) {
  GlobalModelOptions options;
  options.plan.run_id = "run";
  options.plan.architecture = {.name = "logistic", .input_shape = {kInputs}, .output_count = kClasses};
  options.plan.limits.max_update_bytes = 1 << 12;
  options.layout = Layout();
  options.max_cohort = clients;
  return options;
}

std::vector<float> InitialModel() { return std::vector<float>(static_cast<size_t>(Layout().value_count()), 0.0f); }

// What a client makes of an attempt follows from the attempt's name.
struct Trained {
  std::string container;
  int64_t example_count = 0;
  Energy energy;
};

std::string Container(absl::Span<const float> values, const Digest& layout, const std::string& codec = "float32") {
  ContainerHeader header;
  header.kind = ContainerKind::kUpdate;
  header.codec = codec;
  header.layout_digest = layout;
  return WriteContainer(header, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
}

uint64_t HashOf(std::string_view text) {
  uint64_t hash = 14695981039346656037u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

// Only the round and the partition count in its name "rROUND-pPARTITION-..." where `same_work`.
Trained TrainedBy(const std::string& attempt, bool same_work) {
  Random random(HashOf(same_work ? attempt.substr(0, attempt.rfind('-')) : attempt));
  std::vector<float> values(static_cast<size_t>(Layout().value_count()));
  for (float& value : values) value = static_cast<float>(random.Uniform() - 0.5);
  return {Container(values, Layout().digest()), 1 + static_cast<int64_t>(random.Below(50)), Microjoules(1 + static_cast<int64_t>(random.Below(1000)))};
}

class World;

// The other end of the protocol. Every callback names the life in which it was asked for, and comes to nothing in a later one.
class Client {
 public:
  Client(World* world, int64_t partition, bool inline_updates, uint64_t seed);
  void Start() { CheckIn(); }
  void Die();
  int64_t partition() const { return partition_; }
  bool inline_updates() const { return inline_updates_; }

  bool cut_to = false, cut_from = false;  // by a partition of the network: the way there, the way back

 private:
  template <typename Task>
  void Later(absl::Duration after, Task task);
  void Again(void (Client::*step)());
  void CheckIn();
  void Wait();
  void Rest();
  void TakeWork(const v1::WaitForWorkResponse& work);
  void Train(const v1::TrainAssignment& assignment);
  void Watch(const std::string& attempt);
  void Trained();
  void AskUpload();
  void SendUpload(int64_t offset);
  void Report();
  void TakeVerdict(const absl::Status& status, const v1::ReportResponse& response);
  void Repeat(const v1::ReportRequest& report, bool other_bytes);
  void NewSession();
  void Forget();
  v1::ReportRequest MakeReport();
  void Spoil(v1::ReportRequest& report);

  World* const world_;
  const int64_t partition_;
  const bool inline_updates_;
  Random random_;
  Backoff backoff_;
  int64_t life_ = 0;
  std::string check_in_, session_, attempt_, update_;
  int64_t round_ = 0;
  std::optional<v1::ReportRequest> report_;
};

class World {
 public:
  World(const Scenario& scenario, const std::function<void(const std::string&)>& print)
      : scenario_(scenario), print_(print), random_(DeriveSeed("world", {scenario.seed})), disk_(DeriveSeed("disk", {scenario.seed})) {
    disk_.MakeFolder("srv", 0755);
    disk_.SyncFolder("");
    HandleFailpoints([this](std::string_view name, std::string_view what) { return Pass(name, what); });
    disk_.before_change = [this] { Change(); };
    Random share(DeriveSeed("inline", {scenario.seed}));
    for (int64_t i = 0; i < scenario_.clients; ++i) {
      clients_.push_back(std::make_unique<Client>(this, i, share.Uniform() < scenario_.inline_share, DeriveSeed("client", {scenario.seed, static_cast<uint64_t>(i)})));
    }
  }
  ~World() { HandleFailpoints({}); }

  SimulationResult Run();

  // ---- For clients.
  const Scenario& scenario() const { return scenario_; }
  absl::Duration now() const { return clock_.Monotonic(); }
  bool faulty() const { return faulty_; }
  Random& random() { return random_; }
  bool Happens(double probability) { return faulty_ && probability > 0 && random_.Uniform() < probability; }
  void Fault(const std::string& kind) { ++result_.faults[kind]; }
  std::string NewId() { return absl::StrCat("id-", scenario_.seed, "-", ++next_id_); }
  void At(absl::Duration at, std::function<void()> task, bool background = false) {
    queue_.push_back(Event{at, next_event_++, background ? incarnation_ : 0, std::move(task)});
    std::push_heap(queue_.begin(), queue_.end());
  }
  template <typename... Parts>
  void Trace(const Parts&... parts) {
    // Numbers and texts, in order; printed only for people.
    (Mix(parts), ...);
    Mix(absl::ToInt64Nanoseconds(now()));
    if (print_) print_(absl::StrCat(absl::FormatDuration(now() - absl::Seconds(1000)), " ", Printable(parts)...));
  }
  void Violation(std::string what) {
    Trace("VIOLATION ", what);
    result_.violations.push_back(std::move(what));
  }

  // One call. `invoke(coordinator, id, request, response, done)`; `answer` hears once.
  template <typename Request, typename Response, typename Invoke, typename Answer>
  void Call(Client& client, const char* name, Request request, absl::Duration timeout, Invoke invoke, Answer answer) {
    struct State {
      Request request;
      Answer answer;
      bool answered = false;
    };
    auto state = std::make_shared<State>(State{std::move(request), std::move(answer), false});
    const auto end = [state](const absl::Status& status, const Response& response) {
      if (std::exchange(state->answered, true)) return;
      state->answer(status, response);
    };
    const auto call = ++next_call_;
    At(now() + timeout, [this, state, end, call] {
      if (state->answered) return;
      // The coordinator hears of it, or does not.
      if (alive_ && !HalfOpen()) coordinator_->Cancelled(call);
      end(absl::UnavailableError("no answer in time"), Response());
    });
    const int copies = Happens(scenario_.doubled) ? 2 : 1;
    if (copies > 1) Fault("message doubled");
    for (int copy = 0; copy < copies; ++copy) {
      if (Lost(client.cut_to)) continue;
      At(now() + Delay(), [this, &client, state, end, invoke, name, id = copy == 0 ? call : ++next_call_] {
        if (!alive_) {
          if (!Lost(client.cut_from)) At(now() + Delay(), [end] { end(absl::UnavailableError("connection refused"), Response()); });
          return;
        }
        Trace(name, " of ", client.partition());
        auto response = std::make_shared<Response>();
        connections_.push_back([this, &client, end] {
          if (!Lost(client.cut_from) && !HalfOpen()) At(now() + Delay(), [end] { end(absl::UnavailableError("connection reset"), Response()); });
        });
        invoke(*coordinator_, id, state->request, response.get(), [this, &client, state, end, response, name, incarnation = incarnation_](const absl::Status& status) {
          if (!alive_ || incarnation != incarnation_) return;
          Trace(name, " of ", client.partition(), " answered ", static_cast<int64_t>(status.code()));
          if constexpr (std::is_same_v<Response, v1::ReportResponse>) {
            if (status.ok()) NoteVerdict(state->request.attempt_id(), *response);
          }
          if constexpr (std::is_same_v<Response, v1::WaitForWorkResponse>) {
            if (status.ok() && response->has_train()) NoteAsked(response->train().attempt_id());
          }
          if (Lost(client.cut_from)) return;
          At(now() + Delay(), [end, response, status] { end(status, *response); });
        });
      });
    }
  }

  // A stream of pieces from `offset` on. `answer` hears once.
  void Upload(Client& client, v1::UploadHeader header, std::string bytes, std::function<void(const absl::Status&)> answer);

  // What an attempt that was told to a client came to must be known for ever after.
  void NoteIssued(const std::string& attempt, int64_t partition) { issued_[attempt] = partition; }
  void NoteSpoilt(const std::string& attempt) { spoilt_.insert(attempt); }
  void NoteReported(const std::string& attempt) {
    if (alive_ && reported_.insert(attempt).second) ++result_.uploads;
  }
  std::string AnyIssued() {
    if (issued_.empty()) return "";
    auto it = issued_.begin();
    std::advance(it, static_cast<int64_t>(random_.Below(issued_.size())));
    return it->first;
  }

 private:
  struct Event {
    absl::Duration at;
    int64_t order = 0, incarnation = 0;  // 0: of the world
    std::function<void()> task;
    bool operator<(const Event& other) const { return std::pair(at, order) > std::pair(other.at, other.order); }
  };
  struct Stream {
    Coordinator::UploadStream stream;
    std::function<void(const absl::Status&)> answer;
  };

  static int64_t Printable(int64_t number) { return number; }
  static std::string Printable(std::string_view text) { return std::string(text); }
  void Mix(int64_t number) { trace_ = (trace_ ^ static_cast<uint64_t>(number)) * 0x9e3779b97f4a7c15u, trace_ ^= trace_ >> 29; }
  void Mix(std::string_view text) { Mix(static_cast<int64_t>(HashOf(text))); }

  bool Lost(bool cut) {
    if (faulty_ && cut) return Fault("message cut off"), true;
    if (Happens(scenario_.lost)) return Fault("message lost"), true;
    return false;
  }
  bool HalfOpen() {
    if (Happens(scenario_.half_open)) return Fault("connection half open"), true;
    return false;
  }
  absl::Duration Between(absl::Duration least, absl::Duration most) { return least + (most - least) * random_.Uniform(); }
  absl::Duration Delay() {
    absl::Duration delay = Between(absl::Milliseconds(1), scenario_.longest_delay);
    if (Happens(scenario_.delayed)) {
      Fault("message delayed");
      delay += Between(absl::ZeroDuration(), scenario_.longest_extra_delay);
    }
    return delay;
  }

  void SendPiece(Client& client, int64_t id, std::string bytes, int64_t offset, bool trickle);
  void EndStream(int64_t id, const absl::Status& status, bool told);

  int Pass(std::string_view name, std::string_view what);
  void Change();
  void Die(std::string_view why);
  void StartCoordinator();
  void TearDown(Loss loss);
  void Reset();
  void CheckFaults();
  void Schedule(double per_hour, std::function<void()> event);
  void NoteVerdict(const std::string& attempt, const v1::ReportResponse& response);
  void NoteAsked(const std::string& attempt);
  void NoteRound(const RoundRecord& record);
  void CheckEnd();

  const Scenario scenario_;
  const std::function<void(const std::string&)>& print_;
  Random random_;
  SimulatedClock clock_;
  SimulatedDisk disk_;
  uint64_t trace_ = 0;
  SimulationResult result_;
  std::vector<Event> queue_;
  int64_t next_event_ = 0, next_call_ = 0, next_id_ = 0, next_stream_ = 0;
  std::vector<std::unique_ptr<Client>> clients_;

  bool faulty_ = true, over_ = false;
  absl::Duration quiet_since_;
  // The coordinator that lives, if one does.
  int64_t incarnation_ = 1;  // counts starts
  bool alive_ = false, after_crash_ = false;
  bool creating_ = false;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<ServerOptions> options_;
  std::unique_ptr<Coordinator> coordinator_;
  std::vector<std::function<void()>> connections_;
  std::map<int64_t, Stream> streams_;
  std::optional<CrashAt> crash_;  // that waits for it
  int64_t passages_ = 0;
  int64_t disk_faults_at_start_ = 0;
  std::optional<std::pair<std::string, int64_t>> flip_;  // that has not been found
  size_t crashes_used_ = 0;

  // What was promised.
  std::map<std::string, int64_t> issued_, acknowledged_;
  std::set<std::string> refused_, spoilt_, reported_;
  int64_t last_round_ = 0;  // that the coordinator spoke of as over
};

// ---- Clients.

Client::Client(World* world, int64_t partition, bool inline_updates, uint64_t seed)
    : world_(world), partition_(partition), inline_updates_(inline_updates), random_(seed), backoff_(absl::Milliseconds(200), absl::Seconds(10), seed + 1) {}

template <typename Task>
void Client::Later(absl::Duration after, Task task) {
  world_->At(world_->now() + after, [this, life = life_, task = std::move(task)] {
    if (life == life_) task();
  });
}

void Client::Again(void (Client::*step)()) {
  Later(backoff_.Next(), [this, step] { (this->*step)(); });
}

void Client::Die() {
  ++life_;
  Forget();
  session_.clear();
  check_in_.clear();
  Later(absl::Seconds(1) + absl::Seconds(59) * random_.Uniform(), [this] { CheckIn(); });
}

void Client::Forget() {
  attempt_.clear();
  update_.clear();
  report_.reset();
}

void Client::NewSession() {
  session_.clear();
  check_in_.clear();
  CheckIn();
}

void Client::CheckIn() {
  if (check_in_.empty()) check_in_ = world_->NewId();
  v1::CheckInRequest request;
  request.set_request_id(check_in_);
  request.set_client_id(absl::StrCat("client-", partition_));
  request.set_partition_index(partition_);
  request.set_partition_count(world_->scenario().clients);
  request.mutable_protocol()->set_min_version(1);
  request.mutable_protocol()->set_max_version(1);
  request.mutable_capabilities()->set_evaluation_example_count(5);
  world_->Call<v1::CheckInRequest, v1::CheckInResponse>(
      *this, "CheckIn", std::move(request), kCallTimeout,
      [](Coordinator& coordinator, CallId, const v1::CheckInRequest& request, v1::CheckInResponse* response, Done done) {
        coordinator.CheckIn(Peer{.role = Peer::Role::kInsecure}, request, response, done);
      },
      [this, life = life_](const absl::Status& status, const v1::CheckInResponse& response) {
        if (life != life_) return;
        if (!status.ok()) return Again(&Client::CheckIn);
        if (!response.has_accepted()) {
          check_in_.clear();
          return Later(absl::Seconds(2) + absl::Seconds(3) * random_.Uniform(), [this] { CheckIn(); });
        }
        backoff_.Reset();
        session_ = response.accepted().session_id();
        // A report whose answer was lost is worth another question, whoever asks now.
        if (report_ && random_.Below(2) == 0) {
          report_->set_session_id(session_);
          return Report();
        }
        Forget();
        Wait();
      });
}

void Client::Wait() {
  v1::WaitForWorkRequest request;
  request.set_session_id(session_);
  world_->Call<v1::WaitForWorkRequest, v1::WaitForWorkResponse>(
      *this, "WaitForWork", std::move(request), absl::Seconds(40),
      [](Coordinator& coordinator, CallId id, const v1::WaitForWorkRequest& request, v1::WaitForWorkResponse* response, Done done) {
        coordinator.WaitForWork(id, request, response, std::move(done));
      },
      [this, life = life_](const absl::Status& status, const v1::WaitForWorkResponse& response) {
        if (life != life_ || !attempt_.empty()) return;
        if (absl::IsNotFound(status)) return NewSession();
        if (!status.ok()) return Again(&Client::Wait);
        backoff_.Reset();
        TakeWork(response);
      });
}

void Client::TakeWork(const v1::WaitForWorkResponse& work) {
  if (work.has_train()) return Train(work.train());
  if (work.has_finished()) return Later(absl::Seconds(20), [this] { NewSession(); });
  if (work.has_evaluate()) {
    v1::ReportEvaluationRequest request;
    request.set_session_id(session_);
    request.set_attempt_id(work.evaluate().attempt_id());
    request.set_request_id(world_->NewId());
    request.mutable_completed()->set_example_count(5);
    request.mutable_completed()->set_mean_loss(1.25);
    request.mutable_completed()->set_accuracy(0.5);
    world_->Call<v1::ReportEvaluationRequest, v1::ReportEvaluationResponse>(
        *this, "ReportEvaluation", std::move(request), kCallTimeout,
        [](Coordinator& coordinator, CallId, const v1::ReportEvaluationRequest& request, v1::ReportEvaluationResponse* response, Done done) {
          coordinator.ReportEvaluation(request, response, done);
        },
        [](const absl::Status&, const v1::ReportEvaluationResponse&) {});
    return Later(absl::Seconds(1), [this] { Wait(); });
  }
  Wait();
}

void Client::Train(const v1::TrainAssignment& assignment) {
  attempt_ = assignment.attempt_id();
  round_ = assignment.round();
  world_->NoteIssued(attempt_, partition_);
  const absl::Duration takes = world_->scenario().longest_training * random_.Uniform();
  Later(absl::Seconds(2), [this, attempt = attempt_] { Watch(attempt); });
  Later(takes, [this, attempt = attempt_] {
    if (attempt == attempt_ && !report_) Trained();
  });
}

void Client::Watch(const std::string& attempt) {
  if (attempt != attempt_ || report_) return;
  v1::WaitForWorkRequest request;
  request.set_session_id(session_);
  request.set_current_attempt_id(attempt);
  world_->Call<v1::WaitForWorkRequest, v1::WaitForWorkResponse>(
      *this, "Watch", std::move(request), absl::Seconds(40),
      [](Coordinator& coordinator, CallId id, const v1::WaitForWorkRequest& request, v1::WaitForWorkResponse* response, Done done) {
        coordinator.WaitForWork(id, request, response, std::move(done));
      },
      [this, life = life_, attempt](const absl::Status& status, const v1::WaitForWorkResponse& response) {
        if (life != life_ || attempt != attempt_ || report_) return;
        if (absl::IsNotFound(status)) {
          Forget();
          return NewSession();
        }
        if (status.ok() && response.has_cancel()) {
          Forget();
          return Wait();
        }
        Later(status.ok() ? absl::ZeroDuration() : absl::Seconds(1), [this, attempt] { Watch(attempt); });
      });
}

v1::ReportRequest Client::MakeReport() {
  const struct Trained trained = TrainedBy(attempt_, world_->scenario().same_work);
  update_ = trained.container;
  v1::ReportRequest report;
  report.set_session_id(session_);
  report.set_attempt_id(attempt_);
  report.set_request_id(world_->NewId());
  report.mutable_completed()->set_example_count(trained.example_count);
  report.mutable_completed()->set_step_count(1);
  report.mutable_completed()->set_mean_loss(1.5);
  PhaseSpan span;
  span.phase = Phase::kTrain;
  span.wall = absl::Milliseconds(1);
  span.energy.energy = span.energy.low = span.energy.high = trained.energy;
  span.energy.tier = EnergyTier::kComponent;
  span.energy.source = "rapl";
  span.energy.domain = "package-0";
  span.energy.window = span.wall;
  *report.mutable_phases() = ToProto(std::vector<PhaseSpan>{span});
  return report;
}

void Client::Spoil(v1::ReportRequest& report) {
  world_->Fault("hostile report");
  world_->NoteSpoilt(attempt_);
  std::vector<float> values(static_cast<size_t>(Layout().value_count()), 0.5f);
  switch (random_.Below(8)) {
    case 0: values[3] = std::numeric_limits<float>::quiet_NaN(); update_ = Container(values, Layout().digest()); break;
    case 1: update_ = Container(values, Sha256("another layout")); break;
    case 2: values.pop_back(); update_ = Container(values, Layout().digest()); break;
    case 3: update_ = "not a container at all"; break;
    case 4: update_.resize(update_.size() / 2); break;
    case 5: update_[update_.size() - 1] = static_cast<char>(update_[update_.size() - 1] ^ 1); break;
    case 6: update_ = Container(values, Layout().digest(), "int8"); break;
    default: report.mutable_completed()->set_example_count(random_.Below(2) == 0 ? 0 : int64_t{1} << 40); break;
  }
}

void Client::Trained() {
  v1::ReportRequest report = MakeReport();
  if (world_->Happens(world_->scenario().hostile)) Spoil(report);
  if (inline_updates_) {
    report.mutable_completed()->set_inline_update(update_);
    report_ = std::move(report);
    return Report();
  }
  report.mutable_completed()->set_payload_sha256(Sha256(update_).Raw());
  report_ = std::move(report);
  AskUpload();
}

void Client::AskUpload() {
  if (!report_) return;
  v1::QueryUploadRequest request;
  request.set_session_id(session_);
  request.set_attempt_id(attempt_);
  world_->Call<v1::QueryUploadRequest, v1::QueryUploadResponse>(
      *this, "QueryUpload", std::move(request), kCallTimeout,
      [](Coordinator& coordinator, CallId, const v1::QueryUploadRequest& request, v1::QueryUploadResponse* response, Done done) {
        coordinator.QueryUpload(request, response, done);
      },
      [this, life = life_](const absl::Status& status, const v1::QueryUploadResponse& response) {
        if (life != life_ || !report_) return;
        if (absl::IsNotFound(status)) return NewSession();
        if (RejectionOf(status)) return Report();  // its end is known, and the report will hear of it
        if (!status.ok()) return Again(&Client::AskUpload);
        if (response.received_bytes() >= static_cast<int64_t>(update_.size())) return Report();
        SendUpload(response.received_bytes());
      });
}

void Client::SendUpload(int64_t offset) {
  v1::UploadHeader header;
  header.set_session_id(session_);
  header.set_attempt_id(attempt_);
  header.set_total_bytes(static_cast<int64_t>(update_.size()));
  header.set_sha256(Sha256(update_).Raw());
  header.set_offset_bytes(offset);
  world_->Upload(*this, std::move(header), update_, [this, life = life_](const absl::Status& status) {
    if (life != life_ || !report_) return;
    if (absl::IsNotFound(status)) return NewSession();
    if (status.ok() || absl::IsAborted(status)) return Report();
    Again(&Client::AskUpload);
  });
}

void Client::Report() {
  if (!report_) return;
  world_->Call<v1::ReportRequest, v1::ReportResponse>(
      *this, "Report", *report_, absl::Seconds(30),
      [world = world_](Coordinator& coordinator, CallId id, const v1::ReportRequest& request, v1::ReportResponse* response, Done done) {
        world->NoteReported(request.attempt_id());
        coordinator.Report(id, request, response, std::move(done));
      },
      [this, life = life_](const absl::Status& status, const v1::ReportResponse& response) {
        if (life != life_ || !report_) return;
        TakeVerdict(status, response);
      });
}

void Client::TakeVerdict(const absl::Status& status, const v1::ReportResponse& response) {
  if (absl::IsNotFound(status)) return NewSession();
  // What was uploaded is not there any more.
  if (absl::IsFailedPrecondition(status) && !inline_updates_) return Again(&Client::AskUpload);
  if (absl::IsInvalidArgument(status)) {
    Forget();
    return Wait();
  }
  if (!status.ok()) return Again(&Client::Report);
  backoff_.Reset();
  if (world_->Happens(world_->scenario().repeats)) {
    world_->Fault("report repeated");
    v1::ReportRequest repeated = *report_;
    const bool other_bytes = random_.Below(4) == 0;
    if (random_.Below(2) == 0 || other_bytes) repeated.set_request_id(world_->NewId());
    if (other_bytes) {
      repeated.mutable_completed()->clear_payload_sha256();
      repeated.mutable_completed()->set_inline_update(TrainedBy(attempt_ + " otherwise", /*same_work=*/false).container);
    }
    Later(absl::Seconds(300) * random_.Uniform() * random_.Uniform(), [this, repeated = std::move(repeated), other_bytes] { Repeat(repeated, other_bytes); });
  }
  Forget();
  Wait();
}

void Client::Repeat(const v1::ReportRequest& report, bool other_bytes) {
  v1::ReportRequest request = report;
  request.set_session_id(session_);
  world_->Call<v1::ReportRequest, v1::ReportResponse>(
      *this, other_bytes ? "Conflict" : "Repeat", std::move(request), absl::Seconds(30),
      [](Coordinator& coordinator, CallId id, const v1::ReportRequest& request, v1::ReportResponse* response, Done done) {
        coordinator.Report(id, request, response, std::move(done));
      },
      [](const absl::Status&, const v1::ReportResponse&) {});
}

// ---- Uploads.

void World::Upload(Client& client, v1::UploadHeader header, std::string bytes, std::function<void(const absl::Status&)> answer) {
  const int64_t id = ++next_stream_;
  const bool trickle = Happens(scenario_.trickle);
  if (trickle) Fault("trickle");
  auto told = std::make_shared<bool>(false);
  auto once = [told, answer = std::move(answer)](const absl::Status& status) {
    if (!std::exchange(*told, true)) answer(status);
  };
  At(now() + absl::Minutes(2), [once] { once(absl::UnavailableError("no answer in time")); });
  if (Lost(client.cut_to)) return;
  At(now() + Delay(), [this, &client, id, header = std::move(header), bytes = std::move(bytes), once = std::move(once), trickle] {
    if (!alive_) return At(now() + Delay(), [once] { once(absl::UnavailableError("connection refused")); });
    absl::StatusOr<Coordinator::UploadStream> stream = coordinator_->OpenUpload(header);
    Trace("Upload of ", client.partition(), " opened ", static_cast<int64_t>(stream.status().code()));
    if (!stream.ok()) return At(now() + Delay(), [once, status = stream.status()] { once(status); });
    streams_.emplace(id, Stream{*std::move(stream), once});
    connections_.push_back([this, &client, once] {
      if (!Lost(client.cut_from) && !HalfOpen()) At(now() + Delay(), [once] { once(absl::UnavailableError("connection reset")); });
    });
    SendPiece(client, id, bytes, header.offset_bytes(), trickle);
  });
}

void World::SendPiece(Client& client, int64_t id, std::string bytes, int64_t offset, bool trickle) {
  At(now() + (trickle ? absl::Seconds(1) : absl::Milliseconds(1)), [this, &client, id, bytes = std::move(bytes), offset, trickle] {
    auto stream = streams_.find(id);
    if (stream == streams_.end()) return;  // its coordinator is gone
    if (Happens(scenario_.cut_stream) || (faulty_ && client.cut_to)) {
      Fault("stream cut");
      // The coordinator notices, if only when its keepalive is not answered.
      At(now() + Between(absl::ZeroDuration(), absl::Seconds(30)), [this, id] { EndStream(id, absl::CancelledError("the client hung up"), /*told=*/false); });
      return At(now() + Delay(), [answer = stream->second.answer] { answer(absl::UnavailableError("connection reset")); });
    }
    const int64_t size = std::min<int64_t>(static_cast<int64_t>(bytes.size()) - offset, 48);
    std::string piece = bytes.substr(static_cast<size_t>(offset), static_cast<size_t>(size));
    const int64_t crc = static_cast<int64_t>(Crc32c(piece));
    if (Happens(scenario_.corrupt_chunk)) {
      Fault("piece corrupt");
      piece[random_.Below(piece.size())] ^= 1;
    }
    const absl::Status added = stream->second.stream.upload->Append(stream->second.stream.stream, offset, piece, crc);
    if (!alive_) return;
    if (!added.ok() || offset + size == static_cast<int64_t>(bytes.size())) return EndStream(id, added, /*told=*/true);
    SendPiece(client, id, bytes, offset + size, trickle);
  });
}

void World::EndStream(int64_t id, const absl::Status& status, bool told) {
  auto node = streams_.extract(id);
  if (node.empty() || !alive_) return;
  Trace("Upload ended ", static_cast<int64_t>(status.code()));
  coordinator_->CloseUpload(node.mapped().stream, status);
  if (told) At(now() + Delay(), [answer = node.mapped().answer, status] { answer(status); });
}

// ---- The coordinator's life.

int World::Pass(std::string_view name, std::string_view what) {
  if (!alive_) return 0;
  ++result_.points[std::string(name)];
  if (!crash_ || crash_->point.empty() || (!faulty_ && scenario_.crashes.empty())) return 0;
  const size_t at = crash_->point.find('@');
  if (crash_->point.substr(0, at) != name) return 0;
  if (at != std::string::npos && what.find(crash_->point.substr(at + 1)) == std::string_view::npos) return 0;
  if (++passages_ >= crash_->passage) Die(name);
  return 0;
}

void World::Change() {
  if (!alive_ || !crash_ || !crash_->point.empty() || !faulty_) return;
  if (++passages_ >= crash_->passage) Die("a change of the disk");
}

void World::Die(std::string_view why) {
  if (!alive_) return;
  Trace("crash: ", why);
  alive_ = false;
  disk_.Crash();
  ++result_.crashes;
  Fault("crash");
}

constexpr const char* kPoints[] = {"upload_opened",        "upload_chunk_written", "upload_hashing", "report_taken",     "folding",           "update_folded",   "update_synced",
                                   "update_folder_synced", "journal_half_written", "journal_appended", "journal_synced", "update_acknowledged", "round_closed",  "model_stepped",
                                   "round_publishing",     "file_half_written",    "file_renamed",   "database_committing", "round_committed", "round_cleared",   "recovering", "round_resumed"};

void World::StartCoordinator() {
  crash_.reset();
  passages_ = 0;
  if (!scenario_.crashes.empty()) {
    if (crashes_used_ < scenario_.crashes.size()) crash_ = scenario_.crashes[crashes_used_++];
  } else if (after_crash_ && Happens(scenario_.crash_while_recovering)) {
    crash_ = random_.Below(3) == 0 ? CrashAt{random_.Below(2) == 0 ? "recovering" : "round_resumed", 1} : CrashAt{"", 1 + static_cast<int64_t>(random_.Below(30))};
  } else if (Happens(scenario_.crash_at_point)) {
    crash_ = random_.Below(3) == 0 ? CrashAt{"", 1 + static_cast<int64_t>(random_.Below(400))} : CrashAt{kPoints[random_.Below(std::size(kPoints))], 1 + static_cast<int64_t>(random_.Below(12))};
  }
  after_crash_ = false;
  ++result_.starts;
  loop_ = std::make_unique<Loop>(&clock_);
  options_ = std::make_unique<ServerOptions>();
  ServerOptions& options = *options_;
  options.insecure = true;
  options.out_directory = kOut;
  options.engine.run_id = "run";
  options.engine.seed = scenario_.seed;
  options.engine.rounds = scenario_.rounds;
  options.engine.clients_per_round = scenario_.clients_per_round;
  options.engine.wait_for_clients = scenario_.clients;
  options.engine.quorum = scenario_.quorum;
  options.engine.over_selection = scenario_.over_selection;
  options.engine.deadline = scenario_.deadline;
  if (scenario_.budget) {
    options.engine.budget.federation = Joules(1e9);
    options.engine.budget.max_power = Watts(20);
  }
  options.model = ModelOptions(scenario_.clients);
  options.initial_model = InitialModel();
  options.federated_evaluation = scenario_.federated_evaluation;
  options.federated_evaluation_timeout = absl::Seconds(5);
  options.durability = scenario_.durability;
  options.journaled_update_bytes = scenario_.journaled_update_bytes;
  options.fold_threads = 2;
  options.clock = &clock_;
  options.disk = &disk_;
  options.background = [this](absl::Duration after, std::function<void()> task) {
    absl::Duration delay = Between(absl::ZeroDuration(), absl::Milliseconds(20));
    if (Happens(scenario_.slow_worker)) {
      Fault("slow worker");
      delay += Between(absl::ZeroDuration(), absl::Seconds(2));
    }
    At(now() + after + delay, std::move(task), /*background=*/true);
  };
  options.new_session_id = [this] { return NewId(); };
  options.on_round = [this](const RoundRecord& record) { NoteRound(record); };
  if (print_) options.log = [this](LogLevel, std::string_view message) { print_(absl::StrCat("    ", std::string(message))); };
  disk_faults_at_start_ = disk_.fault_count();
  alive_ = true;
  Trace("start ", incarnation_);
  absl::StatusOr<std::unique_ptr<Coordinator>> made = Coordinator::Create(&options, loop_.get(), nullptr);
  if (!made.ok()) {
    made = absl::StatusOr<std::unique_ptr<Coordinator>>(made.status());
    if (!alive_) return TearDown(scenario_.losses[random_.Below(scenario_.losses.size())]);
    Trace("does not start ", static_cast<int64_t>(made.status().code()), " ", std::string(made.status().message()));
    alive_ = false;
    if (flip_ && absl::IsDataLoss(made.status())) {
      // Named, as it should be: an operator restores the file.
      if (!absl::StrContains(std::string(made.status().message()), flip_->first)) Violation(absl::StrCat("P7: damage in ", flip_->first, " is named as: ", made.status().ToString()));
      disk_.FlipBit(flip_->first, flip_->second);
      flip_.reset();
    } else if (scenario_.sync_lies > 0 && absl::IsDataLoss(made.status())) {
      over_ = true;  // a disk that lies has lost what cannot be had again, and that is said
      return;
    } else if (disk_.fault_count() == disk_faults_at_start_) {
      Violation(absl::StrCat("P4: the coordinator does not start: ", made.status().ToString()));
      over_ = true;
      return;
    }
    ++result_.exits;
    return TearDown(Loss::kNothing);
  }
  coordinator_ = *std::move(made);
  if (!alive_) return;
  coordinator_->Start();
  if (!alive_) return;
  // The same round goes on, or the one after a round that ended as it crashed.
  const int64_t round = coordinator_->Snapshot().round.round;
  Trace("serves from round ", round);
  if (scenario_.sync_lies == 0 && !coordinator_->finished() && (round < last_round_ + 1 || round > last_round_ + 2)) {
    Violation(absl::StrCat("P4: starts with round ", round, " after round ", last_round_, " had ended"));
  }
  if (scenario_.sync_lies == 0 && round - 1 > last_round_) {
    // It was durable, and nobody had been told.
    ++result_.rounds;
    last_round_ = round - 1;
  }
}

void World::Reset() {
  streams_.clear();
  coordinator_.reset();
  loop_.reset();
  options_.reset();
}

void World::TearDown(Loss loss) {
  Reset();
  ++incarnation_;
  for (const std::function<void()>& reset : std::exchange(connections_, {})) reset();
  Trace("left on disk: all but ", LossName(loss));
  disk_.Restart(loss);
  if (Happens(scenario_.flips) && !flip_) {
    std::vector<std::string> files = disk_.Files();
    std::erase_if(files, [](const std::string& file) { return !absl::EndsWith(file, ".journal") && !absl::EndsWith(file, ".state") && !absl::EndsWith(file, ".part"); });
    if (!files.empty()) {
      const std::string& file = files[random_.Below(files.size())];
      const int64_t bit = static_cast<int64_t>(random_.Below(static_cast<uint64_t>(std::max<int64_t>(8 * disk_.FileSize(file), 1))));
      if (disk_.FlipBit(file, bit)) {
        Fault("bit flipped");
        Trace("bit ", bit, " of ", file, " flips");
        flip_.emplace(file, bit);
      }
    }
  }
  after_crash_ = true;
  At(now() + Between(absl::Milliseconds(100), absl::Seconds(10)), [this] { StartCoordinator(); });
}

void World::Schedule(double per_hour, std::function<void()> event) {
  if (per_hour <= 0) return;
  // Exponential: instants do not know of each other.
  At(now() - absl::Hours(1) / per_hour * std::log(1 - random_.Uniform()), [this, per_hour, event = std::move(event)] {
    if (!faulty_) return;
    event();
    Schedule(per_hour, event);
  });
}

void World::CheckFaults() {
  if (!faulty_ || (now() < absl::Seconds(1000) + scenario_.faults_until && last_round_ < scenario_.faults_until_round)) return;
  Trace("the faults stop");
  faulty_ = false;
  quiet_since_ = now();
  disk_.faults = {};
}

void World::NoteRound(const RoundRecord& record) {
  if (!alive_) return;
  Trace(record.committed ? "committed round " : "abandoned round ", record.round, " of ", record.clients_completed);
  ++result_.rounds;
  if (scenario_.sync_lies == 0 && record.round <= last_round_) Violation(absl::StrCat("P3: round ", record.round, " ends a second time"));
  last_round_ = record.round;
}

// What is over is not asked for again.
void World::NoteAsked(const std::string& attempt) {
  if (scenario_.durability != "update" || scenario_.sync_lies > 0) return;
  if (acknowledged_.contains(attempt)) Violation(absl::StrCat("P1: ", attempt, " is asked for again, after it was acknowledged"));
  if (refused_.contains(attempt)) Violation(absl::StrCat("P4: ", attempt, " is asked for again, after it was refused"));
}

void World::NoteVerdict(const std::string& attempt, const v1::ReportResponse& response) {
  const auto issued = issued_.find(attempt);
  const auto accept = [&](int64_t round) {
    if (spoilt_.contains(attempt)) Violation(absl::StrCat("P5: ", attempt, " is accepted, though its bytes are bad"));
    if (refused_.contains(attempt)) Violation(absl::StrCat("P1: ", attempt, " is accepted, after it was refused"));
    auto [known, fresh] = acknowledged_.emplace(attempt, round);
    if (!fresh && known->second != round) Violation(absl::StrCat("P2: ", attempt, " counts in round ", round, ", and was said to count in ", known->second));
  };
  const auto refuse = [&](std::string_view how) {
    if (acknowledged_.contains(attempt) && scenario_.durability == "update" && scenario_.sync_lies == 0) {
      Violation(absl::StrCat("P1: ", attempt, " is ", std::string(how), ", after it was acknowledged for round ", acknowledged_[attempt]));
    }
  };
  if (response.has_accepted()) {
    Trace("accepted ", attempt, " for ", response.accepted().round());
    accept(response.accepted().round());
  } else if (response.has_duplicate()) {
    if (response.duplicate().accepted()) {
      accept(response.duplicate().round());
    } else {
      refuse("not counted");
    }
  } else if (response.has_late() || response.has_rejected()) {
    const bool unknown = response.has_rejected() && response.rejected().reason() == v1::REJECTION_REASON_UNKNOWN_ATTEMPT;
    if (unknown && issued != issued_.end() && scenario_.durability == "update" && scenario_.sync_lies == 0) Violation(absl::StrCat("P4: ", attempt, " is not known any more"));
    Trace("refused ", attempt);
    // Where bytes arrive spoilt four times, or cannot be read back, the client bears it.
    static constexpr v1::RejectionReason kOfBytes[] = {v1::REJECTION_REASON_GARBAGE,    v1::REJECTION_REASON_TRUNCATED,       v1::REJECTION_REASON_OVERSIZE,  v1::REJECTION_REASON_WRONG_LAYOUT,
                                                       v1::REJECTION_REASON_WRONG_CODEC, v1::REJECTION_REASON_VALUE_TOO_LARGE, v1::REJECTION_REASON_NOT_FINITE, v1::REJECTION_REASON_BAD_WEIGHT};
    const auto reason = response.rejected().reason();
    if (response.has_rejected() && !spoilt_.contains(attempt) && scenario_.read_fails == 0 && std::find(std::begin(kOfBytes), std::end(kOfBytes), reason) != std::end(kOfBytes)) {
      Violation(absl::StrCat("P1: ", attempt, " is good, and refused: ", response.rejected().message()));
    }
    refuse(response.has_late() ? "late" : "rejected");
    if (!unknown) refused_.insert(attempt);
  }
}

SimulationResult World::Run() {
  disk_.faults = {scenario_.sync_fails, scenario_.sync_lies, scenario_.read_fails, scenario_.short_write, false};
  Schedule(scenario_.crashes_per_hour, [this] { Die("kill -9"); });
  Schedule(scenario_.clock_jumps_per_hour, [this] {
    Fault("clock jump");
    clock_.Jump(absl::Hours(24) * (2 * random_.Uniform() - 1));
  });
  Schedule(scenario_.full_per_hour, [this] {
    if (disk_.faults.full) return;
    disk_.faults.full = true;
    Fault("disk full");
    At(now() + Between(absl::Milliseconds(100), absl::Seconds(20)), [this] { disk_.faults.full = false; });
  });
  for (const std::unique_ptr<Client>& client : clients_) {
    Client* one = client.get();
    At(now() + Between(absl::ZeroDuration(), absl::Seconds(2)), [one] { one->Start(); });
    Schedule(scenario_.deaths_per_hour, [this, one] {
      Fault("client dies");
      Trace("client ", one->partition(), " dies");
      one->Die();
    });
    Schedule(scenario_.partitions_per_hour, [this, one] {
      Fault("partition");
      const uint64_t ways = random_.Below(3);
      one->cut_to = ways != 1;
      one->cut_from = ways != 0;
      At(now() + Between(absl::Milliseconds(100), absl::Seconds(40)), [one] { one->cut_to = one->cut_from = false; });
    });
  }
  StartCoordinator();
  while (!over_) {
    const std::optional<absl::Duration> due = alive_ ? loop_->NextDue() : std::nullopt;
    FEDWATT_CHECK(!queue_.empty());
    const absl::Duration next = std::min(due.value_or(absl::InfiniteDuration()), queue_.front().at);
    clock_.AdvanceTo(next);
    if (now() > absl::Seconds(1000) + kLimit || (!faulty_ && now() > quiet_since_ + absl::Hours(1))) {
      Violation(absl::StrCat("liveness: round ", last_round_ + 1, " does not end, though the faults have stopped"));
      break;
    }
    if (due && *due <= now()) {
      loop_->RunOnce(absl::ZeroDuration());
    } else {
      std::pop_heap(queue_.begin(), queue_.end());
      Event event = std::move(queue_.back());
      queue_.pop_back();
      if (event.incarnation == 0 || event.incarnation == incarnation_) event.task();
    }
    CheckFaults();
    if (over_) break;
    if (coordinator_ != nullptr && !alive_) {
      TearDown(scenario_.losses[random_.Below(scenario_.losses.size())]);
    } else if (coordinator_ != nullptr && coordinator_->finished()) {
      const RunOutcome outcome = coordinator_->Close();
      if (!alive_) continue;
      Trace("the run ends: ", outcome.reason);
      if (outcome.status.ok()) {
        alive_ = false;
        over_ = true;
      } else {
        const bool excused = disk_.fault_count() > disk_faults_at_start_ || flip_ || scenario_.sync_lies > 0;
        if (!excused || absl::IsResourceExhausted(outcome.status)) Violation(absl::StrCat("P5: the run ends, though nothing was wrong: ", outcome.status.ToString()));
        if (flip_ && absl::IsDataLoss(outcome.status) && absl::StrContains(std::string(outcome.status.message()), flip_->first)) {
          disk_.FlipBit(flip_->first, flip_->second);
          flip_.reset();
        }
        alive_ = false;
        ++result_.exits;
        TearDown(Loss::kNothing);
      }
    }
    if (!result_.violations.empty()) break;
  }
  alive_ = false;
  Reset();
  result_.simulated = now() - absl::Seconds(1000);
  if (result_.violations.empty()) CheckEnd();
  for (int i = 0; i < disk_.fault_count(); ++i) ++result_.faults["disk"];
  result_.trace = trace_;
  return std::move(result_);
}

// ---- What is on disk when all is over, and power is lost once more. Read without the coordinator's help.

// All rows of a query, columns as bytes.
std::vector<std::vector<std::string>> Rows(sqlite3* database, const char* sql) {
  std::vector<std::vector<std::string>> rows;
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(database, sql, -1, &statement, nullptr) != SQLITE_OK) return rows;
  while (sqlite3_step(statement) == SQLITE_ROW) {
    std::vector<std::string>& row = rows.emplace_back();
    for (int i = 0; i < sqlite3_column_count(statement); ++i) {
      const char* bytes = static_cast<const char*>(sqlite3_column_blob(statement, i));
      row.emplace_back(bytes == nullptr ? "" : std::string(bytes, static_cast<size_t>(sqlite3_column_bytes(statement, i))));
    }
  }
  sqlite3_finalize(statement);
  return rows;
}

void World::CheckEnd() {
  disk_.Crash();
  disk_.Restart(Loss::kNames);
  if (scenario_.sync_lies > 0) return;  // no more can be asked of such a disk
  sqlite3* database = nullptr;
  sqlite3_open_v2(absl::StrCat(kOut, "/state/fedwatt.db").c_str(), &database, SQLITE_OPEN_READWRITE, disk_.database_files());
  const std::vector<std::vector<std::string>> rounds = Rows(database, "SELECT round, committed, model_digest FROM rounds ORDER BY round");
  const std::vector<std::vector<std::string>> attempts = Rows(database, "SELECT ended FROM attempts ORDER BY round, attempt");
  const std::vector<std::vector<std::string>> accounts = Rows(database, "SELECT value FROM memory WHERE key = CAST('#accounts' AS BLOB)");
  sqlite3_close(database);
  if (static_cast<int64_t>(rounds.size()) != scenario_.rounds) return Violation(absl::StrCat("P3: ", rounds.size(), " rounds are on disk, expected ", scenario_.rounds));

  std::map<int64_t, std::vector<v1::EndedAttempt>> accepted;
  std::map<std::string, int64_t> counted;
  std::set<std::pair<int64_t, int64_t>> parts;
  for (const std::vector<std::string>& row : attempts) {
    v1::EndedAttempt ended;
    if (!ended.ParseFromString(row[0])) return Violation("P7: an attempt does not read");
    if (ended.outcome() != "accepted") continue;
    if (!counted.emplace(ended.attempt_id(), ended.round()).second || !parts.emplace(ended.round(), ended.partition_index()).second) {
      Violation(absl::StrCat("P2: ", ended.attempt_id(), " counts twice"));
    }
    if (spoilt_.contains(ended.attempt_id())) Violation(absl::StrCat("P5: ", ended.attempt_id(), " counts, though its bytes are bad"));
    if (refused_.contains(ended.attempt_id())) Violation(absl::StrCat("P1: ", ended.attempt_id(), " counts, though it was refused"));
    accepted[ended.round()].push_back(std::move(ended));
  }
  for (const auto& [attempt, round] : acknowledged_) {
    const auto found = counted.find(attempt);
    if (scenario_.durability != "update") continue;
    if (found == counted.end()) {
      Violation(absl::StrCat("P1: ", attempt, " was acknowledged for round ", round, ", and does not count"));
    } else if (found->second != round) {
      Violation(absl::StrCat("P2: ", attempt, " was acknowledged for round ", round, ", and counts in ", found->second));
    }
  }

  // The models, once more, from what counts.
  GlobalModelOptions options = ModelOptions(scenario_.clients);
  GlobalModel model = *GlobalModel::Create(std::move(options), InitialModel());
  FoldScratch scratch;
  Energy energy;
  for (const std::vector<std::string>& row : rounds) {
    const int64_t round = std::stoll(row[0]);
    const std::vector<v1::EndedAttempt>& updates = accepted[round];
    for (const v1::EndedAttempt& update : updates) energy = energy + TrainedBy(update.attempt_id(), scenario_.same_work).energy;
    if (row[1] != "1") continue;
    std::unique_ptr<Accumulator> sum = *model.NewAccumulator();
    for (const v1::EndedAttempt& update : updates) {
      const Trained trained = TrainedBy(update.attempt_id(), scenario_.same_work);
      const absl::Status folded = FoldUpdate(model.plan(), model.layout(), trained.container, trained.example_count, round, update.partition_index(), *sum, scratch);
      if (!folded.ok()) Violation(absl::StrCat("P3: ", update.attempt_id(), " does not add up: ", folded.ToString()));
    }
    absl::StatusOr<MeanDelta> mean = sum->Report();
    if (!mean.ok() || !model.Step(*mean, round).ok()) return Violation(absl::StrCat("P3: round ", round, " was committed without a sum"));
    ++result_.committed;
    result_.digests.push_back(model.published_digest().Hex());
    result_.accepted.push_back(updates.size());
    if (row[2] != result_.digests.back()) return Violation(absl::StrCat("P3: the model of round ", round, " is not the one that its ", updates.size(), " updates make"));
  }
  // What the budget says was spent is at least what the clients said of what counts.
  if (scenario_.budget) {
    Budget budget(BudgetOptions{.federation = Joules(1e9), .max_power = Watts(20)});
    if (accounts.size() != 1 || !budget.Restore(accounts[0][0]).ok()) {
      Violation("P6: the accounts do not read");
    } else if (budget.federation().spent() < energy.microjoules()) {
      Violation(absl::StrCat("P6: ", budget.federation().spent(), " uJ are said to be spent, and updates of ", energy.microjoules(), " uJ count"));
    }
  }
  // The record says the same of attempts.
  const std::string lines = ReadFile(absl::StrCat(kOut, "/clients.jsonl"), int64_t{1} << 30, disk_).value_or("");
  std::map<std::string, int64_t> said;
  for (absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
    if (!absl::StrContains(line, "\"outcome\":\"accepted\"")) continue;
    constexpr absl::string_view kKey = "\"attempt\":\"";
    const size_t begin = line.find(kKey) + kKey.size();
    ++said[std::string(line.substr(begin, line.find('"', begin) - begin))];
  }
  for (const auto& [attempt, round] : counted) {
    if (said[attempt] != 1) Violation(absl::StrCat("P2: ", attempt, " has ", said[attempt], " lines in clients.jsonl"));
  }
  if (said.size() != counted.size()) Violation(absl::StrCat("P1: clients.jsonl speaks of ", said.size(), " updates, and ", counted.size(), " count"));
}

}  // namespace

int64_t SimulationResult::fault_count() const {
  int64_t count = 0;
  for (const auto& [kind, times] : faults) count += times;
  return count;
}

SimulationResult Simulate(const Scenario& scenario, const std::function<void(const std::string& line)>& print) { return World(scenario, print).Run(); }

}  // namespace fedwatt::testing
