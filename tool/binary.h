// What fedwatt-server and fedwatt-client share: signals, talk on stderr, the machine's facts.
#ifndef FEDWATT_TOOL_BINARY_H_
#define FEDWATT_TOOL_BINARY_H_

#include <pthread.h>

#include <csignal>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/log.h"
#include "fedwatt/base/process.h"
#include "fedwatt/config/command_line.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"

namespace fedwatt::tool {

// SIGINT and SIGTERM ask for an orderly end; a second one kills. Make it before any thread starts: threads inherit the mask.
class SignalStop {
 public:
  SignalStop() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    std::signal(SIGPIPE, SIG_IGN);  // a reader of stdout that went away must not end a run
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
  std::stop_token token() const { return source_.get_token(); }

 private:
  sigset_t signals_;
  std::stop_source source_;
  std::jthread waiter_;
};

inline LogSink StderrSink(const CommandLine& line) {
  auto logger = std::make_shared<spdlog::logger>("fedwatt", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  const auto level_of = [](LogLevel level) {
    switch (level) {
      case LogLevel::kDebug: return spdlog::level::debug;
      case LogLevel::kInfo: return spdlog::level::info;
      case LogLevel::kWarning: return spdlog::level::warn;
      case LogLevel::kError: break;
    }
    return spdlog::level::err;
  };
  logger->set_level(level_of(line.log_level));
  logger->flush_on(spdlog::level::debug);
  const bool json = line.log_format == LogFormat::kJson;
  logger->set_pattern(json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":"%v"})" : "%H:%M:%S %^%l%$ %v");
  return [logger, level_of, json](LogLevel level, std::string_view message) {
    std::string text(message);
    if (json) {
      std::string escaped;
      for (const char c : text) {
        if (c == '"' || c == '\\') escaped += '\\';
        escaped += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
      }
      text = std::move(escaped);
    }
    logger->log(level_of(level), "{}", text);
  };
}

inline std::map<std::string, std::string> MachineFacts() {
  const MachineInfo machine = DescribeMachine();
  std::map<std::string, std::string> facts = KernelFacts();
  facts["cpu"] = machine.cpu_model;
  facts["cores"] = absl::StrCat(machine.core_count);
  facts["instruction_sets"] = machine.instruction_sets;
  if (machine.memory_bytes.has_value()) facts["memory_bytes"] = absl::StrCat(*machine.memory_bytes);
  return facts;
}

}  // namespace fedwatt::tool

#endif  // FEDWATT_TOOL_BINARY_H_
