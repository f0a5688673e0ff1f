// The round as a pure state machine: (state, event, now) -> (state, effects). It owns no clock, disk, socket or thread; the server executes
// its effects over gRPC and SQLite, the simulation in memory, the fault tests against a hostile world.
#ifndef FEDWATT_ROUND_ENGINE_H_
#define FEDWATT_ROUND_ENGINE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "fedwatt/energy/carbon.h"
#include "fedwatt/model/rejection.h"
#include "fedwatt/report/run_record.h"
#include "fedwatt/round/budget.h"
#include "fedwatt/round/fitting.h"
#include "fedwatt/round/selection.h"

namespace fedwatt {

// When: never, after the last round, or whenever the whole model is scored.
enum class WidthEvaluation { kNever, kLast, kAlways };

struct EngineOptions {
  std::string run_id;
  uint64_t seed = 1;
  int64_t rounds = 10;              // run ends after this round number, >= 1
  int64_t next_round = 1;           // > 1 when a run is continued
  int64_t incarnation = 0;          // counts starts of the coordinator on one run; part of attempt ids, so that stale ones are told apart
  int64_t clients_per_round = 10;   // accepted updates a round aims at; 0 = every member
  int64_t wait_for_clients = 1;     // members needed before the first round of this incarnation
  double quorum = 0.5;              // (0, 1]: the fraction of the aim with which a round commits at its deadline
  absl::Duration deadline = absl::Minutes(10);  // of the collect phase
  double over_selection = 0;        // >= 0: fraction of clients asked beyond the aim
  std::optional<double> target_accuracy;        // ends the run early
  int64_t evaluate_every = 1;       // >= 1; the last round is always evaluated
  bool evaluates = true;            // false: no evaluation at all
  WidthEvaluation evaluate_widths = WidthEvaluation::kLast;  // the coordinator scores the model at fit.widths, too
  SelectionOptions selection;
  BudgetOptions budget;
  FitOptions fit;
  std::shared_ptr<const CarbonModel> carbon;  // where members may stand; null: grams are not counted
  std::map<std::string, std::string> memory;  // what earlier incarnations were told to remember; empty at a first start
  bool remembers_rounds = false;    // a round under way is remembered, too, so that a restart can go on with it
};

// Errors: INVALID_ARGUMENT, naming the option, its range and its value; NOT_FOUND  unknown policy
absl::Status ValidateEngineOptions(const EngineOptions& options);

// ---- Events: what happened in the world.

// `site` is an index into EngineOptions::carbon; `max_power` the most that the device can draw, where that is known; the supply as in MemberSupply.
struct MemberJoined {
  int64_t partition;
  std::string client;
  std::optional<size_t> site = std::nullopt;
  std::optional<Power> max_power = std::nullopt;
  std::optional<double> battery_fraction = std::nullopt;
  bool charging = false;
  DeviceReport device = {};
};
// What options.fit.widths come to in the model of now: before the first round and whenever it changes, where the fit policy measures.
struct ModelShaped { std::vector<WidthCost> costs; };
// The supply of a member; unset is not known.
struct MemberSupply { int64_t partition; std::optional<double> battery_fraction; bool charging = false; };
struct MemberLeft { int64_t partition; };
// A complete update lies with the executor, not yet looked at.
// What its client says of the attempt: joules, seconds of training, and whether it did all the work; unset: nothing. `at`: when it came, where that was before now.
struct UpdateArrived {
  std::string attempt;
  std::optional<Energy> energy = std::nullopt;
  std::optional<absl::Duration> training = std::nullopt;
  bool finished = true;
  std::optional<absl::Time> at = std::nullopt;
};
// The attempt ended without an update, or its bytes were refused before they were complete. `too_much`: its client declined so large a fit.
struct AttemptFailed { std::string attempt; Rejection reason; std::optional<Energy> energy = std::nullopt; bool too_much = false; };
// The Fold effect is done. On error the update was refused (RejectionOf(status) says why) and the accumulator is untouched.
struct FoldFinished { std::string attempt; absl::Status status; int64_t example_count = 0; std::optional<double> train_loss = std::nullopt; };
// The Aggregate effect is done: the new global model exists. `wall` is what it took.
struct AggregateFinished { absl::Status status; std::string model_digest; };
struct EvaluateFinished {
  std::optional<double> accuracy, loss;
  std::optional<int64_t> examples;
  std::optional<double> federated_accuracy, federated_loss;
  std::optional<int64_t> federated_examples;
  std::map<std::string, double> accuracy_by_width;  // by WidthKey()
};
struct PublishFinished { absl::Status status; };
// The time asked for by SetTimer has come; early or stale ticks do no harm.
struct Tick {};
// An operator or a signal ends the run after what can be finished at once; an open round is abandoned.
struct StopRequested { std::string reason; };

using Event = std::variant<MemberJoined, MemberLeft, MemberSupply, ModelShaped, UpdateArrived, AttemptFailed, FoldFinished, AggregateFinished, EvaluateFinished,
                           PublishFinished, Tick, StopRequested>;

// ---- Effects: what is to be done. They are executed in order.

// Keep these entries, replacing those of the same keys, durably and before any effect that follows: what the engine must know again after a restart
// (EngineOptions::memory). Reservations are among them, so that joules under way when a coordinator dies are not spent twice.
using Memory = std::vector<std::pair<std::string, std::string>>;
struct Remember { Memory entries; };
// Ask this member to train on the current global model, at this width.
// What it is expected to take is known where the fit policy measures and an attempt of this client has finished.
struct StartAttempt {
  std::string attempt;
  int64_t round;
  int64_t partition;
  absl::Time deadline;
  double width = 1;
  std::optional<double> expected_seconds = std::nullopt;
  std::optional<Energy> expected_energy = std::nullopt;
};
// Check the attempt's update and add it to the accumulator; answer with FoldFinished.
struct Fold { std::string attempt; };
// The attempt is over. Tell its client, drop what is kept for it, write its line in clients.jsonl.
// `outcome` is the run record's: accepted, rejected, late, dropped, cancelled.
struct EndAttempt { std::string attempt; int64_t round; int64_t partition; std::string client; std::string outcome; std::optional<Rejection> reason; };
// Turn the accumulator into the next global model; answer with AggregateFinished.
struct Aggregate { int64_t round; };
// Score the new model; answer with EvaluateFinished. `partitions` took part in the round, sorted; `widths` are below 1 and scored centrally, too.
struct Evaluate { int64_t round; std::vector<int64_t> partitions; std::vector<double> widths; };
// Make the new model durable and current, with this record (the executor fills what only it knows and writes it); answer with PublishFinished. What is to be
// remembered of the round (as by Remember) becomes durable with the model, in one step: a round that is resumed must not be settled twice.
struct Publish { RoundRecord record; Memory memory = {}; };
// Forget the accumulator's content; write the record, together with the memory.
struct Abandon { RoundRecord record; Memory memory = {}; };
// Send a Tick at `at`; replaces any earlier timer.
struct SetTimer { absl::Time at; };
// The run is over. No effect follows.
struct Finish { std::string reason; bool target_reached = false; absl::Status status; };

using Effect = std::variant<Remember, StartAttempt, Fold, EndAttempt, Aggregate, Evaluate, Publish, Abandon, SetTimer, Finish>;
using Effects = std::vector<Effect>;

enum class RoundPhase { kIdle, kCollect, kAggregate, kPublish, kFinished };
std::string_view RoundPhaseName(RoundPhase phase);

struct Attempt {
  enum class State { kTraining, kArrived, kFolding, kAccepted, kEnded };
  std::string id;
  int64_t partition = 0;
  std::string client;
  State state = State::kTraining;
  int64_t example_count = 0;
  absl::Time started;
  std::optional<size_t> site;        // as when it started
  std::optional<Power> max_power;    // likewise
  Claim claim;
  std::optional<WidthCost> cost;     // of its width, where that is known
  double width = 1;                  // as in StartAttempt, like the next two
  std::optional<double> expected_seconds;
  std::optional<Energy> expected_energy;
  std::optional<Energy> energy;
  std::optional<double> train_loss;
};

// A client takes part once a partition, and each part has a history of its own.
inline std::string HistoryKey(const std::string& client, int64_t partition) { return absl::StrCat(client, "/", partition); }

// Everything the engine knows; copyable, so tests can fork a history.
struct EngineState {
  EngineOptions options;
  RoundPhase phase = RoundPhase::kIdle;
  int64_t round = 0;                       // the round under way, or the next one while idle
  std::map<int64_t, Member> members;       // by partition
  std::map<std::string, Attempt> attempts; // of the round under way
  std::vector<std::string> arrival_order;  // updates that wait to be folded
  int64_t aim = 0;                         // accepted updates this round wants
  int64_t quorum = 1;                      // accepted updates with which it commits; fixed when it opens, whoever joins or leaves later
  absl::Time deadline;
  RoundRecord record;                      // of the round under way
  absl::Time phase_started;
  bool waited_for_clients = false;
  absl::Time now;                          // of the event that is being handled
  Budget budget;
  std::vector<WidthCost> width_costs;  // of options.fit.widths; empty: not known
  std::map<std::string, ClientHistory> histories;  // by HistoryKey(); they outlive sessions
  std::vector<std::string> forfeited;      // keys of histories that a restart changed, until they have been remembered
  absl::Duration deferred;                 // slack used so far
  double round_seconds = 0;                // that committed rounds take, exponentially weighted; 0 = none yet
  std::optional<absl::Time> waiting_since; // the round under preparation could have opened then
  std::string waiting_reason;
  std::optional<absl::Time> not_before;    // set while a round waits for cleaner hours
  std::optional<std::string> stop_reason;

  int64_t CountAttempts(Attempt::State state) const;
  // The quorum of a round that would open now.
  int64_t QuorumCount() const;
};

// What anyone may look at while the engine runs: an immutable copy for status calls.
struct RoundSnapshot {
  RoundPhase phase = RoundPhase::kIdle;
  int64_t round = 0, rounds = 0;
  int64_t member_count = 0, wait_for_clients = 0;
  int64_t selected = 0, accepted = 0, training = 0, aim = 0;
  absl::Time deadline;
};

// Owned by one thread.
class Engine {
 public:
  // Errors: as ValidateEngineOptions
  static absl::StatusOr<Engine> Create(EngineOptions options);

  // Whether the memory held a round under way, which Resume() goes on with.
  bool resumes() const { return resumes_; }
  // Goes on with that round: its attempts start once more, under their old names, and what has become of them is told by events as ever. Their time starts
  // anew, since nobody could report until `now`; of a round that was `closed` it is over. Once, only where resumes(), before events about attempts.
  Effects Resume(absl::Time now, bool closed);

  // Takes one event at `now` (never before an earlier call's) and returns what is to be done.
  Effects Handle(const Event& event, absl::Time now);

  RoundSnapshot Snapshot() const;
  const EngineState& state() const { return state_; }
  bool finished() const { return state_.phase == RoundPhase::kFinished; }

 private:
  explicit Engine(EngineOptions options);
  EngineState state_;
  bool resumes_ = false;
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_ENGINE_H_
