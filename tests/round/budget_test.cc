#include "fedwatt/round/budget.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/random.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using testing::IsOk;
using testing::StatusIs;
using ::testing::HasSubstr;

const absl::Time kNoon = absl::FromUnixSeconds(1'767'225'600 + 12 * 3600);

TEST(AccountTest, HoldsOpenAttemptsAtTheirMost) {
  Account account(100);
  ASSERT_TRUE(account.Admits(30));
  account.Reserve(60);
  EXPECT_TRUE(account.Admits(40));
  EXPECT_FALSE(account.Admits(41));
  account.Settle(60, 25);
  EXPECT_EQ(account.spent(), 25);
  EXPECT_EQ(account.reserved(), 0);
  EXPECT_EQ(account.left(), 75);
  account.Reserve(80);
  account.Settle(80, 80);  // a measured overrun
  EXPECT_EQ(account.left(), -5);
  EXPECT_FALSE(account.Admits(0));
  account.Renew();
  EXPECT_EQ(account.spent(), 5);  // carried
  EXPECT_TRUE(account.Admits(95));
}

TEST(AccountTest, WithoutALimitOnlyCounts) {
  Account account;
  EXPECT_TRUE(account.Admits(std::numeric_limits<int64_t>::max()));
  account.Reserve(7);
  account.Settle(7, 9);
  EXPECT_EQ(account.spent(), 9);
  EXPECT_FALSE(account.left().has_value());
}

TEST(AccountTest, SaturatesInsteadOfWrapping) {
  Account account(std::numeric_limits<int64_t>::max());
  account.Reserve(std::numeric_limits<int64_t>::max());
  EXPECT_TRUE(account.Admits(0));
  account.Restore(std::numeric_limits<int64_t>::max() - 1);
  EXPECT_TRUE(account.Admits(std::numeric_limits<int64_t>::max()));  // saturated at the limit, not below it
}

// However attempts overlap and whatever they take up to their most, at most one attempt's most goes beyond the limit, and nothing is counted twice.
TEST(AccountTest, OverspendsByLessThanOneAttempt) {
  Random random(11);
  for (int run = 0; run < 2000; ++run) {
    const int64_t limit = 1 + static_cast<int64_t>(random.Below(5000));
    Account account(limit);
    std::vector<int64_t> open;
    int64_t truth = 0, greatest = 0;
    for (int step = 0; step < 200; ++step) {
      const int64_t most = 1 + static_cast<int64_t>(random.Below(200));
      const int64_t expected = static_cast<int64_t>(random.Below(static_cast<uint64_t>(most) + 1));
      if (random.Below(2) == 0 && account.Admits(expected)) {
        account.Reserve(most);
        open.push_back(most);
      } else if (!open.empty()) {
        std::swap(open[random.Below(open.size())], open.back());
        const int64_t actual = random.Below(3) == 0 ? open.back() : static_cast<int64_t>(random.Below(static_cast<uint64_t>(open.back()) + 1));
        account.Settle(open.back(), actual);
        greatest = std::max(greatest, open.back());
        truth += actual;
        open.pop_back();
      }
    }
    for (int64_t most : open) account.Settle(most, most), truth += most, greatest = std::max(greatest, most);
    EXPECT_EQ(account.spent(), truth);
    EXPECT_EQ(account.reserved(), 0);
    EXPECT_LE(account.spent(), limit + greatest);
  }
}

BudgetOptions Limited() {
  BudgetOptions options;
  options.client_per_day = Joules(100);
  options.per_round = Joules(300);
  options.federation = Joules(1000);
  options.federation_carbon = GramsOfCarbon(1);
  options.battery_floor = 0.3;
  options.max_power = Watts(5);
  return options;
}

TEST(BudgetOptionsTest, RefusesWhatIsOutOfRange) {
  EXPECT_THAT(ValidateBudgetOptions({}), IsOk());
  EXPECT_THAT(ValidateBudgetOptions(Limited()), IsOk());
  BudgetOptions options = Limited();
  options.max_power = Power();
  EXPECT_THAT(ValidateBudgetOptions(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("budget.max_watts")));
  options = Limited();
  options.federation = Energy();
  EXPECT_THAT(ValidateBudgetOptions(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("budget.federation_joules")));
  for (double bad : {-0.1, 1.5, std::nan("")}) {
    options = Limited();
    options.battery_floor = bad;
    EXPECT_THAT(ValidateBudgetOptions(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("budget.battery_floor")));
  }
  options = Limited();
  options.max_g_per_kwh = 0;
  EXPECT_THAT(ValidateBudgetOptions(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("budget.max_g_per_kwh")));
}

TEST(BudgetTest, PricesAtWorstWhatADeviceCanDraw) {
  const Budget budget(Limited());
  ClientHistory history;
  const Claim unknown = budget.Price(history, std::nullopt, absl::Seconds(60), 360);
  EXPECT_EQ(unknown.most_uj, 300'000'000);      // 5 W for 60 s
  EXPECT_EQ(unknown.expected_uj, 300'000'000);  // nothing better is known
  EXPECT_EQ(unknown.most_ug, 100'000);          // at 1200 g/kWh
  EXPECT_EQ(unknown.expected_ug, 30'000);
  for (int i = 0; i < 50; ++i) history.NoteCost(10'000'000);
  const Claim known = budget.Price(history, Watts(2), absl::Seconds(60), std::nullopt);
  EXPECT_EQ(known.most_uj, 120'000'000);
  EXPECT_NEAR(static_cast<double>(known.expected_uj), 10e6, 1e4);  // always the same: no scatter is left
  EXPECT_NEAR(static_cast<double>(known.expected_ug), 10e6 * 1200 / 3.6e6, 10);
}

TEST(BudgetTest, RefusesBatteriesAndSpentDaysByName) {
  Budget budget(Limited());
  ClientHistory history;
  EXPECT_EQ(budget.Refuses(history, 0.29, false, kNoon), "battery_floor");
  EXPECT_FALSE(budget.Refuses(history, 0.29, true, kNoon).has_value());  // it charges
  EXPECT_FALSE(budget.Refuses(history, std::nullopt, false, kNoon).has_value());
  const Claim claim = budget.Price(history, std::nullopt, absl::Seconds(60), std::nullopt);
  EXPECT_FALSE(budget.Reserve(history, claim).has_value());
  budget.Settle(history, claim, 250'000'000, 0);  // two and a half days' worth
  history.NoteCost(250'000'000);
  EXPECT_EQ(budget.Refuses(history, std::nullopt, false, kNoon), "client_budget");
  // A debt of 150 J is paid by the next day's 100 J, and 50 J of the one after.
  EXPECT_EQ(budget.Refuses(history, std::nullopt, false, kNoon + absl::Hours(24)), "client_budget");
  EXPECT_EQ(history.day_spent_uj, 150'000'000);
  EXPECT_EQ(budget.Refuses(history, std::nullopt, false, kNoon + absl::Hours(48)), "client_budget");
  EXPECT_EQ(history.day_spent_uj, 50'000'000);
}

TEST(BudgetTest, NamesTheAccountThatIsSpent) {
  BudgetOptions options = Limited();
  options.federation = Joules(1);
  ClientHistory history;
  const Claim claim{.expected_uj = 2'000'000, .most_uj = 2'000'000, .expected_ug = 1, .most_ug = 1};
  EXPECT_EQ(Budget(options).Reserve(history, claim), "federation_budget");
  options = Limited();
  options.federation_carbon = Micrograms(0);
  EXPECT_EQ(Budget(options).Reserve(history, claim), "carbon_budget");
  options = Limited();
  options.per_round = Joules(1);
  EXPECT_EQ(Budget(options).Reserve(history, claim), "round_budget");
  EXPECT_EQ(history.open_uj, 0);
}

TEST(BudgetTest, ChargesNoMoreThanADeviceCanDraw) {
  Budget budget(Limited());
  ClientHistory history;
  const Claim claim = budget.Price(history, std::nullopt, absl::Seconds(10), std::nullopt);
  ASSERT_FALSE(budget.Reserve(history, claim).has_value());
  budget.Settle(history, claim, std::numeric_limits<int64_t>::max(), -5);
  EXPECT_EQ(budget.federation().spent(), claim.most_uj);
  EXPECT_EQ(budget.carbon().spent(), 0);
}

TEST(BudgetTest, SurvivesARestartAndChargesWhatWasUnderWay) {
  Budget budget(Limited());
  ClientHistory history;
  history.NoteCost(3'000'000);
  history.train_loss = 1.0 / 3;
  history.last_selected_round = 4;
  const Claim claim = budget.Price(history, std::nullopt, absl::Seconds(10), 100);
  ASSERT_FALSE(budget.Reserve(history, claim).has_value());
  Budget after(Limited());
  ASSERT_THAT(after.Restore(budget.Save()), IsOk());
  ASSERT_OK_AND_ASSIGN(ClientHistory recalled, ClientHistory::Parse(history.Save()));
  EXPECT_EQ(recalled.Save(), history.Save());
  EXPECT_EQ(recalled.train_loss, history.train_loss);
  after.Forfeit(recalled);
  after.Forfeit(recalled);  // once is enough
  EXPECT_EQ(after.federation().spent(), claim.most_uj);
  EXPECT_EQ(after.carbon().spent(), claim.most_ug);
  EXPECT_EQ(recalled.day_spent_uj, claim.most_uj);
}

TEST(BudgetTest, RefusesDamagedMemory) {
  Budget budget(Limited());
  for (const char* text : {"", "1", "2 0 0 0", "1 0 0 x", "1 -1 0 0", "1 0 0 0 0"}) EXPECT_THAT(budget.Restore(text), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("damaged"))) << text;
  const std::string good = ClientHistory().Save();
  EXPECT_THAT(ClientHistory::Parse(good), IsOk());
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = 'x';
    EXPECT_THAT(ClientHistory::Parse(bad), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("damaged"))) << bad;
  }
}

}  // namespace
}  // namespace fedwatt
