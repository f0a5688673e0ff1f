// Joules and grams that may be spent: reserved before an attempt starts, settled when it ends, debts carried.
#ifndef FEDWATT_ROUND_BUDGET_H_
#define FEDWATT_ROUND_BUDGET_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/energy/carbon.h"
#include "fedwatt/energy/quantities.h"
#include "fedwatt/round/work_history.h"

namespace fedwatt {

// An allowance in integer units (microjoules, micrograms). Guarantee: while no attempt takes more than the `most` it was admitted with, the sum spent
// never exceeds the limit by more than one attempt's `most` less what it was expected to take, however many run at once: every open attempt is
// held at its most, only the one that is being admitted at what it is expected to take. Thread-compatible.
class Account {
 public:
  Account() = default;  // without a limit
  explicit Account(std::optional<int64_t> limit) : limit_(limit) {}

  bool Admits(int64_t expected) const { return !limit_.has_value() || Plus(Plus(spent_, reserved_), expected) <= *limit_; }
  // Call after Admits(). `most` >= 0.
  void Reserve(int64_t most) { reserved_ = Plus(reserved_, most); }
  // The attempt that had reserved `most` took `actual`.
  void Settle(int64_t most, int64_t actual) {
    reserved_ -= most;
    spent_ = Plus(spent_, actual);
  }
  // A new period: what was spent beyond the limit of the one before stays as debt.
  void Renew() { spent_ = limit_.has_value() && spent_ > *limit_ ? spent_ - *limit_ : 0; }
  void Restore(int64_t spent) { spent_ = spent; }

  const std::optional<int64_t>& limit() const { return limit_; }
  int64_t spent() const { return spent_; }
  int64_t reserved() const { return reserved_; }
  std::optional<int64_t> left() const { return limit_.has_value() ? std::optional<int64_t>(*limit_ - spent_ - reserved_) : std::nullopt; }

 private:
  // Saturates instead of wrapping round.
  static int64_t Plus(int64_t a, int64_t b) {
    int64_t sum = 0;
    return __builtin_add_overflow(a, b, &sum) ? (a > 0 ? INT64_MAX : INT64_MIN) : sum;
  }
  std::optional<int64_t> limit_;
  int64_t spent_ = 0, reserved_ = 0;
};

struct BudgetOptions {
  std::optional<Energy> client_per_day;          // of one client, by UTC days
  std::optional<Energy> per_round;               // of all clients of one round
  std::optional<Energy> federation;              // of all clients of the run
  std::optional<CarbonMass> federation_carbon;   // likewise
  double battery_floor = 0;                      // [0, 1]: who runs on a battery with less takes no part
  Power max_power;                               // the most a device can draw, where its member does not say; > 0 with any limit above
  double max_g_per_kwh = 1200;                   // the most a grid emits, where nothing better is known; > 0

  bool limited() const { return client_per_day || per_round || federation || federation_carbon; }
};
// Errors: INVALID_ARGUMENT, naming the option, its range and its value
absl::Status ValidateBudgetOptions(const BudgetOptions& options);

// What the coordinator remembers of a member, one partition of one client, beyond sessions and its own restarts.
struct ClientHistory {
  int64_t last_selected_round = 0, selected_count = 0, accepted_count = 0;
  std::optional<double> train_loss;  // of its last accepted update
  int64_t example_count = 0;         // likewise; 0 = not known
  int64_t cost_count = 0;            // attempts whose joules are known
  double cost_mean_uj = 0, cost_variance = 0;  // exponentially weighted
  double seconds = 0;                // likewise, of accepted attempts; 0 = not known
  int64_t day = 0;                   // days since 1970 to which day_spent_uj belongs
  int64_t day_spent_uj = 0;
  int64_t open_uj = 0, open_ug = 0;  // reserved by an attempt under way
  WorkHistory work;                  // kept where the fit policy measures

  void NoteCost(int64_t microjoules);
  void NoteSeconds(double value);
  // The joules that nine of ten attempts stay below, were they normal; nullopt before the first.
  std::optional<int64_t> UpperCost() const;

  // A line of text, the same for the same history. Errors of Parse: DATA_LOSS
  std::string Save() const;
  static absl::StatusOr<ClientHistory> Parse(std::string_view text);
};

// What an attempt may take and takes, in all accounts at once.
struct Claim {
  int64_t expected_uj = 0, most_uj = 0;
  int64_t expected_ug = 0, most_ug = 0;
};

// The accounts of one run. Time comes with each call; nothing here looks at a clock. Thread-compatible.
class Budget {
 public:
  Budget() = default;
  explicit Budget(const BudgetOptions& options);

  // What the client may still spend today; nullopt: as much as it wants. Rolls its day over.
  std::optional<Energy> LeftToday(ClientHistory& history, absl::Time now) const;
  // Why the client may not be asked now: "battery_floor", "client_budget", or nullopt. Rolls its day over. `expected_uj`: what its attempt would take, where
  // that is known better than by what all its attempts took.
  std::optional<std::string> Refuses(ClientHistory& history, const std::optional<double>& battery_fraction, bool charging, absl::Time now,
                                     const std::optional<int64_t>& expected_uj = std::nullopt) const;

  // What an attempt of this client may come to; see Account. `g_per_kwh`: of its site, where known; `expected_uj` as for Refuses().
  Claim Price(const ClientHistory& history, const std::optional<Power>& max_power, absl::Duration longest, const std::optional<double>& g_per_kwh,
              const std::optional<int64_t>& expected_uj = std::nullopt) const;

  // Starts a round's account; its predecessor's debt stays.
  void OpenRound() { round_.Renew(); }
  // Why the round can't have this attempt too: "round_budget", "federation_budget", "carbon_budget", or nullopt, when it has been reserved.
  std::optional<std::string> Reserve(ClientHistory& history, const Claim& claim);
  // After a restart: an attempt that goes on holds again what it held.
  void Readmit(ClientHistory& history, const Claim& claim);
  // Ends a reservation. What a client claims beyond the most that its device can draw is charged as that most: nothing else is credible.
  void Settle(ClientHistory& history, const Claim& claim, int64_t microjoules, int64_t micrograms);
  // After a restart: an attempt that was under way and does not go on is charged in full.
  void Forfeit(ClientHistory& history);

  const BudgetOptions& options() const { return options_; }
  const Account& round() const { return round_; }
  const Account& federation() const { return federation_; }
  const Account& carbon() const { return carbon_; }

  std::string Save() const;
  // Errors: DATA_LOSS
  absl::Status Restore(std::string_view text);

 private:
  BudgetOptions options_;
  Account round_, federation_, carbon_;
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_BUDGET_H_
