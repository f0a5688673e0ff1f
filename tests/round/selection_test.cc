#include "fedwatt/round/selection.h"

#include <cmath>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using testing::IsOk;
using testing::StatusIs;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsSubsetOf;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

const absl::Time kStart = absl::FromUnixSeconds(1'767'225'600);  // 2026-01-01T00:00:00Z

std::vector<Member> TenMembers() {
  std::vector<Member> members;
  for (int i = 0; i < 10; ++i) members.push_back(Member{.partition = i * 3, .client = "c"});
  return members;
}

// Everything that may be known of members, differently for each and in part not at all.
std::vector<Member> Various(int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<Member> members;
  for (int64_t i = 0; i < count; ++i) {
    Member member{.partition = i, .client = absl::StrCat("c", i)};
    member.selected_count = static_cast<int64_t>(random.Below(20));
    member.accepted_count = member.selected_count / 2;
    if (member.selected_count > 0) member.last_selected_round = 1 + static_cast<int64_t>(random.Below(50));
    if (random.Below(4) > 0) member.site = random.Below(3);
    if (random.Below(4) > 0) member.battery_fraction = random.Uniform();
    member.charging = random.Below(4) == 0;
    if (random.Below(4) > 0) member.train_loss = 3 * random.Uniform();
    if (random.Below(4) > 0) member.example_count = 1 + static_cast<int64_t>(random.Below(500));
    if (random.Below(4) > 0) member.joules = 1 + 100 * random.Uniform();
    if (random.Below(4) > 0) member.seconds = 1 + 30 * random.Uniform();
    members.push_back(std::move(member));
  }
  return members;
}

// Sites 0, 1, 2 at 100, 300 and 500 g/kWh.
const CarbonModel& ThreeSites() {
  static const auto* model = [] {
    absl::StatusOr<CarbonModel> made = CarbonModel::Create(
        {*ParseCarbonSite("a g_per_kwh=100"), *ParseCarbonSite("b g_per_kwh=300"), *ParseCarbonSite("c g_per_kwh=500")}, {}, IntensityKind::kAverage, std::nullopt);
    return new CarbonModel(*std::move(made));
  }();
  return *model;
}

SelectionRequest Request(const std::vector<Member>& members, int64_t count) {
  SelectionRequest request;
  request.members = members;
  request.count = count;
  request.round = 51;
  request.rounds_left = 10;
  request.now = kStart;
  request.round_length = absl::Minutes(10);
  request.carbon = &ThreeSites();
  return request;
}

std::vector<int64_t> Select(const std::string& name, const SelectionRequest& request, Random& random) {
  absl::StatusOr<SelectionPolicy> policy = SelectionPolicies().Find(name);
  EXPECT_THAT(policy, IsOk());
  return (*policy)(request, random).partitions;
}
std::vector<int64_t> Select(const std::string& name, const SelectionRequest& request, uint64_t seed = 7) {
  Random random(seed);
  return Select(name, request, random);
}

// Every registered policy.
class SelectionContractTest : public ::testing::TestWithParam<std::string> {};

TEST_P(SelectionContractTest, ChoosesThatManyDifferentMembers) {
  for (const std::vector<Member>& members : {TenMembers(), Various(10, 1), Various(10, 2)}) {
    std::set<int64_t> known;
    for (const Member& member : members) known.insert(member.partition);
    for (int64_t count : {0, 1, 4, 10, 11, 1000}) {
      const std::vector<int64_t> chosen = Select(GetParam(), Request(members, count));
      EXPECT_THAT(chosen, SizeIs(std::min<size_t>(static_cast<size_t>(count), 10)));
      EXPECT_EQ(std::set<int64_t>(chosen.begin(), chosen.end()).size(), chosen.size());
      EXPECT_THAT(chosen, IsSubsetOf(known));
    }
  }
  const std::vector<Member> nobody;
  EXPECT_THAT(Select(GetParam(), Request(nobody, 3)), SizeIs(0));
}

TEST_P(SelectionContractTest, IsDecidedByRequestAndSeed) {
  const std::vector<Member> fresh = TenMembers(), various = Various(200, 3);
  EXPECT_EQ(Select(GetParam(), Request(fresh, 4), 1), Select(GetParam(), Request(fresh, 4), 1));
  EXPECT_EQ(Select(GetParam(), Request(various, 40), 1), Select(GetParam(), Request(various, 40), 1));
  EXPECT_NE(Select(GetParam(), Request(fresh, 5), 1), Select(GetParam(), Request(fresh, 5), 2));
}

TEST_P(SelectionContractTest, WorksWithoutKnowingAnything) {
  const std::vector<Member> members = TenMembers();
  SelectionRequest request = Request(members, 3);
  request.carbon = nullptr;
  request.slack_left = absl::Hours(24);
  request.round = 1;
  Random random(1);
  ASSERT_OK_AND_ASSIGN(SelectionPolicy policy, SelectionPolicies().Find(GetParam()));
  const Selection selection = policy(request, random);
  EXPECT_THAT(selection.partitions, SizeIs(3));
  EXPECT_FALSE(selection.not_before.has_value());
}

// Nobody who is always there is left out for good: with the counts it leads to as its next request, every member is asked within a bounded time.
TEST_P(SelectionContractTest, ForgetsNobody) {
  std::vector<Member> members = Various(40, 5);
  for (Member& member : members) {
    member.selected_count = member.accepted_count = member.last_selected_round = 0;
    member.train_loss.reset();
    member.joules.reset();
    member.seconds.reset();
    member.example_count = 0;
  }
  for (int64_t round = 1; round <= 400; ++round) {
    SelectionRequest request = Request(members, 8);
    request.round = round;
    for (int64_t partition : Select(GetParam(), request, static_cast<uint64_t>(round))) {
      Member& member = members[static_cast<size_t>(partition)];
      ++member.selected_count;
      ++member.accepted_count;
      member.last_selected_round = round;
      member.train_loss = 1.0 / static_cast<double>(member.selected_count);  // what is trained on is learned
      member.example_count = 100;
      member.joules = 10 + static_cast<double>(partition);
      member.seconds = 5;
    }
  }
  for (const Member& member : members) EXPECT_GT(member.selected_count, 0) << GetParam() << " " << member.partition;
}

INSTANTIATE_TEST_SUITE_P(All, SelectionContractTest, ::testing::ValuesIn(SelectionPolicies().Names()));

TEST(SelectionOptionsTest, RefusesWhatIsOutOfRange) {
  EXPECT_THAT(ValidateSelectionOptions({}), IsOk());
  EXPECT_THAT(ValidateSelectionOptions({.policy = "orot"}), StatusIs(absl::StatusCode::kNotFound, HasSubstr("oort")));
  for (double bad : {-0.1, 1.1, std::nan("")}) {
    EXPECT_THAT(ValidateSelectionOptions({.fairness = bad}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("selection.fairness")));
  }
  for (absl::Duration bad : {-absl::Seconds(1), absl::InfiniteDuration()}) {
    EXPECT_THAT(ValidateSelectionOptions({.slack = bad}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("selection.slack")));
  }
}

// How often each of `members` is asked in `trials` draws of `count`.
std::map<int64_t, int> Tally(const std::string& name, const std::vector<Member>& members, int64_t count, int trials) {
  std::map<int64_t, int> asked;
  Random random(3);
  for (int i = 0; i < trials; ++i) {
    for (int64_t partition : Select(name, Request(members, count), random)) ++asked[partition];
  }
  return asked;
}

TEST(UniformSelectionTest, AsksEverybodyEquallyOften) {
  // Expected 3000 each, deviation 46: five deviations fail by chance less than once in 100,000 seeds.
  for (const auto& [partition, count] : Tally("uniform", TenMembers(), 3, 10000)) EXPECT_NEAR(count, 3000, 230) << partition;
}

TEST(RoundRobinSelectionTest, AsksThoseWhoWaitedLongest) {
  std::vector<Member> members = TenMembers();
  for (Member& member : members) member.last_selected_round = 5;
  members[2].last_selected_round = 1;
  members[8].last_selected_round = 0;
  EXPECT_THAT(Select("round_robin", Request(members, 2)), UnorderedElementsAre(6, 24));
}

TEST(BatteryWeightedSelectionTest, AsksInProportionToTheCharge) {
  std::vector<Member> members = TenMembers();
  members.resize(4);
  members[0].battery_fraction = 1.0;
  members[1].battery_fraction = 0.5;
  members[2].battery_fraction = 0.0;  // at least a fifth
  members[3].battery_fraction = 0.1;  // but on a charger
  members[3].charging = true;
  std::map<int64_t, int> asked = Tally("battery_weighted", members, 1, 27000);
  // Weights 1, 0.5, 0.2, 1 of 2.7: 10000, 5000, 2000, 10000; five deviations are 400.
  EXPECT_NEAR(asked[0], 10000, 400);
  EXPECT_NEAR(asked[3], 5000, 350);
  EXPECT_NEAR(asked[6], 2000, 230);
  EXPECT_NEAR(asked[9], 10000, 400);
}

TEST(PowerOfChoiceSelectionTest, AsksTheGreatestLossesOfItsCandidates) {
  std::vector<Member> members = TenMembers();
  for (size_t i = 0; i < 10; ++i) {
    members[i].train_loss = static_cast<double>(i);
    members[i].example_count = 10;
  }
  // All ten are candidates, so the five greatest losses are certain.
  EXPECT_THAT(Select("power_of_choice", Request(members, 5)), UnorderedElementsAre(15, 18, 21, 24, 27));
  // One of two candidates of ten: the smallest loss is never asked, the greatest in a fifth of all draws.
  std::map<int64_t, int> asked = Tally("power_of_choice", members, 1, 10000);
  EXPECT_EQ(asked[0], 0);
  EXPECT_NEAR(asked[27], 2000, 200);
}

TEST(OortSelectionTest, PrefersWhatTeachesMuchAndIsQuick) {
  std::vector<Member> members = TenMembers();
  for (Member& member : members) {
    member.train_loss = 1;
    member.example_count = 100;
    member.seconds = 10;
    member.last_selected_round = 1000000;  // no bonus for age
  }
  members[3].train_loss = 50;
  members[6].train_loss = 49;
  members[6].seconds = 100;  // ten times too slow: a hundredth
  // Nobody is untried, so the best is certain: 0.95 of the first place's utility is only its own.
  EXPECT_THAT(Select("oort", Request(members, 1)), UnorderedElementsAre(9));
  EXPECT_THAT(Select("oort", Request(members, 2)), Contains(9));
  members[0].train_loss.reset();  // never tried: at least a fifth of the cohort is
  EXPECT_THAT(Select("oort", Request(members, 2)), UnorderedElementsAre(9, 0));
}

TEST(EnergyAwareSelectionTest, TakesTheMostUtilityPerJouleButOwesTheForgotten) {
  std::vector<Member> members = TenMembers();
  for (size_t i = 0; i < 10; ++i) {
    members[i].train_loss = 1;
    members[i].example_count = 100;
    members[i].joules = 10.0 * static_cast<double>(i + 1);
    members[i].selected_count = 10;
  }
  EXPECT_THAT(Select("energy_aware", Request(members, 3)), UnorderedElementsAre(0, 3, 6));
  members[9].selected_count = 3;  // less than half of the mean, 9.6, in whole numbers
  EXPECT_THAT(Select("energy_aware", Request(members, 3)), UnorderedElementsAre(27, 0, 3));
  SelectionRequest unfair = Request(members, 3);
  unfair.fairness = 0;
  EXPECT_THAT(Select("energy_aware", unfair), UnorderedElementsAre(0, 3, 6));
}

TEST(CarbonAwareSelectionTest, TakesCleanSitesWithinTheBoundsOfFairness) {
  std::vector<Member> members = TenMembers();
  for (size_t i = 0; i < 10; ++i) {
    members[i].site = i % 3;  // 0, 9, 18, 27 at the clean one
    members[i].joules = 10;
    members[i].selected_count = 10;
  }
  EXPECT_THAT(Select("carbon_aware", Request(members, 4)), UnorderedElementsAre(0, 9, 18, 27));
  members[0].selected_count = 23;  // no more: 1.5 times the mean after the rounds left, 15.3, rounded up
  EXPECT_THAT(Select("carbon_aware", Request(members, 4)), UnorderedElementsAre(9, 18, 27, 3));
  members[2].selected_count = 0;  // owed as often as there are rounds left, though at the dirtiest site
  SelectionRequest last = Request(members, 4);
  last.rounds_left = 3;
  EXPECT_THAT(Select("carbon_aware", last), Contains(6));
  // Fewer joules at a dearer site can be fewer grams: 300 g/kWh * 3 J < 100 * 10.
  members[1].joules = 3;
  members[0].selected_count = members[2].selected_count = 10;
  EXPECT_THAT(Select("carbon_aware", Request(members, 1)), UnorderedElementsAre(3));
}

// An hourly series of one zone: `values` observed the day before, and a forecast of today as `values`, issued at midnight.
CarbonModel Daily(const std::vector<double>& values) {
  std::vector<IntensityRow> rows;
  for (size_t hour = 0; hour < values.size(); ++hour) {
    IntensityRow row{.start = kStart + absl::Hours(hour), .zone = "T", .g_per_kwh = values[hour], .source = "test"};
    row.end = row.start + absl::Hours(1);
    row.issued = kStart;
    rows.push_back(row);
  }
  return *CarbonModel::Create({*ParseCarbonSite("t zone=T")}, rows, IntensityKind::kAverage, std::nullopt);
}

std::optional<absl::Time> NotBefore(const CarbonModel& carbon, absl::Duration slack, int64_t rounds_left, absl::Duration round_length = absl::Hours(1)) {
  std::vector<Member> members = TenMembers();
  for (Member& member : members) member.site = 0;
  SelectionRequest request = Request(members, 3);
  request.carbon = &carbon;
  request.slack_left = slack;
  request.rounds_left = rounds_left;
  request.round_length = round_length;
  absl::StatusOr<SelectionPolicy> policy = SelectionPolicies().Find("carbon_aware");
  Random random(1);
  return (*policy)(request, random).not_before;
}

TEST(CarbonAwareSelectionTest, WaitsForTheCleanestHoursThatTheSlackReaches) {
  const CarbonModel carbon = Daily({400, 390, 300, 200, 100, 150, 350, 400});
  EXPECT_EQ(NotBefore(carbon, absl::Hours(7), 1), kStart + absl::Hours(4));
  EXPECT_EQ(NotBefore(carbon, absl::Hours(3), 1), kStart + absl::Hours(3));
  EXPECT_FALSE(NotBefore(carbon, absl::ZeroDuration(), 1).has_value());
  // Three rounds want the hours 3, 4 and 5.
  EXPECT_EQ(NotBefore(carbon, absl::Hours(5), 3), kStart + absl::Hours(3));
  // Seven rounds with one hour to spare: only the dearest of eight is left out, and it is the present one or one like it.
  EXPECT_EQ(NotBefore(carbon, absl::Hours(1), 5), kStart + absl::Hours(1));
}

TEST(CarbonAwareSelectionTest, StaysWhenLaterIsHardlyBetterOrNotKnown) {
  EXPECT_FALSE(NotBefore(Daily({100, 99, 99, 99}), absl::Hours(3), 1).has_value());  // within the margin
  EXPECT_FALSE(NotBefore(Daily({100, 200, 300}), absl::Hours(24), 1).has_value());
  EXPECT_FALSE(NotBefore(Daily({100}), absl::Hours(24), 1).has_value());
}

}  // namespace
}  // namespace fedwatt
