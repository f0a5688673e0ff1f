#include "fedwatt/simulation/fleet.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <queue>
#include <set>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/number_format.h"
#include "fedwatt/round/participant.h"
#include "battery.h"
#include "worker_pool.h"

namespace fedwatt {
namespace {

// Central evaluation is cut into pieces of fixed size, so that its sums do not depend on the number of workers.
constexpr int64_t kEvaluationPiece = 1000;

struct TimedEvent {
  absl::Time at;
  int64_t sequence;  // first in, first out among equals
  Event event;
};
struct Later {
  bool operator()(const TimedEvent& a, const TimedEvent& b) const {
    return a.at != b.at ? a.at > b.at : a.sequence > b.sequence;
  }
};

// What the fleet knows of one attempt.
struct FleetAttempt {
  int64_t round = 0;
  int64_t partition = 0;
  absl::Time started;  // virtual
  std::shared_ptr<const FittedPlan> fitted;
  double download_seconds = 0, train_seconds = 0, upload_seconds = 0;  // virtual, by device class
  // Filled when the work was really done.
  bool ran = false;  // to an update
  double cpu_seconds = 0;
  std::optional<double> loss;
  int64_t example_count = 0;
  bool completed = true;
  int64_t update_bytes = 0;
  int64_t download_bytes = 0;
  Residual residual;
  std::optional<FormatChoice> format;
  std::optional<double> expected_seconds;
  std::optional<Energy> expected_energy;
};

struct FoldDone {
  std::string attempt;
  absl::Status status;
  FleetAttempt result;
};

struct Worker {
  std::unique_ptr<LocalTrainer> trainer;                           // of the model that the run began with
  std::map<KeptChannels, std::unique_ptr<LocalTrainer>> narrower;  // made when first needed
  std::unique_ptr<Accumulator> accumulator;
  ParticipantScratch scratch;
  FoldScratch fold;
};

// A class stands for many devices; as for the meter that estimates from processor time, the true value is taken to lie within this factor.
constexpr double kDeviceClassFactor = 3;

EnergyReading Generic(Power power, double seconds) {
  EnergyReading reading;
  reading.energy = power * absl::Seconds(seconds);
  reading.low = Joules(reading.energy->joules() / kDeviceClassFactor);
  reading.high = Joules(reading.energy->joules() * kDeviceClassFactor);
  reading.tier = EnergyTier::kGeneric;
  reading.source = "device_class";
  reading.domain = "device";
  reading.window = absl::Seconds(seconds);
  return reading;
}

PhaseSpan Span(Phase phase, double seconds, double cpu_seconds, Power power) {
  return PhaseSpan{phase, absl::Seconds(seconds), absl::Seconds(cpu_seconds), Generic(power, seconds)};
}

class FleetImpl final : public Fleet {
 public:
  FleetImpl(FleetOptions options, Engine engine, GlobalModel model, std::vector<Worker> workers, std::vector<HeldOutSplit> members)
      : options_(std::move(options)),
        engine_(std::move(engine)),
        model_(std::move(model)),
        workers_(std::move(workers)),
        members_(std::move(members)),
        clock_(options_.start_time),
        held_by_member_(members_.size()),
        tracker_(&RealClock(), options_.server_meter, PhaseTracker::Cpu::kProcess),
        pool_(static_cast<int64_t>(workers_.size())) {}

  const GlobalModel& model() const override { return model_; }

  absl::StatusOr<FleetOutcome> Run(std::stop_token stop) override {
    tracker_.Enter(Phase::kInit);  // the first round opens with the last member
    TellShape();
    for (size_t i = 0; i < members_.size(); ++i) {
      const int64_t partition = static_cast<int64_t>(i);
      const DeviceClass& device = DeviceOf(partition);
      if (std::optional<Energy> capacity = internal::BatteryOf(device.name); capacity && options_.batteries) {
        Random random(DeriveSeed("battery", {options_.engine.seed, i}));
        batteries_.emplace(partition, internal::Battery(*capacity, device.idle_power, clock_.Now(), random));
      }
      MemberJoined joined{partition, absl::StrCat("member-", i)};
      if (!options_.sites.empty()) joined.site = options_.sites[i % options_.sites.size()];
      joined.device.memory_bytes = device.memory_bytes;
      joined.max_power = Watts(device.active_power.watts() + device.idle_power.watts());
      if (auto battery = batteries_.find(partition); battery != batteries_.end()) {
        battery->second.AdvanceTo(clock_.Now());
        joined.battery_fraction = battery->second.fraction();
        joined.charging = battery->second.charging();
      }
      Take(joined);
    }
    stop_ = stop;
    while (!finished_ && status_.ok()) {
      if (TellStop()) continue;
      if (std::optional<FoldDone> done = TakeFinishedFold(/*wait=*/false)) {
        FinishFold(*std::move(done));
      } else if (!queue_.empty() && (outstanding_folds_ == 0 || !std::holds_alternative<Tick>(queue_.top().event))) {
        TimedEvent next = queue_.top();
        queue_.pop();
        clock_.AdvanceTo(next.at);
        // A round may open with any of these.
        if (std::holds_alternative<Tick>(next.event) || std::holds_alternative<PublishFinished>(next.event)) TellSupplies();
        Take(next.event);
      } else if (outstanding_folds_ > 0) {
        // Virtual time stands still while real work is done; a deadline is not passed meanwhile.
        std::optional<FoldDone> done = TakeFinishedFold(/*wait=*/true);
        TellStop();  // before work that the stop cut short is counted
        FinishFold(*std::move(done));
      } else {
        status_ = absl::InternalError("the fleet has nothing left to do, and is not finished");
      }
    }
    DropOutstandingFolds();
    FEDWATT_RETURN_IF_ERROR(status_);
    outcome_.model = *model_.published();
    return outcome_;
  }

 private:
  // True when the engine was told just now.
  bool TellStop() {
    if (!stop_.stop_requested() || stop_told_) return false;
    stop_told_ = true;
    Take(StopRequested{"stopped"});
    return true;
  }

  void TellSupplies() {
    for (auto& [partition, battery] : batteries_) {
      battery.AdvanceTo(clock_.Now());
      Take(MemberSupply{partition, battery.fraction(), battery.charging()});
    }
  }

  void Schedule(absl::Time at, Event event) { queue_.push(TimedEvent{at, sequence_++, std::move(event)}); }

  void Take(const Event& event) {
    handled_at_ = RealClock().Monotonic();
    for (Effect& effect : engine_.Handle(event, clock_.Now())) {
      if (!status_.ok()) return;
      std::visit([this](auto& e) { Execute(e); }, effect);
    }
  }

  const DeviceClass& DeviceOf(int64_t partition) const {
    return options_.devices[static_cast<size_t>(partition) % options_.devices.size()];
  }

  // What a client that is to train this starts from; decoded once for all.
  std::shared_ptr<const DecodedModel> StartOf(const std::shared_ptr<const FittedPlan>& fitted) {
    std::shared_ptr<const DecodedModel>& start = starts_[fitted];
    if (start == nullptr) start = std::make_shared<const DecodedModel>(DecodedModel{fitted->layout, *fitted->values});
    return start;
  }

  // A member keeps one version of each model that it trains, as a client does.
  std::vector<Digest> HeldBy(int64_t partition) const {
    std::vector<Digest> held;
    for (const auto& [layout, digest] : held_by_member_[static_cast<size_t>(partition)]) held.push_back(digest);
    return held;
  }

  // As a client does that holds the plan it heard last, a member is told what a model keeps when this is not what it was told last.
  int64_t KeptBytesFor(int64_t partition, const FittedPlan& fitted) {
    if (fitted.kept_bytes == 0 && told_kept_.empty()) return 0;
    const auto at = told_kept_.insert(fitted.plan.architecture.kept).first;
    const KeptChannels*& told = kept_of_member_[partition];
    return std::exchange(told, &*at) == &*at ? 0 : fitted.kept_bytes;
  }

  // What the device class would take for it; the tier of all of a fleet's joules is generic.
  std::vector<PhaseSpan> PhasesOf(const FleetAttempt& attempt, bool uploads) const {
    const DeviceClass& device = DeviceOf(attempt.partition);
    const Power busy = Watts(device.idle_power.watts() + device.active_power.watts());
    std::vector<PhaseSpan> phases = {Span(Phase::kDownload, attempt.download_seconds, 0, device.idle_power),
                                     Span(Phase::kTrain, attempt.train_seconds, attempt.cpu_seconds, busy)};
    if (uploads) phases.push_back(Span(Phase::kUpload, attempt.upload_seconds, 0, device.idle_power));
    return phases;
  }
  static Energy EnergyOf(const std::vector<PhaseSpan>& phases) {
    Energy sum;
    for (const PhaseSpan& span : phases) sum += *span.energy.energy;
    return sum;
  }

  // ---- Effects

  void Execute(Remember&) {}  // a fleet does not continue runs

  void Execute(StartAttempt& start) {
    if (round_ != start.round) {
      round_ = start.round;
      if (options_.client_learning_rate_at) model_.SetLearningRate(options_.client_learning_rate_at(start.round));
      starts_.clear();
      real_start_ = handled_at_;  // the engine selects within one event
      real_collect_ = RealClock().Monotonic();
      real_started_at_ = RealClock().Now();
      cpu_start_ = ProcessCpuTime();
      tracker_.Enter(Phase::kTrain);
      arrivals_.clear();
    }
    FleetAttempt attempt;
    attempt.round = start.round;
    attempt.partition = start.partition;
    attempt.started = clock_.Now();
    const DeviceClass& device = DeviceOf(start.partition);
    absl::StatusOr<std::shared_ptr<const FittedPlan>> fitted = model_.Assign(start.round, start.width);
    if (!fitted.ok()) return Keep(fitted.status());
    attempt.fitted = *std::move(fitted);
    attempt.expected_seconds = start.expected_seconds;
    attempt.expected_energy = start.expected_energy;
    const Dataset& data = members_[static_cast<size_t>(start.partition)].train;
    const TrainingRecipe& recipe = attempt.fitted->plan.recipe;
    const double examples = recipe.local_steps > 0
                                ? static_cast<double>(recipe.local_steps) * std::min<double>(recipe.batch_size, static_cast<double>(data.size()))
                                : static_cast<double>(recipe.local_epochs) * static_cast<double>(data.size());
    // Forward once, backward twice.
    attempt.train_seconds = 3 * examples * attempt.fitted->macs_per_example / device.macs_per_second;
    const ModelOffer offer = model_.OfferFor(attempt.fitted->plan.architecture.kept, HeldBy(start.partition), /*whole=*/false);
    attempt.download_bytes = (offer.blob != nullptr ? static_cast<int64_t>(offer.blob->size()) : 0) + KeptBytesFor(start.partition, *attempt.fitted);
    attempt.download_seconds = static_cast<double>(attempt.download_bytes) / device.downlink_bytes_per_second;
    // What an update will take is known once it is made; until then, as many bits a value as in the round before.
    attempt.upload_seconds = expected_bytes_per_value_ * static_cast<double>(attempt.fitted->layout.value_count()) / device.uplink_bytes_per_second;
    const double seconds = attempt.download_seconds + attempt.train_seconds + attempt.upload_seconds;

    Random random(DeriveSeed("dropout", {options_.engine.seed, static_cast<uint64_t>(start.round), static_cast<uint64_t>(start.partition)}));
    const bool drops_out = random.Uniform() < device.dropout_fraction;
    if (!drops_out) held_by_member_[static_cast<size_t>(start.partition)][attempt.fitted->layout.digest()] = attempt.fitted->model_digest;
    if (drops_out) {
      Schedule(clock_.Now() + absl::Seconds(seconds * random.Uniform()), AttemptFailed{start.attempt, Rejection::kDisconnected, EnergyOf(PhasesOf(attempt, /*uploads=*/false))});
      attempts_[start.attempt] = attempt;
      return;
    }
    const UpdateArrived arrived{start.attempt, EnergyOf(PhasesOf(attempt, /*uploads=*/true)), absl::Seconds(attempt.train_seconds)};
    if (options_.arrival_shuffle_seed != 0) {
      Random shuffle(DeriveSeed("arrival", {options_.arrival_shuffle_seed, static_cast<uint64_t>(start.round), static_cast<uint64_t>(start.partition)}));
      Schedule(clock_.Now() + absl::Seconds(seconds * shuffle.Uniform()), arrived);
    } else {
      Schedule(clock_.Now() + absl::Seconds(seconds), arrived);
    }
    attempts_[start.attempt] = attempt;
  }

  void Execute(Fold& fold) {
    ++outstanding_folds_;
    const FleetAttempt& started = attempts_.at(fold.attempt);
    auto residual = residuals_.find(started.partition);
    // A member has one attempt at a time, so nobody replaces its residual meanwhile.
    const Residual* kept = residual == residuals_.end() ? nullptr : &residual->second;
    pool_.Submit([this, id = fold.attempt, attempt = started, start = StartOf(started.fitted), kept](int64_t worker) {
      FoldDone done{id, absl::OkStatus(), attempt};
      done.status = TrainAndFold(*start, kept, workers_[static_cast<size_t>(worker)], done.result);
      absl::MutexLock lock(&mutex_);
      finished_folds_.push_back(std::move(done));
    });
  }

  absl::StatusOr<LocalTrainer*> TrainerFor(Worker& worker, const ArchitectureSpec& architecture) {
    if (architecture.kept.empty()) return worker.trainer.get();
    // Where channels roll, those of earlier rounds are of no use any more.
    constexpr size_t kMostTrainers = 16;
    if (worker.narrower.size() >= kMostTrainers && !worker.narrower.contains(architecture.kept)) worker.narrower.clear();
    std::unique_ptr<LocalTrainer>& trainer = worker.narrower[architecture.kept];
    if (trainer == nullptr) {
      FEDWATT_ASSIGN_OR_RETURN(trainer, options_.trainer_factory(architecture));
    }
    return trainer.get();
  }

  absl::Status TrainAndFold(const DecodedModel& start, const Residual* residual, Worker& worker, FleetAttempt& attempt) {
    const FittedPlan& fitted = *attempt.fitted;
    absl::StatusOr<LocalTrainer*> trainer = TrainerFor(worker, fitted.plan.architecture);
    if (!trainer.ok()) return WithRejection(trainer.status(), Rejection::kClientError);
    const Dataset& data = members_[static_cast<size_t>(attempt.partition)].train;
    const DeviceClass& device = DeviceOf(attempt.partition);
    const std::string refusal = device.has_bfloat16 ? "" : absl::StrCat("device class ", device.name, " has no bfloat16 instructions");
    Plan plan = fitted.plan;
    attempt.format = formats_.Choose(plan, refusal, **trainer, start.values, data, TrainingControl{.stop = stop_});
    plan.recipe.number_format = attempt.format->format;
    const absl::Duration cpu = ThreadCpuTime();
    absl::StatusOr<AttemptResult> trained = RunAttempt(plan, attempt.round, attempt.partition, start, data, **trainer, TrainingControl{.stop = stop_}, residual,
                                                       /*tracker=*/nullptr, worker.scratch);
    attempt.cpu_seconds = absl::ToDoubleSeconds(ThreadCpuTime() - cpu);
    attempt.ran = trained.ok();
    attempt.completed = false;
    if (!trained.ok()) return WithRejection(trained.status(), Rejection::kClientError);
    attempt.loss = RecordableLoss(trained->train_loss);
    attempt.example_count = trained->example_count;
    attempt.completed = trained->completed;
    attempt.update_bytes = static_cast<int64_t>(trained->update.size());
    attempt.residual = Residual{std::move(trained->residual), attempt.round};
    return FoldUpdate(fitted.plan, fitted.layout, trained->update, trained->example_count, attempt.round, attempt.partition, *worker.accumulator,
                      worker.fold, fitted.submodel.get());
  }

  std::optional<FoldDone> TakeFinishedFold(bool wait) {
    absl::MutexLock lock(&mutex_);
    if (wait) mutex_.Await(absl::Condition(+[](std::deque<FoldDone>* folds) { return !folds->empty(); }, &finished_folds_));
    if (finished_folds_.empty()) return std::nullopt;
    FoldDone done = std::move(finished_folds_.front());
    finished_folds_.pop_front();
    --outstanding_folds_;
    return done;
  }

  // Their attempts have ended; but until they are done, workers add to the accumulators.
  void DropOutstandingFolds() {
    while (outstanding_folds_ > 0) TakeFinishedFold(/*wait=*/true);
  }

  void FinishFold(FoldDone done) {
    if (!attempts_.contains(done.attempt)) return;  // it ended while it was folded
    if (!done.status.ok()) Log(options_.log, LogLevel::kWarning, absl::StrCat("attempt ", done.attempt, ": ", done.status.message()));
    const int64_t example_count = done.result.example_count;
    const std::optional<double> loss = done.result.ran ? done.result.loss : std::nullopt;
    if (done.status.ok()) model_.NoteUpdate(done.result.update_bytes, done.result.fitted->layout.value_count());
    attempts_[done.attempt] = std::move(done.result);
    Take(FoldFinished{done.attempt, done.status, example_count, loss});
  }

  void Execute(EndAttempt& end) {
    auto it = attempts_.find(end.attempt);
    FleetAttempt& attempt = it->second;
    const DeviceClass& device = DeviceOf(end.partition);
    // As on a device: what the encoding lost is kept once the update counts.
    if (end.outcome == "accepted" && !attempt.residual.values.empty()) residuals_[end.partition] = std::move(attempt.residual);
    // A residual that makes updates too large would make them so for ever.
    if (end.reason == Rejection::kNormTooLarge || end.reason == Rejection::kValueTooLarge) residuals_.erase(end.partition);
    AttemptRecord record;
    record.round = end.round;
    record.client = end.client;
    record.partition = end.partition;
    record.attempt = end.attempt;
    record.outcome = end.outcome;
    if (end.reason.has_value()) record.reason = std::string(RejectionName(*end.reason));
    record.fit = attempt.fitted->plan.fit;
    if (attempt.format.has_value()) {
      record.fit.number_format = attempt.format->format;
      if (!attempt.format->reason.empty()) record.fit_format_reason = attempt.format->reason;
    }
    record.fit_parameter_count = attempt.fitted->layout.value_count();
    record.fit_macs = attempt.fitted->macs_per_example;
    record.fit_expected_seconds = attempt.expected_seconds;
    record.fit_expected_energy = attempt.expected_energy;
    record.completed_work = attempt.completed;
    record.downlink_payload_bytes = attempt.download_bytes;
    record.codec_uplink = attempt.fitted->plan.uplink_codec;
    record.codec_downlink = attempt.fitted->plan.downlink_codec;
    record.phases = PhasesOf(attempt, attempt.ran);
    if (attempt.ran) {
      record.train_examples = attempt.example_count;
      record.train_loss = attempt.loss;
      record.uplink_payload_bytes = attempt.update_bytes;
    }
    absl::Duration busy;
    for (const PhaseSpan& span : record.phases) busy += span.wall;
    // Between attempts a device waits; what it draws then is not the federation's doing, and no joules are claimed.
    const auto [free, first] = free_since_.try_emplace(end.partition, options_.start_time);
    PhaseSpan wait{Phase::kIdleWait, std::max(absl::ZeroDuration(), attempt.started - free->second), absl::ZeroDuration(), {}};
    wait.energy.window = wait.wall;
    if (wait.wall > absl::ZeroDuration()) record.between.push_back(std::move(wait));
    free->second = attempt.started + busy;
    if (!options_.sites.empty()) {
      const size_t site = options_.sites[static_cast<size_t>(end.partition) % options_.sites.size()];
      record.site = options_.engine.carbon->sites()[site].name;
      std::optional<Embodied> embodied = options_.engine.carbon->sites()[site].embodied;
      if (!embodied) {
        if (absl::StatusOr<Embodied> known = FindEmbodied(device.name); known.ok()) embodied = *known;
      }
      record.carbon = options_.engine.carbon->Account(site, EnergyOf(record.phases), attempt.started, attempt.started + busy, embodied);
    }
    if (auto battery = batteries_.find(end.partition); battery != batteries_.end()) battery->second.Drain(EnergyOf(record.phases));
    Note(end, record);
    if (options_.record != nullptr) Keep(options_.record->WriteAttempt(record));
    attempts_.erase(it);
  }

  // Adds an attempt to the figures of its round. Sums over accepted attempts are made in Totals(), in order of partition.
  void Note(const EndAttempt& end, AttemptRecord& record) {
    arrivals_[end.partition] = record;
    downlink_bytes_ += *record.downlink_payload_bytes;
    downlink_values_ += record.fit_parameter_count;
    if (record.uplink_payload_bytes.has_value()) {
      uplink_bytes_ += *record.uplink_payload_bytes;
      uplink_values_ += record.fit_parameter_count;
      most_bytes_per_value_ =
          std::max(most_bytes_per_value_, static_cast<double>(*record.uplink_payload_bytes) / static_cast<double>(record.fit_parameter_count));
    }
  }

  void Totals(RoundRecord& record) {
    double loss_sum = 0, loss_weight = 0;
    if (options_.engine.carbon != nullptr) record.client_carbon.kind = options_.engine.carbon->kind();
    for (const auto& [partition, attempt] : arrivals_) {
      record.client_carbon.Add(attempt.carbon, attempt.outcome == "accepted");
      Energy energy, low, high;
      for (const PhaseSpan& span : attempt.phases) {
        energy += *span.energy.energy;
        low += *span.energy.low;
        high += *span.energy.high;
      }
      if (attempt.outcome != "accepted") {
        record.client_energy_wasted = record.client_energy_wasted.value_or(Energy()) + energy;
        continue;
      }
      record.client_energy = record.client_energy.value_or(Energy()) + energy;
      record.client_energy_low = record.client_energy_low.value_or(Energy()) + low;
      record.client_energy_high = record.client_energy_high.value_or(Energy()) + high;
      record.client_energy_by_tier[EnergyTier::kGeneric] += energy;
      ++record.client_energy_clients;
      record.client_energy_tier = EnergyTier::kGeneric;
      record.client_train_seconds += absl::ToDoubleSeconds(attempt.phases[1].wall);
      record.client_cpu_seconds += absl::ToDoubleSeconds(attempt.phases[1].cpu);
      if (!attempt.train_loss) continue;
      loss_sum += *attempt.train_loss * static_cast<double>(*attempt.train_examples);
      loss_weight += static_cast<double>(*attempt.train_examples);
    }
    if (loss_weight > 0) record.train_loss = loss_sum / loss_weight;
    record.model_parameters = model_.layout().value_count();
    record.uplink_payload_bytes = uplink_bytes_;
    record.downlink_payload_bytes = downlink_bytes_;
    record.uplink_dense_bytes = 4 * uplink_values_;
    record.downlink_dense_bytes = 4 * downlink_values_;
    uplink_bytes_ = downlink_bytes_ = uplink_values_ = downlink_values_ = 0;
    if (const double most = std::exchange(most_bytes_per_value_, 0); most > 0) expected_bytes_per_value_ = most;

    // The engine counts virtual time; the record's walls are this machine's.
    record.virtual_seconds = record.wall_seconds;
    const absl::Duration now = RealClock().Monotonic();
    record.started_at = real_started_at_;
    record.finished_at = RealClock().Now();
    record.wall_seconds = absl::ToDoubleSeconds(now - real_start_);
    record.select_seconds = absl::ToDoubleSeconds(real_collect_ - real_start_);
    record.collect_seconds = collect_seconds_;
    record.aggregate_seconds = aggregate_seconds_;
    record.evaluate_seconds = evaluate_seconds_;
    evaluate_seconds_ = 0;
    record.server_cpu_seconds = absl::ToDoubleSeconds(ProcessCpuTime() - cpu_start_) - record.client_cpu_seconds;
    record.server_phases = tracker_.Cut(Phase::kCheckpoint);
    record.server_energy = SumOfSpans(record.server_phases);
    record.peak_rss_bytes = PeakResidentBytes();
  }

  void TellShape() {
    absl::StatusOr<std::vector<WidthCost>> costs = model_.WidthCosts();
    if (!costs.ok()) return Keep(costs.status());
    Take(ModelShaped{*std::move(costs)});
  }

  void Execute(Aggregate& aggregate) {
    tracker_.Enter(Phase::kAggregate);
    const absl::Duration start = RealClock().Monotonic();
    collect_seconds_ = absl::ToDoubleSeconds(start - real_collect_);
    const Digest layout = model_.layout().digest();
    absl::Status status = MergeAndStep(aggregate.round);
    for (Worker& worker : workers_) {
      worker.accumulator->Reset();
      if (model_.layout().digest() == layout) continue;
      absl::StatusOr<std::unique_ptr<Accumulator>> accumulator = model_.NewAccumulator();
      if (!accumulator.ok()) return Keep(accumulator.status());
      worker.accumulator = *std::move(accumulator);
    }
    if (model_.layout().digest() != layout) TellShape();
    aggregate_seconds_ = absl::ToDoubleSeconds(RealClock().Monotonic() - start);
    Schedule(clock_.Now(), AggregateFinished{status, model_.published_digest().Hex()});
  }

  absl::Status MergeAndStep(int64_t round) {
    Accumulator& sum = *workers_[0].accumulator;
    for (size_t i = 1; i < workers_.size(); ++i) FEDWATT_RETURN_IF_ERROR(sum.Merge(*workers_[i].accumulator));
    FEDWATT_ASSIGN_OR_RETURN(MeanDelta mean, sum.Report());
    return model_.Step(mean, round);
  }

  // Scores a model on several datasets at once; one result each, in order.
  absl::StatusOr<std::vector<EvaluationResult>> Score(const std::vector<const Dataset*>& pieces, const ArchitectureSpec& architecture, const std::vector<float>& values) {
    std::vector<absl::StatusOr<EvaluationResult>> results(pieces.size(), absl::UnknownError("not scored"));
    absl::Mutex mutex;
    int64_t left = static_cast<int64_t>(pieces.size());
    for (size_t i = 0; i < pieces.size(); ++i) {
      pool_.Submit([&, i](int64_t worker) {
        absl::StatusOr<EvaluationResult> result = [&]() -> absl::StatusOr<EvaluationResult> {
          FEDWATT_ASSIGN_OR_RETURN(LocalTrainer * trainer, TrainerFor(workers_[static_cast<size_t>(worker)], architecture));
          return trainer->Evaluate(values, *pieces[i], model_.plan().recipe.loss);
        }();
        absl::MutexLock lock(&mutex);
        results[i] = std::move(result);
        --left;
      });
    }
    absl::MutexLock lock(&mutex);
    mutex.Await(absl::Condition(+[](int64_t* count) { return *count == 0; }, &left));
    std::vector<EvaluationResult> scored;
    for (auto& result : results) {
      FEDWATT_RETURN_IF_ERROR(result.status());
      scored.push_back(*result);
    }
    return scored;
  }

  static EvaluationResult Sum(const std::vector<EvaluationResult>& parts) {
    EvaluationResult sum;
    double loss = 0, right = 0;
    for (const EvaluationResult& part : parts) {
      const double count = static_cast<double>(part.example_count);
      sum.example_count += part.example_count;
      loss += part.mean_loss * count;
      right += std::round(part.accuracy * count);
      sum.has_accuracy = sum.has_accuracy && part.has_accuracy;
    }
    if (sum.example_count > 0) {
      sum.mean_loss = loss / static_cast<double>(sum.example_count);
      sum.accuracy = right / static_cast<double>(sum.example_count);
    }
    return sum;
  }

  void Execute(Evaluate& evaluate) {
    tracker_.Enter(Phase::kEvaluate);
    const absl::Duration start = RealClock().Monotonic();
    EvaluateFinished finished;
    if (options_.test.has_value()) {
      if (test_pieces_.empty()) {
        for (int64_t begin = 0; begin < options_.test->size(); begin += kEvaluationPiece) {
          std::vector<int32_t> indices;
          for (int64_t i = begin; i < std::min(begin + kEvaluationPiece, options_.test->size()); ++i) indices.push_back(static_cast<int32_t>(i));
          absl::StatusOr<Dataset> piece = options_.test->Subset(std::move(indices));
          FEDWATT_CHECK(piece.ok());
          test_pieces_.push_back(*std::move(piece));
        }
      }
      std::vector<const Dataset*> pieces;
      for (const Dataset& piece : test_pieces_) pieces.push_back(&piece);
      absl::StatusOr<std::vector<EvaluationResult>> scored = Score(pieces, model_.plan().architecture, *model_.published());
      if (!scored.ok()) return Keep(Annotate(scored.status(), "central evaluation"));
      EvaluationResult sum = Sum(*scored);
      if (sum.has_accuracy) finished.accuracy = sum.accuracy;
      finished.loss = RecordableLoss(sum.mean_loss);
      finished.examples = sum.example_count;
      for (double width : evaluate.widths) {
        absl::StatusOr<std::shared_ptr<const FittedPlan>> fitted = model_.Assign(evaluate.round + 1, width);
        if (!fitted.ok()) return Keep(fitted.status());
        scored = Score(pieces, (*fitted)->plan.architecture, *(*fitted)->values);
        if (!scored.ok()) {
          Log(options_.log, LogLevel::kWarning, absl::StrCat("central evaluation at width ", WidthKey(width), ": ", scored.status().message()));
          continue;
        }
        const EvaluationResult narrow = Sum(*scored);
        if (narrow.has_accuracy) finished.accuracy_by_width[WidthKey(width)] = narrow.accuracy;
      }
    }
    std::vector<const Dataset*> held_out;
    for (int64_t partition : evaluate.partitions) {
      const HeldOutSplit& member = members_[static_cast<size_t>(partition)];
      if (member.held_out.has_value()) held_out.push_back(&*member.held_out);
    }
    if (!held_out.empty()) {
      absl::StatusOr<std::vector<EvaluationResult>> scored = Score(held_out, model_.plan().architecture, *model_.published());
      if (scored.ok()) {
        EvaluationResult sum = Sum(*scored);
        if (sum.has_accuracy) finished.federated_accuracy = sum.accuracy;
        finished.federated_loss = RecordableLoss(sum.mean_loss);
        finished.federated_examples = sum.example_count;
      } else {
        Log(options_.log, LogLevel::kWarning, absl::StrCat("federated evaluation: ", scored.status().message()));
      }
    }
    evaluate_seconds_ = absl::ToDoubleSeconds(RealClock().Monotonic() - start);
    Schedule(clock_.Now(), finished);
  }

  void Execute(Publish& publish) {
    absl::Status stored = absl::OkStatus();
    if (options_.archive != nullptr) stored = options_.archive->Save(publish.record.round, *model_.blob(), publish.record.eval_accuracy);
    Totals(publish.record);
    if (stored.ok() && options_.record != nullptr) stored = options_.record->WriteRound(publish.record);
    ++outcome_.rounds_committed;
    if (options_.on_round) options_.on_round(publish.record);
    Schedule(clock_.Now(), PublishFinished{stored});
  }

  void Execute(Abandon& abandon) {
    DropOutstandingFolds();
    for (Worker& worker : workers_) worker.accumulator->Reset();
    model_.AbandonRound();
    Totals(abandon.record);
    if (options_.record != nullptr) Keep(options_.record->WriteRound(abandon.record));
    if (options_.on_round) options_.on_round(abandon.record);
  }

  void Execute(SetTimer& timer) { Schedule(timer.at, Tick{}); }

  void Execute(Finish& finish) {
    finished_ = true;
    outcome_.reason = finish.reason;
    outcome_.target_reached = finish.target_reached;
    Keep(finish.status);
  }

  void Keep(absl::Status status) { status_.Update(std::move(status)); }

  FleetOptions options_;
  Engine engine_;
  GlobalModel model_;
  std::vector<Worker> workers_;
  std::vector<HeldOutSplit> members_;
  std::vector<Dataset> test_pieces_;

  VirtualClock clock_;
  std::priority_queue<TimedEvent, std::vector<TimedEvent>, Later> queue_;
  int64_t sequence_ = 0;
  std::map<std::string, FleetAttempt> attempts_;
  std::set<KeptChannels> told_kept_;  // to anybody
  std::map<int64_t, const KeptChannels*> kept_of_member_;
  std::vector<std::map<Digest, Digest>> held_by_member_;  // the versions that each holds, by layout
  std::map<int64_t, Residual> residuals_;               // by partition
  FormatChooser formats_{"", ""};                       // this process measures for all devices that have the format
  std::map<int64_t, internal::Battery> batteries_;      // likewise; of those that run on one
  double expected_bytes_per_value_ = 4, most_bytes_per_value_ = 0;
  std::stop_token stop_;
  bool stop_told_ = false;
  bool finished_ = false;
  absl::Status status_;
  FleetOutcome outcome_;

  // The round under way.
  int64_t round_ = 0;
  std::map<std::shared_ptr<const FittedPlan>, std::shared_ptr<const DecodedModel>> starts_;
  std::map<int64_t, AttemptRecord> arrivals_;  // by partition
  int64_t uplink_bytes_ = 0, downlink_bytes_ = 0, uplink_values_ = 0, downlink_values_ = 0;
  absl::Duration handled_at_, real_start_, real_collect_;
  PhaseTracker tracker_;                                  // of this process; `train` is the work of all simulated devices
  std::map<int64_t, absl::Time> free_since_;              // virtual, by partition: when its last attempt was over
  absl::Time real_started_at_;
  absl::Duration cpu_start_;
  double collect_seconds_ = 0, aggregate_seconds_ = 0, evaluate_seconds_ = 0;

  int64_t outstanding_folds_ = 0;
  absl::Mutex mutex_;
  std::deque<FoldDone> finished_folds_ ABSL_GUARDED_BY(mutex_);

  internal::WorkerPool pool_;  // last: its threads use all of the above
};

}  // namespace

absl::StatusOr<std::unique_ptr<Fleet>> Fleet::Create(FleetOptions options) {
  if (options.partitions.empty()) return absl::InvalidArgumentError("fleet: no partitions, so nobody to train");
  if (options.workers < 0) return absl::InvalidArgumentError(absl::StrCat("fleet: workers: expected at least 0, got ", options.workers));
  if (!options.trainer_factory) return absl::InvalidArgumentError("fleet: no trainer factory");
  if (options.devices.empty()) {
    FEDWATT_ASSIGN_OR_RETURN(DeviceClass device, FindDeviceClass("server_core"));
    options.devices = {device};
  }
  for (size_t site : options.sites) {
    if (options.engine.carbon == nullptr || site >= options.engine.carbon->sites().size()) {
      return absl::InvalidArgumentError(absl::StrCat("fleet: sites: there is no site ", site));
    }
  }
  if (options.workers == 0) options.workers = std::max(1u, std::thread::hardware_concurrency());

  std::vector<HeldOutSplit> members;
  for (size_t i = 0; i < options.partitions.size(); ++i) {
    FEDWATT_ASSIGN_OR_RETURN(HeldOutSplit split,
                             SplitHeldOut(options.partitions[i], options.held_out_fraction, options.engine.seed, static_cast<int64_t>(i)));
    members.push_back(std::move(split));
  }

  std::vector<Worker> workers(static_cast<size_t>(options.workers));
  for (Worker& worker : workers) {
    FEDWATT_ASSIGN_OR_RETURN(worker.trainer, options.trainer_factory(options.model.plan.architecture));
  }
  options.model.layout = workers[0].trainer->layout();
  options.model.groups = workers[0].trainer->channel_groups();
  options.model.uses = workers[0].trainer->UsesPerExample();
  options.model.initial_from_seed = options.initial_model.empty();
  if (options.initial_model.empty()) {
    FEDWATT_ASSIGN_OR_RETURN(options.initial_model, workers[0].trainer->InitialModel(InitialModelSeed(options.engine.seed)));
  }
  // What cannot even score one example would fail in every attempt of every round.
  FEDWATT_ASSIGN_OR_RETURN(Dataset one, members[0].train.Subset({0}));
  if (absl::Status scored = workers[0].trainer->Evaluate(options.initial_model, one, options.model.plan.recipe.loss).status(); !scored.ok()) {
    return Annotate(scored, "model, data and loss do not fit together");
  }
  // Everybody is there from the start; a first round of those who happened to be greeted first would be another federation.
  options.engine.wait_for_clients = static_cast<int64_t>(options.partitions.size());
  options.engine.fit = options.model.fit;
  FEDWATT_ASSIGN_OR_RETURN(Engine engine, Engine::Create(options.engine));
  FEDWATT_ASSIGN_OR_RETURN(GlobalModel model, GlobalModel::Create(options.model, std::move(options.initial_model)));
  for (Worker& worker : workers) {
    FEDWATT_ASSIGN_OR_RETURN(worker.accumulator, model.NewAccumulator());
  }
  if (options.server_meter != nullptr) FEDWATT_RETURN_IF_ERROR(options.server_meter->Start());
  return std::make_unique<FleetImpl>(std::move(options), std::move(engine), std::move(model), std::move(workers), std::move(members));
}

namespace {

template <typename Kind>
std::vector<Kind> Mix(const std::vector<std::pair<Kind, double>>& mix, int64_t members, std::string_view purpose, uint64_t seed) {
  std::vector<Kind> kinds;
  if (mix.empty() || members < 1) return kinds;
  double total = 0;
  for (const auto& [kind, share] : mix) total += share;
  // Exact shares, then a shuffle: drawing each would leave small fleets with luck instead of the mix asked for.
  double cumulative = 0;
  for (const auto& [kind, share] : mix) {
    cumulative += share;
    const int64_t until = std::llround(cumulative / total * static_cast<double>(members));
    while (static_cast<int64_t>(kinds.size()) < until) kinds.push_back(kind);
  }
  Random random(DeriveSeed(purpose, {seed}));
  random.Shuffle(kinds);
  return kinds;
}

}  // namespace

std::vector<size_t> MixSites(const std::vector<CarbonSite>& sites, int64_t members, uint64_t seed) {
  std::vector<std::pair<size_t, double>> mix;
  for (size_t i = 0; i < sites.size(); ++i) mix.emplace_back(i, sites[i].share);
  return Mix(mix, members, "sites", seed);
}

std::vector<DeviceClass> MixDevices(const std::vector<std::pair<DeviceClass, double>>& mix, int64_t members, uint64_t seed) {
  return Mix(mix, members, "devices", seed);
}

}  // namespace fedwatt
