#include "fedwatt/base/registry.h"

#include "fedwatt/base/log.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(RegistryTest, FindsWhatWasRegisteredAndSortsNames) {
  Registry<int> registry("codec");
  ASSERT_THAT(registry.Register("int8", 8), IsOk());
  ASSERT_THAT(registry.Register("bfloat16", 16), IsOk());
  EXPECT_EQ(*registry.Find("int8"), 8);
  EXPECT_THAT(registry.Names(), ElementsAre("bfloat16", "int8"));
}

TEST(RegistryTest, RefusesEmptyAndTakenNames) {
  Registry<int> registry("codec");
  ASSERT_THAT(registry.Register("int8", 8), IsOk());
  EXPECT_THAT(registry.Register("int8", 9), StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("int8")));
  EXPECT_THAT(registry.Register("", 1), StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_EQ(*registry.Find("int8"), 8);
}

TEST(RegistryTest, SuggestsTheNearestName) {
  Registry<int> registry("codec");
  ASSERT_THAT(registry.Register("bfloat16", 16), IsOk());
  ASSERT_THAT(registry.Register("int8", 8), IsOk());
  EXPECT_THAT(registry.Find("int9"), StatusIs(absl::StatusCode::kNotFound, AllOf(HasSubstr("unknown codec 'int9'"), HasSubstr("did you mean 'int8'?"))));
  EXPECT_THAT(registry.Find("quantum"), StatusIs(absl::StatusCode::kNotFound, AllOf(Not(HasSubstr("did you mean")), HasSubstr("known: bfloat16, int8"))));
}

TEST(NearestNameTest, CountsEdits) {
  const std::vector<std::string> names = {"fedavg", "fedadam", "fedyogi"};
  EXPECT_EQ(NearestName("fedavg", names), "fedavg");
  EXPECT_EQ(NearestName("fedavgg", names), "fedavg");
  EXPECT_EQ(NearestName("fedyog", names), "fedyogi");
  EXPECT_EQ(NearestName("krum", names), "");
  EXPECT_EQ(NearestName("ab", {"cb", "ad"}), "cb");  // a tie goes to the earlier one
  EXPECT_EQ(NearestName("", {}), "");
  EXPECT_EQ(NearestName(std::string(100'000, 'a'), names), "");
}

TEST(LogTest, CallsTheSinkAndBearsAnEmptyOne) {
  std::string seen;
  const LogSink sink = [&](LogLevel level, std::string_view message) { seen = absl::StrCat(std::string(LogLevelName(level)), " ", std::string(message)); };
  Log(sink, LogLevel::kWarning, "hot");
  EXPECT_EQ(seen, "warning hot");
  Log(LogSink(), LogLevel::kError, "nobody listens");
}

}  // namespace
}  // namespace fedwatt
