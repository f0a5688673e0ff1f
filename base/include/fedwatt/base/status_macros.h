// Return-on-error and invariant macros; Abseil 20220623 ships neither.
#ifndef FEDWATT_BASE_STATUS_MACROS_H_
#define FEDWATT_BASE_STATUS_MACROS_H_

#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace fedwatt {

// `status` with "context: " before its message; the code and payloads stay. OK stays OK.
absl::Status Annotate(const absl::Status& status, std::string_view context);

namespace internal {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);
}  // namespace internal
}  // namespace fedwatt

#define FEDWATT_RETURN_IF_ERROR(expression)                      \
  do {                                                           \
    if (absl::Status fedwatt_status = (expression); !fedwatt_status.ok()) return fedwatt_status; \
  } while (false)

#define FEDWATT_CONCAT_INNER(a, b) a##b
#define FEDWATT_CONCAT(a, b) FEDWATT_CONCAT_INNER(a, b)

// FEDWATT_ASSIGN_OR_RETURN(auto value, Compute()): assigns, or returns the error.
#define FEDWATT_ASSIGN_OR_RETURN(left, expression) \
  FEDWATT_ASSIGN_OR_RETURN_INNER(FEDWATT_CONCAT(fedwatt_statusor_, __LINE__), left, expression)
#define FEDWATT_ASSIGN_OR_RETURN_INNER(temporary, left, expression) \
  auto temporary = (expression);                                    \
  if (!temporary.ok()) return std::move(temporary).status();        \
  left = *std::move(temporary)

// For invariants our own code guarantees; never for bytes from a network, a file or sysfs. Aborts.
#define FEDWATT_CHECK(condition) \
  ((condition) ? (void)0 : ::fedwatt::internal::CheckFailed(__FILE__, __LINE__, #condition))

#endif  // FEDWATT_BASE_STATUS_MACROS_H_
