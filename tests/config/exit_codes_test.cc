#include "fedwatt/config/exit_codes.h"

#include "fedwatt/base/status_macros.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

TEST(ExitCodeTest, FollowsFromTheStatusCode) {
  EXPECT_EQ(ExitCodeFor(absl::OkStatus()), ExitCode::kDone);
  EXPECT_EQ(ExitCodeFor(absl::InvalidArgumentError("x")), ExitCode::kConfiguration);
  EXPECT_EQ(ExitCodeFor(absl::PermissionDeniedError("x")), ExitCode::kRefused);
  EXPECT_EQ(ExitCodeFor(absl::UnauthenticatedError("x")), ExitCode::kRefused);
  EXPECT_EQ(ExitCodeFor(absl::UnavailableError("x")), ExitCode::kUnreachable);
  EXPECT_EQ(ExitCodeFor(absl::DataLossError("x")), ExitCode::kDamagedState);
  EXPECT_EQ(ExitCodeFor(absl::InternalError("x")), ExitCode::kBug);
  EXPECT_EQ(ExitCodeFor(absl::UnknownError("x")), ExitCode::kBug);
}

TEST(ExitCodeTest, MarkBeatsTheStatusCodeAndSurvivesAnnotation) {
  const absl::Status marked = WithExitCode(absl::NotFoundError("train-images"), ExitCode::kData);
  EXPECT_EQ(ExitCodeFor(marked), ExitCode::kData);
  EXPECT_EQ(ExitCodeFor(Annotate(marked, "reading data")), ExitCode::kData);
  EXPECT_EQ(ExitCodeFor(WithExitCode(absl::OkStatus(), ExitCode::kData)), ExitCode::kDone);
}

TEST(ExitCodeTest, EveryCodeIsExplainedOnceInOrder) {
  std::vector<int> codes;
  for (const ExitCodeExplanation& explanation : ExitCodeExplanations()) {
    codes.push_back(static_cast<int>(explanation.code));
    EXPECT_FALSE(explanation.name.empty());
    EXPECT_FALSE(explanation.cause.empty());
    EXPECT_FALSE(explanation.remedy.empty());
  }
  EXPECT_EQ(codes, (std::vector<int>{0, 2, 3, 4, 5, 6, 7, 8, 70}));
}

TEST(ExitCodeTest, ExplainsKnownCodesAndListsThemForOthers) {
  ASSERT_OK_AND_ASSIGN(const ExitCodeExplanation data, ExplainExitCode(6));
  EXPECT_EQ(data.code, ExitCode::kData);
  EXPECT_THAT(ExplainExitCode(1), StatusIs(absl::StatusCode::kNotFound, HasSubstr("0, 2, 3, 4, 5, 6, 7, 8, 70")));
}

}  // namespace
}  // namespace fedwatt
