// What every binary's main needs: one way to end, orderly stops, the machine's facts.
#ifndef FEDWATT_CONFIG_PROGRAM_H_
#define FEDWATT_CONFIG_PROGRAM_H_

#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "fedwatt/config/exit_codes.h"
#include "fedwatt/energy/meter.h"
#include "fedwatt/report/run_record.h"

namespace fedwatt {

// What a program's body gets: its flags, and the command as typed for the run record.
using ProgramBody = std::function<absl::StatusOr<ExitCode>(const std::vector<std::string>& arguments, const std::string& command)>;

// Runs `body`; an error becomes one line on stderr and its exit code. The value is main's.
int RunProgram(int argc, char** argv, const ProgramBody& body);

// SIGINT and SIGTERM ask for an orderly end; a second one kills. SIGPIPE is ignored: a reader of stdout that went away must not end a run.
// By a handler, not by a blocked mask and sigwait: kernel libraries start threads before main, which would not have the mask. At most one lives.
class SignalStop {
 public:
  SignalStop();
  ~SignalStop();
  std::stop_token token() const { return source_.get_token(); }

 private:
  std::stop_source source_;
  std::jthread waiter_;
};

// How a run that was not stopped ends: done, or, with a word on stderr, target missed - also when not a single round was committed.
ExitCode ExitCodeOfRun(const std::optional<double>& target, bool target_reached, int64_t rounds_committed, const std::optional<double>& best_accuracy);

// Fills machine facts (with `kernels`, what the kernel libraries say of themselves) and meters into a summary.
void DescribeMachineIn(RunSummary& summary, std::map<std::string, std::string> kernels, const MeterChoice& meter);

}  // namespace fedwatt

#endif  // FEDWATT_CONFIG_PROGRAM_H_
