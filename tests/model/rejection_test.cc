#include "fedwatt/model/rejection.h"

#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "fedwatt/base/status_macros.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

TEST(RejectionTest, EveryReasonHasItsOwnSnakeCaseName) {
  std::set<std::string_view> names;
  for (Rejection rejection : AllRejections()) {
    const std::string_view name = RejectionName(rejection);
    EXPECT_TRUE(names.insert(name).second) << name;
    for (char c : name) EXPECT_TRUE(absl::ascii_islower(c) || c == '_') << name;
  }
  EXPECT_EQ(names.size(), 17u);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_EQ(RejectionName(Rejection::kWrongLayout), "wrong_layout");
  EXPECT_EQ(RejectionName(static_cast<Rejection>(99)), "unknown");
}

TEST(RejectionTest, TravelsInAStatusAndSurvivesAnnotation) {
  for (Rejection rejection : AllRejections()) {
    const absl::Status status = WithRejection(absl::InvalidArgumentError("bad"), rejection);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), "bad");
    EXPECT_EQ(RejectionOf(status), rejection);
    EXPECT_EQ(RejectionOf(Annotate(Annotate(status, "client 3"), "round 1")), rejection);
  }
}

TEST(RejectionTest, LastReasonWins) {
  const absl::Status status = WithRejection(absl::DataLossError("x"), Rejection::kGarbage);
  EXPECT_EQ(RejectionOf(WithRejection(status, Rejection::kTruncated)), Rejection::kTruncated);
}

TEST(RejectionTest, IsAbsentWhereNobodySetIt) {
  EXPECT_EQ(RejectionOf(absl::OkStatus()), std::nullopt);
  EXPECT_EQ(RejectionOf(absl::DataLossError("x")), std::nullopt);
  EXPECT_EQ(RejectionOf(WithRejection(absl::OkStatus(), Rejection::kLate)), std::nullopt);
  absl::Status foreign = absl::DataLossError("x");
  foreign.SetPayload("type.fedwatt/rejection", absl::Cord("from the future"));
  EXPECT_EQ(RejectionOf(foreign), std::nullopt);
}

}  // namespace
}  // namespace fedwatt
