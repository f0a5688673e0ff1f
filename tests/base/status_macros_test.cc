#include "fedwatt/base/status_macros.h"

#include <memory>

#include "absl/strings/cord.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::Eq;

absl::StatusOr<std::unique_ptr<int>> Make(bool good) {
  if (good) return std::make_unique<int>(7);
  return absl::NotFoundError("gone");
}

absl::Status Use(bool good, int& out) {
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<int> value, Make(good));
  out = *value;
  FEDWATT_RETURN_IF_ERROR(Make(true).status());
  return absl::OkStatus();
}

TEST(StatusMacrosTest, AssignOrReturn) {
  int out = 0;
  EXPECT_THAT(Use(true, out), IsOk());
  EXPECT_EQ(out, 7);
  EXPECT_THAT(Use(false, out), StatusIs(absl::StatusCode::kNotFound, Eq("gone")));
}

TEST(AnnotateTest, PrefixesAndKeepsCodeAndPayloads) {
  absl::Status status = absl::DataLossError("bad byte");
  status.SetPayload("url", absl::Cord("p"));
  const absl::Status annotated = Annotate(status, "client 3");
  EXPECT_THAT(annotated, StatusIs(absl::StatusCode::kDataLoss, Eq("client 3: bad byte")));
  EXPECT_EQ(annotated.GetPayload("url"), absl::Cord("p"));
  EXPECT_THAT(Annotate(absl::OkStatus(), "client 3"), IsOk());
}

TEST(CheckDeathTest, NamesTheBrokenInvariant) {
  FEDWATT_CHECK(1 + 1 == 2);
  EXPECT_DEATH(FEDWATT_CHECK(1 + 1 == 3), "broken invariant: 1 \\+ 1 == 3");
}

}  // namespace
}  // namespace fedwatt
