// Where libraries send talk. Libraries never print; a binary or an application decides what becomes of a line.
#ifndef FEDWATT_BASE_LOG_H_
#define FEDWATT_BASE_LOG_H_

#include <functional>
#include <string_view>

namespace fedwatt {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

std::string_view LogLevelName(LogLevel level);

// Called from any thread, perhaps at once from several; must be thread-safe and must not block for long. May be empty:
// use Log() to call it.
using LogSink = std::function<void(LogLevel level, std::string_view message)>;

inline void Log(const LogSink& sink, LogLevel level, std::string_view message) {
  if (sink) sink(level, message);
}

}  // namespace fedwatt

#endif  // FEDWATT_BASE_LOG_H_
