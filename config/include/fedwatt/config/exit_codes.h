// How every binary ends, and what to do about it.
#ifndef FEDWATT_CONFIG_EXIT_CODES_H_
#define FEDWATT_CONFIG_EXIT_CODES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace fedwatt {

enum class ExitCode : int {
  kDone = 0,
  kUsage = 2,
  kConfiguration = 3,
  kTargetMissed = 4,
  kRefused = 5,
  kData = 6,
  kUnreachable = 7,
  kDamagedState = 8,
  kBug = 70,
};

// `status` marked with the code to exit with, where its own code does not tell (a data file that is missing, say). Survives
// Annotate().
absl::Status WithExitCode(absl::Status status, ExitCode code);

// The mark, or what the status code means by itself: OK done; INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, OUT_OF_RANGE,
// UNIMPLEMENTED, RESOURCE_EXHAUSTED configuration; UNAUTHENTICATED, PERMISSION_DENIED, FAILED_PRECONDITION refused; UNAVAILABLE,
// DEADLINE_EXCEEDED, CANCELLED, ABORTED unreachable; DATA_LOSS damaged state; INTERNAL, UNKNOWN our bug.
ExitCode ExitCodeFor(const absl::Status& status);

struct ExitCodeExplanation {
  ExitCode code;
  std::string name;  // "configuration"
  std::string cause;
  std::string remedy;
};
// All of them, by number.
const std::vector<ExitCodeExplanation>& ExitCodeExplanations();

// For `fedwatt explain CODE`. Errors: NOT_FOUND  no binary exits with it; the message lists the known codes
absl::StatusOr<ExitCodeExplanation> ExplainExitCode(int code);

}  // namespace fedwatt

#endif  // FEDWATT_CONFIG_EXIT_CODES_H_
