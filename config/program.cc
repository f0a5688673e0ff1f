#include "fedwatt/config/program.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/config/command_line.h"

namespace fedwatt {

int RunProgram(int argc, char** argv, const ProgramBody& body) {
  // gRPC writes each failed handshake of any passer-by to stderr; what matters comes as a status. The user's own choice stands.
  ::setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  absl::StatusOr<ExitCode> code = body(arguments, absl::StrJoin(argv, argv + argc, " "));
  if (code.ok()) return static_cast<int>(*code);
  std::cerr << ErrorLine(code.status()) << "\n";
  return static_cast<int>(ExitCodeFor(code.status()));
}

namespace {

// A handler may touch nothing but this.
int signal_pipe[2] = {-1, -1};

void WakeWaiter(int) {
  const char byte = 0;
  (void)!::write(signal_pipe[1], &byte, 1);
}

}  // namespace

SignalStop::SignalStop() {
  FEDWATT_CHECK(::pipe2(signal_pipe, O_CLOEXEC) == 0);
  struct sigaction action {};
  action.sa_handler = WakeWaiter;
  action.sa_flags = SA_RESTART | SA_RESETHAND;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  waiter_ = std::jthread([this](std::stop_token done) {
    char byte;
    while (::read(signal_pipe[0], &byte, 1) < 0 && errno == EINTR) {
    }
    if (!done.stop_requested()) source_.request_stop();
  });
}

SignalStop::~SignalStop() {
  waiter_.request_stop();
  WakeWaiter(0);
  waiter_.join();
}

ExitCode ExitCodeOfRun(const std::optional<double>& target, bool target_reached, int64_t rounds_committed, const std::optional<double>& best_accuracy) {
  if (rounds_committed == 0) {
    std::cerr << "error: not a single round was committed; clients.jsonl names the reasons (fedwatt explain 4)\n";
    return ExitCode::kTargetMissed;
  }
  if (!target.has_value() || target_reached) return ExitCode::kDone;
  std::cerr << "error: target accuracy " << *target << " not reached, best " << (best_accuracy.has_value() ? absl::StrCat(*best_accuracy) : "unknown")
            << " (fedwatt explain 4)\n";
  return ExitCode::kTargetMissed;
}

void DescribeMachineIn(RunSummary& summary, std::map<std::string, std::string> kernels, const MeterChoice& meter) {
  const MachineInfo machine = DescribeMachine();
  summary.machine_facts = std::move(kernels);
  summary.machine_facts["cpu"] = machine.cpu_model;
  summary.machine_facts["cores"] = absl::StrCat(machine.core_count);
  summary.machine_facts["instruction_sets"] = machine.instruction_sets;
  if (machine.memory_bytes.has_value()) summary.machine_facts["memory_bytes"] = absl::StrCat(*machine.memory_bytes);
  if (meter.meter != nullptr) summary.meters_found.push_back(std::string(meter.meter->name()));
  for (const RefusedMeter& refused : meter.refused) summary.meters_refused[refused.name] = refused.reason;
}

}  // namespace fedwatt
