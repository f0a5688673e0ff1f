#include "fedwatt/rpc/status_conversion.h"

#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/rejection.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

TEST(StatusConversionTest, KeepsEveryCodeAndReason) {
  for (int code = 1; code <= 16; ++code) {
    absl::Status status(static_cast<absl::StatusCode>(code), "what happened");
    EXPECT_EQ(FromGrpcStatus(ToGrpcStatus(status)), status);
    EXPECT_EQ(ToGrpcStatus(status).error_code(), code);
  }
  for (Rejection rejection : AllRejections()) {
    absl::Status back = FromGrpcStatus(ToGrpcStatus(WithRejection(absl::AbortedError("no"), rejection)));
    EXPECT_EQ(RejectionOf(back), rejection);
    EXPECT_EQ(back.message(), "no");
  }
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
}

TEST(StatusConversionTest, KeepsRetryWindowsThroughAnnotation) {
  v1::RetryWindows retry;
  retry.mutable_accepted()->mutable_min_duration()->set_seconds(1);
  retry.mutable_not_now()->mutable_max_duration()->set_seconds(9);
  absl::Status sent = Annotate(WithRejection(WithRetry(absl::ResourceExhaustedError("busy"), retry), Rejection::kLate), "check-in");
  absl::Status back = FromGrpcStatus(ToGrpcStatus(sent));
  ASSERT_TRUE(RetryOf(back).has_value());
  EXPECT_EQ(RetryOf(back)->SerializeAsString(), retry.SerializeAsString());
  EXPECT_EQ(RejectionOf(back), Rejection::kLate);
  EXPECT_EQ(back.message(), "check-in: busy");
  EXPECT_FALSE(RetryOf(absl::AbortedError("plain")).has_value());
}

TEST(StatusConversionTest, SurvivesForeignDetails) {
  absl::Status status = FromGrpcStatus(grpc::Status(grpc::StatusCode::NOT_FOUND, "m", "\xff\xff not a message"));
  EXPECT_EQ(status, absl::NotFoundError("m"));
  v1::StatusDetails details;
  details.add_details()->set_type_url("type.googleapis.com/foreign.Thing");
  v1::ErrorDetail unknown;
  unknown.set_rejection(static_cast<v1::RejectionReason>(99));
  details.add_details()->PackFrom(unknown);
  EXPECT_EQ(FromGrpcStatus(grpc::Status(grpc::StatusCode::NOT_FOUND, "m", details.SerializeAsString())), absl::NotFoundError("m"));
}

TEST(StatusConversionTest, CutsLongMessages) {
  grpc::Status status = ToGrpcStatus(WithRejection(absl::InternalError(std::string(100000, 'x')), Rejection::kGarbage));
  EXPECT_EQ(status.error_message().size(), 1024u);
  EXPECT_LT(status.error_details().size(), 2048u);
}

TEST(StatusConversionTest, KnowsWhatIsTransient) {
  EXPECT_TRUE(IsTransient(absl::UnavailableError("")));
  EXPECT_TRUE(IsTransient(absl::DeadlineExceededError("")));
  EXPECT_FALSE(IsTransient(absl::OkStatus()));
  EXPECT_FALSE(IsTransient(absl::PermissionDeniedError("")));
  EXPECT_FALSE(IsTransient(absl::AbortedError("")));
}

}  // namespace
}  // namespace fedwatt
