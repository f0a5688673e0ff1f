#include "fedwatt/config/program.h"

#include <pthread.h>

#include <ctime>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/process.h"
#include "fedwatt/config/command_line.h"

namespace fedwatt {

int RunProgram(int argc, char** argv, const ProgramBody& body) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  absl::StatusOr<ExitCode> code = body(arguments, absl::StrJoin(argv, argv + argc, " "));
  if (code.ok()) return static_cast<int>(*code);
  std::cerr << ErrorLine(code.status()) << "\n";
  return static_cast<int>(ExitCodeFor(code.status()));
}

SignalStop::SignalStop() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  waiter_ = std::jthread([this](std::stop_token done) {
    const timespec slice{0, 100'000'000};
    while (!done.stop_requested()) {
      const int signal = sigtimedwait(&signals_, nullptr, &slice);
      if (signal <= 0) continue;
      if (source_.stop_requested()) {
        std::signal(signal, SIG_DFL);
        pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
        raise(signal);
      }
      source_.request_stop();
    }
  });
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
