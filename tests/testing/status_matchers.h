// gMock matchers for absl::Status; Abseil 20220623 ships none.
#ifndef FEDWATT_TESTS_TESTING_STATUS_MATCHERS_H_
#define FEDWATT_TESTS_TESTING_STATUS_MATCHERS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace fedwatt::testing {

inline const absl::Status& ToStatus(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& ToStatus(const absl::StatusOr<T>& status) { return status.status(); }

// EXPECT_THAT(Call(), IsOk());
MATCHER(IsOk, negation ? "is not OK" : "is OK") {
  *result_listener << ToStatus(arg).ToString();
  return ToStatus(arg).ok();
}

// EXPECT_THAT(Call(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("name")));
MATCHER_P2(StatusIs, code, message, "") {
  *result_listener << ToStatus(arg).ToString();
  return ToStatus(arg).code() == code &&
         ::testing::ExplainMatchResult(message, std::string(ToStatus(arg).message()), result_listener);
}

}  // namespace fedwatt::testing

// Unwraps a StatusOr or fails the test.
#define FEDWATT_TEST_CONCAT_INNER(a, b) a##b
#define FEDWATT_TEST_CONCAT(a, b) FEDWATT_TEST_CONCAT_INNER(a, b)
#define ASSERT_OK_AND_ASSIGN(left, expression) ASSERT_OK_AND_ASSIGN_INNER(FEDWATT_TEST_CONCAT(statusor_, __LINE__), left, expression)
#define ASSERT_OK_AND_ASSIGN_INNER(temporary, left, expression) \
  auto temporary = (expression);                                \
  ASSERT_TRUE(temporary.ok()) << temporary.status();            \
  left = *std::move(temporary)

#endif  // FEDWATT_TESTS_TESTING_STATUS_MATCHERS_H_
