#include "fedwatt/client/client.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "attempt.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/pipeline.h"
#include "fedwatt/round/model_chain.h"
#include "fedwatt/rpc/chunks.h"
#include "fedwatt/rpc/conversion.h"
#include "state_directory.h"
#include "wait.h"

namespace fedwatt {
namespace {

using internal::AttemptRunner;
using internal::Bench;
using internal::Repeat;
using internal::Retrier;
using internal::Session;
using internal::Shared;
using internal::WaitFor;

constexpr int32_t kProtocolVersion = 1;
constexpr char kVersion[] = "0.1.0";
constexpr size_t kMaxNameBytes = 128;

absl::Status Validate(const ClientOptions& options) {
  auto refuse = [](auto... parts) { return absl::InvalidArgumentError(absl::StrCat(parts...)); };
  if (options.name.size() > kMaxNameBytes) return refuse("client name: at most ", kMaxNameBytes, " bytes, got ", options.name.size());
  if (options.partition_count < 1) return refuse("partition count: expected >= 1, got ", options.partition_count);
  if (options.partitions.empty()) return refuse("partitions: none given");
  std::set<int64_t> seen;
  for (const ClientPartition& partition : options.partitions) {
    if (partition.index < 0 || partition.index >= options.partition_count) {
      return refuse("partition: expected [0, ", options.partition_count, "), got ", partition.index);
    }
    if (!seen.insert(partition.index).second) return refuse("partition ", partition.index, " is given twice");
    if (partition.data.size() < 1) return refuse("partition ", partition.index, " has no examples");
  }
  if (!(options.held_out_fraction >= 0 && options.held_out_fraction < 1)) {
    return refuse("held-out fraction: expected [0, 1), got ", options.held_out_fraction);
  }
  if (!options.trainer_factory) return refuse("trainer factory: none given");
  if (options.max_parallel_attempts < 1) return refuse("parallel attempts: expected >= 1, got ", options.max_parallel_attempts);
  if (options.max_model_bytes < 1) return refuse("model limit: expected >= 1 byte, got ", options.max_model_bytes);
  for (absl::Duration span : {options.conditions_interval, options.backoff_base, options.backoff_cap, options.give_up_after, options.stall_timeout}) {
    if (span <= absl::ZeroDuration()) return refuse("intervals and timeouts: expected > 0, got ", absl::FormatDuration(span));
  }
  if (options.clock == nullptr) return refuse("clock: none given");
  return absl::OkStatus();
}

// One partition's life: check in, wait, work, until the run is over. Owned by one thread.
class Participant {
 public:
  Participant(Shared* shared, const ClientPartition* partition, const std::string* client_id, const MeterChoice* meters,
              std::string residual_path, std::string release_path, Ledger* ledger, uint64_t seed)
      : shared_(*shared), partition_(*partition), client_id_(*client_id), meters_(*meters), retrier_(shared->link.get(), shared->retry, seed),
        runner_(shared, partition, std::move(residual_path), std::move(release_path), ledger, seed + 1) {}

  absl::StatusOr<ClientSummary> Run(std::stop_token stop) {
    runner_.StartTime();
    absl::StatusOr<ClientSummary> summary = TakePart(stop);
    std::vector<PhaseSpan> phases = runner_.FinishTime(session_ ? &*session_ : nullptr);
    if (summary.ok()) summary->phases = std::move(phases);
    return summary;
  }

 private:
  absl::StatusOr<ClientSummary> TakePart(std::stop_token stop) {
    for (;;) {
      FEDWATT_RETURN_IF_ERROR(WaitForConditions(stop));
      runner_.EnterPhase(Phase::kInit);
      v1::CheckInResponse answer;
      const v1::CheckInRequest request = CheckInRequest();
      FEDWATT_RETURN_IF_ERROR(
          Repeat(retrier_, stop, [&] { return shared_.link->Call(&v1::Coordinator::Stub::CheckIn, request, &answer, stop); }));
      if (answer.has_accepted()) {
        FEDWATT_ASSIGN_OR_RETURN(bool finished, Serve(answer.accepted(), answer.retry(), stop));
        if (finished && !shared_.options.stay) return summary_;
        if (!finished) continue;  // the session is lost
      } else if (answer.refused().reason() == v1::REFUSAL_REASON_FINISHED) {
        if (!shared_.options.stay) {
          summary_.reason = answer.refused().message();
          return summary_;
        }
      } else if (answer.refused().reason() == v1::REFUSAL_REASON_BUSY || answer.refused().reason() == v1::REFUSAL_REASON_PARTITION_TAKEN) {
        shared_.Say(LogLevel::kInfo, absl::StrCat("not now: ", answer.refused().message()));
      } else {
        return absl::FailedPreconditionError(absl::StrCat("refused by the coordinator ", shared_.link->address(), ": ", answer.refused().message()));
      }
      runner_.EnterPhase(Phase::kIdleWait);
      // The floor keeps a coordinator without windows from being hammered.
      if (!WaitFor(std::max(retrier_.Draw(answer.retry().not_now()), shared_.retry.base), stop)) return absl::CancelledError("stopped");
    }
  }

  v1::CheckInRequest CheckInRequest() const {
    v1::CheckInRequest request;
    request.set_request_id(RandomId());
    request.set_client_id(client_id_);
    request.set_client_name(shared_.options.name);
    request.set_partition_index(partition_.index);
    request.set_partition_count(shared_.options.partition_count);
    v1::Capabilities& capabilities = *request.mutable_capabilities();
    for (const std::string& codec : StageNames()) capabilities.add_codecs(codec);
    capabilities.add_codecs(std::string(kChainStage));
    for (const std::string& architecture : shared_.options.architectures) capabilities.add_architectures(architecture);
    const MachineInfo machine = DescribeMachine();
    capabilities.set_core_count(machine.core_count);
    if (machine.memory_bytes) capabilities.set_memory_bytes(*machine.memory_bytes);
    capabilities.set_instruction_sets(machine.instruction_sets);
    capabilities.set_meter_name(meters_.meter ? std::string(meters_.meter->name()) : "");
    capabilities.set_meter_tier(ToProto(meters_.meter ? meters_.meter->tier() : EnergyTier::kMissing));
    const int64_t examples = partition_.data.size();
    // As SplitHeldOut does it; only the seed, which decides which ones, is not known yet.
    const double fraction = shared_.options.held_out_fraction;
    const int64_t held_out =
        fraction > 0 && examples >= 2 ? std::clamp<int64_t>(std::llround(fraction * static_cast<double>(examples)), 1, examples - 1) : 0;
    capabilities.set_example_count(examples - held_out);
    if (held_out > 0) capabilities.set_evaluation_example_count(held_out);
    capabilities.set_site(shared_.options.site);
    capabilities.set_client_version(kVersion);
    // Participants share one copy of the model; inside their assignments it would come once for each.
    capabilities.set_max_inline_model_bytes(shared_.options.partitions.size() == 1 ? std::min(kMaxInlineBytes, shared_.options.max_model_bytes) : 0);
    *request.mutable_energy_state() = internal::ToProto(shared_.State());
    request.mutable_protocol()->set_min_version(kProtocolVersion);
    request.mutable_protocol()->set_max_version(kProtocolVersion);
    return request;
  }

  absl::Status WaitForConditions(std::stop_token stop) {
    std::string last;
    for (;;) {
      std::optional<std::string> broken = BrokenRule(shared_.options.rules, shared_.State());
      if (!broken) return absl::OkStatus();
      if (*broken != last) shared_.Say(LogLevel::kInfo, absl::StrCat("resting: ", *broken));
      last = *broken;
      runner_.EnterPhase(Phase::kIdleWait);
      if (!WaitFor(shared_.options.conditions_interval, stop)) return absl::CancelledError("stopped");
    }
  }

  // True when the run is over, false when the session is lost.
  absl::StatusOr<bool> Serve(const v1::CheckInResponse::Accepted& accepted, const v1::RetryWindows& retry, std::stop_token stop) {
    absl::StatusOr<absl::Duration> hold = FromProto(accepted.hold_duration());
    const absl::Duration held = hold.ok() ? std::clamp(*hold, absl::Seconds(1), absl::Minutes(10)) : absl::Seconds(25);
    // Not told: a coordinator that wants the watch at once.
    absl::StatusOr<absl::Duration> watch_after = FromProto(accepted.watch_after_duration());
    const absl::Duration watched = std::clamp(watch_after.value_or(absl::ZeroDuration()), absl::ZeroDuration(), absl::Minutes(1));
    const int64_t most_inside = std::clamp<int64_t>(accepted.max_inline_update_bytes(), 0, kMaxInlineBytes);
    session_ = Session{accepted.session_id(), accepted.pseudonym(), accepted.run_id(), held, watched, most_inside, retry};
    const Session& session = *session_;
    shared_.Say(LogLevel::kInfo, absl::StrCat("partition ", partition_.index, " of ", shared_.options.partition_count, " is member ",
                                              session.pseudonym, " of run ", accepted.run_id()));
    if (absl::Status settled = runner_.SettleResidual(session, stop); !settled.ok()) {
      if (settled.code() == absl::StatusCode::kNotFound) return false;
      return settled;
    }
    while (true) {
      runner_.EnterPhase(Phase::kIdleWait);
      FEDWATT_RETURN_IF_ERROR(WaitForConditions(stop));
      v1::WaitForWorkRequest request;
      runner_.FillWaitRequest(request);
      request.set_session_id(session.id);
      *request.mutable_energy_state() = internal::ToProto(shared_.State());
      v1::WaitForWorkResponse response;
      absl::Status status = Repeat(retrier_, stop, [&] {
        absl::Status call = shared_.link->Call(&v1::Coordinator::Stub::WaitForWork, request, &response, stop, session.hold + absl::Seconds(10));
        // A call of ours that the coordinator has not seen end yet may replace this one once.
        return call.code() == absl::StatusCode::kAborted ? absl::UnavailableError(call.message()) : call;
      });
      if (status.ok()) {
        switch (response.work_case()) {
          case v1::WaitForWorkResponse::kTrain: status = runner_.Train(session, response.train(), stop, &summary_); break;
          case v1::WaitForWorkResponse::kEvaluate: status = runner_.Evaluate(session, response.evaluate(), stop, &summary_); break;
          case v1::WaitForWorkResponse::kFinished: return Finish(response.finished());
          case v1::WaitForWorkResponse::kWait:
          case v1::WaitForWorkResponse::kCancel:  // of an attempt that we dropped already
          case v1::WaitForWorkResponse::WORK_NOT_SET:
            if (!WaitFor(std::max(retrier_.Draw(session.retry.accepted()), absl::Milliseconds(20)), stop)) return absl::CancelledError("stopped");
            break;
        }
      }
      if (runner_.finished().has_value()) return Finish(*runner_.finished());
      if (status.code() == absl::StatusCode::kNotFound) {
        shared_.Say(LogLevel::kInfo, "the coordinator does not know this session any more; checking in again");
        return false;
      }
      FEDWATT_RETURN_IF_ERROR(status);
    }
  }

  bool Finish(const v1::Finished& finished) {
    summary_.reason = finished.reason();
    summary_.succeeded = finished.succeeded();
    runner_.ForgetFinished();
    return true;
  }

  Shared& shared_;
  const ClientPartition& partition_;
  const std::string& client_id_;
  const MeterChoice& meters_;
  Retrier retrier_;
  AttemptRunner runner_;
  std::optional<Session> session_;  // the last one
  ClientSummary summary_;
};

class ClientImpl : public Client {
 public:
  ClientImpl(std::unique_ptr<Shared> shared, internal::StateDirectory state, std::string client_id, MeterChoice meters)
      : shared_(std::move(shared)), state_(std::move(state)), client_id_(std::move(client_id)), meters_(std::move(meters)) {}

  absl::StatusOr<ClientSummary> Run(std::stop_token stop) override {
    std::stop_source all;  // of all participants: asked by the caller, or by one that failed for good
    std::stop_callback forward(stop, [&all] { all.request_stop(); });
    const size_t count = shared_->options.partitions.size();
    std::vector<absl::StatusOr<ClientSummary>> results(count, absl::UnknownError("not run"));
    {
      std::vector<std::jthread> threads;
      for (size_t i = 0; i < count; ++i) {
        threads.emplace_back([this, i, &results, &all] {
          const ClientPartition& partition = shared_->options.partitions[i];
          // Waits need to differ between clients, not to repeat: the id seeds them.
          const uint64_t seed = DeriveSeed(absl::StrCat("client ", client_id_), {static_cast<uint64_t>(partition.index)});
          std::unique_ptr<Ledger> ledger;
          if (const std::string path = state_.ledger_path(partition.index); !path.empty()) {
            absl::StatusOr<std::unique_ptr<Ledger>> opened = Ledger::Open(path);
            if (!opened.ok()) {
              results[i] = Annotate(opened.status(), "ledger");
              return;
            }
            ledger = *std::move(opened);
          }
          results[i] = Participant(shared_.get(), &partition, &client_id_, &meters_, state_.residual_path(partition.index), state_.release_path(partition.index), ledger.get(), seed).Run(all.get_token());
          if (!results[i].ok()) all.request_stop();
        });
      }
    }
    // The one that failed first stopped the others, which then say CANCELLED.
    ClientSummary total;
    absl::Status error;
    for (const absl::StatusOr<ClientSummary>& result : results) {
      if (!result.ok()) {
        if (error.ok() || error.code() == absl::StatusCode::kCancelled) error = result.status();
        continue;
      }
      total.reason = result->reason;
      total.succeeded = total.succeeded && result->succeeded;
      total.accepted_count += result->accepted_count;
      total.rejected_count += result->rejected_count;
      total.cancelled_count += result->cancelled_count;
      total.evaluated_count += result->evaluated_count;
      AddSpans(total.phases, result->phases);
    }
    if (!error.ok()) return error;
    return total;
  }

  const std::string& client_id() const override { return client_id_; }

  std::string DescribeMeters() const override {
    std::string text = meters_.meter ? meters_.meter->Describe() : "energy is not metered";
    for (const RefusedMeter& refused : meters_.refused) absl::StrAppend(&text, "; not ", refused.name, ": ", refused.reason);
    return text;
  }

 private:
  std::unique_ptr<Shared> shared_;
  internal::StateDirectory state_;
  std::string client_id_;
  MeterChoice meters_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Create(ClientOptions options) {
  FEDWATT_RETURN_IF_ERROR(Validate(options));
  FEDWATT_ASSIGN_OR_RETURN(internal::StateDirectory state, internal::StateDirectory::Open(options.state_directory));
  auto shared = std::make_unique<Shared>();
  shared->retry = {options.backoff_base, options.backoff_cap, options.give_up_after};

  const std::string& meter = options.meter;
  // Attempts side by side: each is a thread's.
  if (options.max_parallel_attempts > 1) options.meter_options.thread_scope = true;
  // This one describes; the bench has its own to measure with.
  FEDWATT_ASSIGN_OR_RETURN(MeterChoice meters, ChooseMeter(meter, options.meter_options));
  std::vector<std::unique_ptr<Bench>> benches;
  for (int i = 0; i < options.max_parallel_attempts; ++i) {
    auto bench = std::make_unique<Bench>();
    FEDWATT_ASSIGN_OR_RETURN(MeterChoice own, ChooseMeter(meter, options.meter_options));
    bench->meter = std::move(own.meter);
    benches.push_back(std::move(bench));
  }
  if (benches.size() == 1 && options.partitions.size() == 1) shared->lone_meter = benches[0]->meter.get();
  shared->benches = std::make_unique<internal::BenchPool>(std::move(benches));
  shared->formats = std::make_unique<FormatChooser>(state.formats_path(), options.machine);
  shared->models = std::make_unique<internal::ModelCache>(state.model_path(), options.max_model_bytes, options.log);
  FEDWATT_ASSIGN_OR_RETURN(shared->link, internal::Link::Create(options.connection, options.log));
  // An enrolled device is known by its certificate.
  const std::string& certified = shared->link->identity_name();
  std::string client_id = certified.empty() || certified == "local" ? state.client_id() : certified;
  shared->options = std::move(options);
  return std::make_unique<ClientImpl>(std::move(shared), std::move(state), std::move(client_id), std::move(meters));
}

}  // namespace fedwatt
