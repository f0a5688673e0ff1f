#include "fedwatt/round/selection.h"

#include <set>

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

std::vector<Member> TenMembers() {
  std::vector<Member> members;
  for (int i = 0; i < 10; ++i) members.push_back(Member{.partition = i * 3, .client = "c"});
  return members;
}

// Every registered policy.
class SelectionContractTest : public ::testing::TestWithParam<std::string> {};

TEST_P(SelectionContractTest, ChoosesThatManyDifferentMembers) {
  ASSERT_OK_AND_ASSIGN(SelectionPolicy policy, SelectionPolicies().Find(GetParam()));
  const std::vector<Member> members = TenMembers();
  std::set<int64_t> known;
  for (const Member& member : members) known.insert(member.partition);
  for (int64_t count : {0, 1, 4, 10, 11, 1000}) {
    Random random(7);
    const std::vector<int64_t> chosen = policy(members, count, random);
    EXPECT_THAT(chosen, SizeIs(std::min<size_t>(static_cast<size_t>(count), 10)));
    EXPECT_EQ(std::set<int64_t>(chosen.begin(), chosen.end()).size(), chosen.size());
    for (int64_t partition : chosen) EXPECT_TRUE(known.contains(partition));
  }
  Random random(7);
  EXPECT_THAT(policy({}, 3, random), SizeIs(0));
}

TEST_P(SelectionContractTest, IsDecidedByTheSeed) {
  ASSERT_OK_AND_ASSIGN(SelectionPolicy policy, SelectionPolicies().Find(GetParam()));
  Random a(1), b(1), c(2);
  const std::vector<Member> members = TenMembers();
  EXPECT_EQ(policy(members, 4, a), policy(members, 4, b));
  EXPECT_NE(policy(members, 5, a), policy(members, 5, c));
}

INSTANTIATE_TEST_SUITE_P(All, SelectionContractTest, ::testing::ValuesIn(SelectionPolicies().Names()));

TEST(UniformSelectionTest, AsksEverybodyEquallyOften) {
  ASSERT_OK_AND_ASSIGN(SelectionPolicy policy, SelectionPolicies().Find("uniform"));
  const std::vector<Member> members = TenMembers();
  std::map<int64_t, int> asked;
  Random random(3);
  for (int i = 0; i < 10000; ++i) {
    for (int64_t partition : policy(members, 3, random)) ++asked[partition];
  }
  // Expected 3000 each, deviation 46: five deviations fail by chance less than once in 100,000 seeds.
  for (const auto& [partition, count] : asked) EXPECT_NEAR(count, 3000, 230) << partition;
}

TEST(RoundRobinSelectionTest, AsksThoseWhoWaitedLongest) {
  ASSERT_OK_AND_ASSIGN(SelectionPolicy policy, SelectionPolicies().Find("round_robin"));
  std::vector<Member> members = TenMembers();
  for (Member& member : members) member.last_selected_round = 5;
  members[2].last_selected_round = 1;
  members[8].last_selected_round = 0;
  Random random(3);
  EXPECT_THAT(policy(members, 2, random), UnorderedElementsAre(6, 24));
}

}  // namespace
}  // namespace fedwatt
