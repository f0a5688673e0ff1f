// A federation whose clients drop out, stay silent, lie about their joules and run their batteries down, whose forecasts are wrong on purpose and whose
// coordinator is killed in mid-round: the round engine alone, in virtual time, with books kept beside it. Nothing is trained.
#ifndef FEDWATT_TESTS_TESTING_HOSTILE_FLEET_H_
#define FEDWATT_TESTS_TESTING_HOSTILE_FLEET_H_

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/engine.h"

namespace fedwatt::testing {

struct HostileOptions {
  uint64_t seed = 1;
  int64_t rounds = 1000;    // in all; a federation that has spent its budget is followed by another
  int64_t clients = 40;
  bool misreports = true;   // a third of the clients say 30 % too little, too much, or nonsense
  std::string policy = "carbon_aware";
};

struct HostileOutcome {
  int64_t rounds = 0, federations = 0, attempts = 0, restarts = 0;
  // The greatest amounts beyond a limit that were seen, in units of the greatest single attempt that was admitted: by the engine's books...
  double client_overspend = 0, round_overspend = 0, federation_overspend = 0, carbon_overspend = 0;
  double true_overspend = 0;         // ...and of the joules that really went, whatever clients said
  int64_t below_floor = 0;           // attempts of members that were last known to be too low
  int64_t books_differ = 0;          // rounds after which our sum and the engine's were not the same microjoules
  std::map<std::string, int64_t> refusals;
  double joules = 0, true_joules = 0;
};

class HostileFleet {
 public:
  explicit HostileFleet(HostileOptions options) : options_(std::move(options)), random_(DeriveSeed("hostile", {options_.seed})), carbon_(MakeCarbon()) {}

  HostileOutcome Run() {
    while (outcome_.rounds < options_.rounds) Federation();
    return outcome_;
  }

 private:
  static constexpr int64_t kDeadlineSeconds = 60;

  struct Client {
    std::string name;
    double watts = 0;
    size_t site = 0;
    int lie = 0;  // 0 honest, 1 too little, 2 too much, 3 nonsense
    double battery = 1;
    bool charging = false, told_low = false;
  };
  struct Open {
    int64_t partition;
    absl::Time started;
    Claim claim;
    std::optional<Energy> said;
    std::optional<int64_t> truth;  // microjoules that went
  };

  absl::Time Start() const { return absl::FromUnixSeconds(1'767'225'600); }

  // Three zones for 20 days; forecasts say the opposite of what comes, and after the 20 days nothing is known at all.
  std::shared_ptr<const CarbonModel> MakeCarbon() {
    std::vector<IntensityRow> rows;
    for (int zone = 0; zone < 3; ++zone) {
      for (int hour = 0; hour < 20 * 24; ++hour) {
        IntensityRow row{.start = Start() + absl::Hours(hour), .zone = absl::StrCat("Z", zone), .source = "hostile"};
        row.end = row.start + absl::Hours(1);
        row.g_per_kwh = 50 + 900 * random_.Uniform();
        rows.push_back(row);
        row.issued = Start() + absl::Hours(hour - hour % 6);
        row.g_per_kwh = 1000 - row.g_per_kwh;
        rows.push_back(row);
      }
    }
    absl::StatusOr<CarbonModel> model = CarbonModel::Create(
        {*ParseCarbonSite("a zone=Z0"), *ParseCarbonSite("b zone=Z1"), *ParseCarbonSite("c zone=Z2")}, rows, IntensityKind::kAverage, std::nullopt);
    FEDWATT_CHECK(model.ok());
    return std::make_shared<const CarbonModel>(*std::move(model));
  }

  EngineOptions MakeOptions() {
    EngineOptions options;
    options.run_id = absl::StrCat("hostile-", outcome_.federations);
    options.seed = random_.Next();
    options.rounds = 1'000'000;
    options.clients_per_round = 1 + static_cast<int64_t>(random_.Below(8));
    options.quorum = 0.3;
    options.deadline = absl::Seconds(kDeadlineSeconds);
    options.over_selection = random_.Uniform();
    options.evaluates = false;
    options.selection.policy = options_.policy;
    options.selection.slack = absl::Hours(random_.Below(48));
    options.carbon = carbon_;
    options.budget.max_power = Watts(20);
    options.budget.battery_floor = 0.3;
    if (random_.Below(4) > 0) options.budget.client_per_day = Joules(500 + 5000 * random_.Uniform());
    // The dearest client may take 20 W for 90 s; a round must be able to take as many as its quorum.
    if (random_.Below(3) > 0) options.budget.per_round = Joules(1800 * (4 + 10 * random_.Uniform()));
    if (random_.Below(8) > 0) options.budget.federation = Joules(20'000 + 400'000 * random_.Uniform());
    if (!options.budget.federation || random_.Below(2) == 0) options.budget.federation_carbon = GramsOfCarbon(3 + 30 * random_.Uniform());
    return options;
  }

  void Federation() {
    ++outcome_.federations;
    now_ = Start() + absl::Seconds(86400 * 10 * random_.Uniform());
    engine_options_ = MakeOptions();
    memory_.clear();
    open_.clear();
    waiting_.clear();
    clients_.assign(static_cast<size_t>(options_.clients), {});
    for (size_t i = 0; i < clients_.size(); ++i) {
      Client& client = clients_[i];
      client.name = absl::StrCat("client-", i);
      client.watts = 4 + 16 * random_.Uniform();
      client.site = random_.Below(3);
      client.battery = 0.3 + 0.7 * random_.Uniform();
      if (options_.misreports && random_.Below(3) == 0) client.lie = 1 + static_cast<int>(random_.Below(3));
    }
    booked_uj_ = booked_ug_ = remembered_uj_ = remembered_ug_ = true_uj_ = 0;
    cohort_.clear();
    greatest_uj_ = greatest_ug_ = 1;
    finished_ = false;
    StartEngine();
    int64_t idle = 0;
    while (!finished_ && outcome_.rounds < options_.rounds) {
      const int64_t before = outcome_.rounds;
      Step();
      idle = outcome_.rounds == before ? idle + 1 : 0;
      FEDWATT_CHECK(idle < 200'000);  // it must go on or end
    }
    if (engine_options_.budget.federation) {
      const double limit = engine_options_.budget.federation->joules();
      outcome_.true_overspend = std::max(outcome_.true_overspend, (static_cast<double>(true_uj_) / 1e6 - limit) / (static_cast<double>(greatest_uj_) / 1e6));
    }
    outcome_.joules += static_cast<double>(booked_uj_) / 1e6;
    outcome_.true_joules += static_cast<double>(true_uj_) / 1e6;
  }

  void StartEngine() {
    engine_options_.memory = memory_;
    absl::StatusOr<Engine> engine = Engine::Create(engine_options_);
    FEDWATT_CHECK(engine.ok());
    engine_ = std::make_unique<Engine>(*std::move(engine));
    for (size_t i = 0; i < clients_.size(); ++i) Join(static_cast<int64_t>(i));
  }

  void Join(int64_t partition) {
    Client& client = clients_[static_cast<size_t>(partition)];
    client.told_low = client.battery < 0.3 && !client.charging;
    Send(MemberJoined{partition, client.name, client.site, Watts(client.watts), client.battery, client.charging});
  }

  void TellSupply(int64_t partition) {
    Client& client = clients_[static_cast<size_t>(partition)];
    client.told_low = client.battery < 0.3 && !client.charging;
    Send(MemberSupply{partition, client.battery, client.charging});
  }

  // The coordinator is killed: what clients do goes on for a while, and nobody hears of it. What it had settled of the open round is lost with it, so
  // the whole cohort is charged at its most.
  void Kill() {
    ++outcome_.restarts;
    for (const auto& [id, open] : open_) {
      true_uj_ += open.truth.value_or(Joules(clients_[static_cast<size_t>(open.partition)].watts * kDeadlineSeconds * random_.Uniform()).microjoules());
    }
    booked_uj_ = remembered_uj_;
    booked_ug_ = remembered_ug_;
    for (const Claim& claim : cohort_) {
      booked_uj_ += claim.most_uj;
      booked_ug_ += claim.most_ug;
    }
    open_.clear();
    waiting_.clear();
    ++engine_options_.incarnation;
    engine_options_.next_round = engine_->state().round;
    StartEngine();
  }

  void Step() {
    now_ += absl::Seconds(1 + static_cast<int64_t>(random_.Below(20)));
    if (random_.Below(300) == 0) return Kill();
    const int64_t partition = static_cast<int64_t>(random_.Below(clients_.size()));
    Client& client = clients_[static_cast<size_t>(partition)];
    if (random_.Below(20) == 0) {  // another one's battery
      client.battery = random_.Uniform();
      client.charging = random_.Below(3) == 0;
      TellSupply(partition);
    }
    if (random_.Below(200) == 0) {
      Send(MemberLeft{partition});
      Join(partition);
    }
    if (waiting_.empty()) {
      // Nothing is under way: the timer comes.
      now_ = std::max(now_, timer_);
      Send(Tick{});
      return;
    }
    // Somebody does something.
    const size_t which = random_.Below(waiting_.size());
    const std::string id = waiting_[which];
    waiting_.erase(waiting_.begin() + static_cast<int64_t>(which));
    auto found = open_.find(id);
    if (found == open_.end()) return;
    const Client& worker = clients_[static_cast<size_t>(found->second.partition)];
    const double elapsed = absl::ToDoubleSeconds(now_ - found->second.started);
    const int64_t truth = Joules(worker.watts * std::min<double>(elapsed, kDeadlineSeconds) * (0.05 + 0.95 * random_.Uniform())).microjoules();
    found->second.truth = truth;
    std::optional<Energy> said = Microjoules(truth);
    if (worker.lie == 1) said = Microjoules(static_cast<int64_t>(0.7 * static_cast<double>(truth)));
    if (worker.lie == 2) said = Microjoules(static_cast<int64_t>(1.3 * static_cast<double>(truth)));
    if (worker.lie == 3) said = Microjoules(random_.Below(2) == 0 ? 999'999'999'999'999 : 0);
    const uint64_t what = random_.Below(8);
    if (what != 0 && what != 2) found->second.said = said;
    switch (what) {
      case 0: Send(AttemptFailed{id, Rejection::kDisconnected}); break;          // gone without a word
      case 1: Send(AttemptFailed{id, Rejection::kWithdrawn, said}); break;       // gone with one
      case 2: break;                                                             // silent until the deadline
      default: Send(UpdateArrived{id, said}); break;
    }
    if (random_.Below(4) == 0 || waiting_.empty()) {
      now_ = std::max(now_, timer_);
      Send(Tick{});
    }
  }

  void Send(const Event& event) {
    if (finished_) return;
    std::vector<Event> answers;
    for (const Effect& effect : engine_->Handle(event, now_)) {
      if (const auto* remember = std::get_if<Remember>(&effect)) {
        Keep(remember->entries);
      } else if (const auto* start = std::get_if<StartAttempt>(&effect)) {
        OnStart(*start);
      } else if (const auto* fold = std::get_if<Fold>(&effect)) {
        answers.push_back(FoldFinished{fold->attempt, random_.Below(10) == 0 ? absl::InvalidArgumentError("bad") : absl::OkStatus(), 10, random_.Uniform()});
      } else if (const auto* end = std::get_if<EndAttempt>(&effect)) {
        OnEnd(*end);
      } else if (std::holds_alternative<Aggregate>(effect)) {
        answers.push_back(AggregateFinished{absl::OkStatus(), "digest"});
      } else if (const auto* publish = std::get_if<Publish>(&effect)) {
        Keep(publish->memory);
        OnRound(publish->record);
        answers.push_back(PublishFinished{absl::OkStatus()});
      } else if (const auto* abandon = std::get_if<Abandon>(&effect)) {
        Keep(abandon->memory);
        OnRound(abandon->record);
      } else if (const auto* timer = std::get_if<SetTimer>(&effect)) {
        timer_ = timer->at;
      } else if (const auto* finish = std::get_if<Finish>(&effect)) {
        finished_ = true;
        FEDWATT_CHECK(finish->status.ok() || absl::IsFailedPrecondition(finish->status));
      }
    }
    for (const Event& answer : answers) Send(answer);
  }

  void Keep(const Memory& entries) {
    for (const auto& [key, value] : entries) memory_[key] = value;
    remembered_uj_ = booked_uj_;
    remembered_ug_ = booked_ug_;
    cohort_.clear();
  }

  void OnStart(const StartAttempt& start) {
    ++outcome_.attempts;
    if (clients_[static_cast<size_t>(start.partition)].told_low) ++outcome_.below_floor;
    const Claim& claim = engine_->state().attempts.at(start.attempt).claim;
    open_.emplace(start.attempt, Open{start.partition, now_, claim, std::nullopt, std::nullopt});
    cohort_.push_back(claim);
    waiting_.push_back(start.attempt);
    greatest_uj_ = std::max(greatest_uj_, claim.most_uj);
    greatest_ug_ = std::max(greatest_ug_, claim.most_ug);
  }

  // Our books: what was said, or else the most that can have gone; never more than the device can draw until it hears of the end.
  void OnEnd(const EndAttempt& end) {
    const auto found = open_.find(end.attempt);
    if (found == open_.end()) return;
    const Open open = found->second;
    open_.erase(found);
    const Client& client = clients_[static_cast<size_t>(open.partition)];
    const double elapsed = absl::ToDoubleSeconds(now_ - open.started);
    true_uj_ += open.truth.value_or(Joules(client.watts * std::min<double>(elapsed, kDeadlineSeconds) * random_.Uniform()).microjoules());
    const int64_t microjoules = std::min(open.said.value_or(Joules(client.watts * elapsed)).microjoules(), open.claim.most_uj);
    const CarbonReading grams = carbon_->Account(client.site, Microjoules(microjoules), open.started, now_);
    booked_uj_ += microjoules;
    booked_ug_ += grams.operational ? std::min(grams.operational->micrograms(), open.claim.most_ug) : open.claim.most_ug;
  }

  void OnRound(const RoundRecord& record) {
    ++outcome_.rounds;
    for (const auto& [reason, count] : record.refusals) outcome_.refusals[reason] += count;
    const Budget& budget = engine_->state().budget;
    outcome_.books_differ += budget.federation().spent() != booked_uj_ || budget.carbon().spent() != booked_ug_;
    const auto over = [](double& most, int64_t spent, const std::optional<int64_t>& limit, int64_t greatest) {
      if (limit) most = std::max(most, static_cast<double>(spent - *limit) / static_cast<double>(greatest));
    };
    over(outcome_.federation_overspend, booked_uj_, budget.federation().limit(), greatest_uj_);
    over(outcome_.carbon_overspend, booked_ug_, budget.carbon().limit(), greatest_ug_);
    over(outcome_.round_overspend, budget.round().spent(), budget.round().limit(), greatest_uj_);
    if (!budget.options().client_per_day) return;
    for (const auto& [name, history] : engine_->state().histories) {
      over(outcome_.client_overspend, history.day_spent_uj, budget.options().client_per_day->microjoules(), greatest_uj_);
    }
  }

  HostileOptions options_;
  Random random_;
  std::shared_ptr<const CarbonModel> carbon_;
  HostileOutcome outcome_;
  EngineOptions engine_options_;
  std::unique_ptr<Engine> engine_;
  std::map<std::string, std::string> memory_;
  std::vector<Client> clients_;
  std::map<std::string, Open> open_;
  std::vector<std::string> waiting_;
  std::vector<Claim> cohort_;  // since the engine's last Remember
  absl::Time now_, timer_;
  int64_t booked_uj_ = 0, booked_ug_ = 0, remembered_uj_ = 0, remembered_ug_ = 0, true_uj_ = 0;
  int64_t greatest_uj_ = 1, greatest_ug_ = 1;
  bool finished_ = false;
};

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_TESTING_HOSTILE_FLEET_H_
