#include "fedwatt/config/exit_codes.h"

#include <optional>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace fedwatt {
namespace {

constexpr char kPayload[] = "fedwatt.dev/exit_code";

}  // namespace

absl::Status WithExitCode(absl::Status status, ExitCode code) {
  if (!status.ok()) status.SetPayload(kPayload, absl::Cord(absl::StrCat(static_cast<int>(code))));
  return status;
}

ExitCode ExitCodeFor(const absl::Status& status) {
  if (const auto payload = status.GetPayload(kPayload)) {
    int code = 0;
    if (absl::SimpleAtoi(std::string(*payload), &code)) return static_cast<ExitCode>(code);
  }
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kDone;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kResourceExhausted:
      return ExitCode::kConfiguration;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kFailedPrecondition:
      return ExitCode::kRefused;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kAborted:
      return ExitCode::kUnreachable;
    case absl::StatusCode::kDataLoss:
      return ExitCode::kDamagedState;
    default:
      return ExitCode::kBug;
  }
}

const std::vector<ExitCodeExplanation>& ExitCodeExplanations() {
  static const auto* explanations = new std::vector<ExitCodeExplanation>{
      {ExitCode::kDone, "done", "The command did what it was asked to do.", "Nothing to do."},
      {ExitCode::kUsage, "usage", "A flag or argument is unknown, missing or malformed.",
       "Read the line printed before the exit and compare with --help."},
      {ExitCode::kConfiguration, "configuration",
       "A setting is unknown, of the wrong type, out of range, or does not fit another one; or a file named by a setting is "
       "missing.",
       "The message names the key, what is expected and where the value came from (file and line, variable or flag). "
       "--help-config lists "
       "every key, --show-config every effective value with its origin."},
      {ExitCode::kTargetMissed, "target not reached", "All rounds ran, but the accuracy stayed below federation.target_accuracy, or not a single round was committed.",
       "Allow more federation.rounds, or look at the report: is the accuracy still rising, are updates refused, is the learning "
       "rate right?"},
      {ExitCode::kRefused, "refused",
       "The other side, or a policy on this side, said no: unknown identity, wrong certificate, a version "
       "that does not match, or a condition of the device that does not hold.",
       "Check that both sides use the same security.directory or enrol this client (fedwatt enrol), that both are of releases "
       "that speak "
       "the same protocol, and that file permissions allow the access."},
      {ExitCode::kData, "data",
       "The training or test data is missing, damaged, empty, or of another format than data.format says.",
       "The message names the file and the place in it. Check data.path, data.test_path and data.format; for Fashion-MNIST "
       "install the "
       "Debian package dataset-fashion-mnist."},
      {ExitCode::kUnreachable, "unreachable", "The coordinator did not answer in time, or the address cannot be listened on.",
       "Check the address in the message and where it came from, that the server runs (its address is in OUT/address), and that "
       "no "
       "firewall or earlier process holds the port."},
      {ExitCode::kDamagedState, "damaged state", "Files that a previous run left behind do not pass their checks.",
       "The message names the file. Restore it from a copy, or move the folder away to start anew."},
      {ExitCode::kBug, "our bug", "Something happened that the program's authors held to be impossible.",
       "Please report it, with the message, the command and the run record's summary.json."},
  };
  return *explanations;
}

absl::StatusOr<ExitCodeExplanation> ExplainExitCode(int code) {
  std::vector<int> known;
  for (const ExitCodeExplanation& explanation : ExitCodeExplanations()) {
    if (static_cast<int>(explanation.code) == code) return explanation;
    known.push_back(static_cast<int>(explanation.code));
  }
  return absl::NotFoundError(absl::StrCat("no binary exits with ", code, "; known codes: ", absl::StrJoin(known, ", ")));
}

}  // namespace fedwatt
