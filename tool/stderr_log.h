// Where fedwatt-server and fedwatt-client talk.
#ifndef FEDWATT_TOOL_STDERR_LOG_H_
#define FEDWATT_TOOL_STDERR_LOG_H_

#include <memory>
#include <string>

#include "fedwatt/base/log.h"
#include "fedwatt/config/command_line.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"

namespace fedwatt::tool {

// Talk on stderr through spdlog, as text or as one JSON object a line.
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

}  // namespace fedwatt::tool

#endif  // FEDWATT_TOOL_STDERR_LOG_H_
