// What fedwatt-server and fedwatt-client share: signals, talk on stderr, the machine's facts.
#ifndef FEDWATT_TOOL_BINARY_H_
#define FEDWATT_TOOL_BINARY_H_

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/log.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/config/command_line.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"

namespace fedwatt::tool {

// SIGINT and SIGTERM ask for an orderly end; a second one kills. At most one object lives.
class SignalStop {
 public:
  SignalStop() {
    // A handler, not a blocked mask with sigwait: kernel libraries start threads before main, which would not have the mask.
    FEDWATT_CHECK(::pipe2(Pipe(), O_CLOEXEC) == 0);
    struct sigaction action {};
    action.sa_handler = [](int) {
      const char byte = 0;
      (void)!::write(Pipe()[1], &byte, 1);
    };
    action.sa_flags = SA_RESTART | SA_RESETHAND;
    ::sigaction(SIGINT, &action, nullptr);
    ::sigaction(SIGTERM, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);  // a reader of stdout that went away must not end a run
    waiter_ = std::jthread([this](std::stop_token done) {
      char byte;
      while (::read(Pipe()[0], &byte, 1) < 0 && errno == EINTR) {
      }
      if (!done.stop_requested()) source_.request_stop();
    });
  }
  ~SignalStop() {
    waiter_.request_stop();
    const char byte = 0;
    (void)!::write(Pipe()[1], &byte, 1);
    waiter_.join();
  }
  std::stop_token token() const { return source_.get_token(); }

 private:
  static int* Pipe() {
    static int ends[2] = {-1, -1};
    return ends;
  }

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
