// Structured log lines: an event and its fields, as text for people or one JSON object a line.
//
//   2026-11-23T18:04:05.123Z info  request id=a1 status=OK finish=EOS prompt_tokens=12
//   {"time":"2026-11-23T18:04:05.123Z","level":"info","event":"request","id":"a1",...}
//
// Values may come from clients: what could break a line is escaped.
//
// Threads: any.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace lorc {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// From ServerConfig::log_level and log_format, which have been checked.
LogLevel LogLevelFromName(std::string_view name);
LogFormat LogFormatFromName(std::string_view name);

struct LogField {
  using Value = std::variant<std::string, int64_t, double, bool>;

  LogField(std::string_view field_name, std::string text)
      : name(field_name), value(std::move(text)) {}
  LogField(std::string_view field_name, const char* text)
      : LogField(field_name, std::string(text)) {}
  LogField(std::string_view field_name, int64_t number) : name(field_name), value(number) {}
  LogField(std::string_view field_name, int32_t number) : LogField(field_name, int64_t{number}) {}
  LogField(std::string_view field_name, double number) : name(field_name), value(number) {}
  LogField(std::string_view field_name, bool flag) : name(field_name), value(flag) {}

  std::string_view name;  // outlives the call; [a-z_]+
  Value value;
};

class Logger {
 public:
  // To standard error, or to `out`, which outlives the logger.
  Logger(LogLevel level, LogFormat format);
  Logger(LogLevel level, LogFormat format, std::ostream& out);
  ~Logger();
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;

  LogFormat format() const { return format_; }

  void Log(LogLevel level, std::string_view event, std::span<const LogField> fields);

  void Debug(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Log(LogLevel::kDebug, event, {fields.begin(), fields.size()});
  }
  void Info(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Log(LogLevel::kInfo, event, {fields.begin(), fields.size()});
  }
  void Warning(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Log(LogLevel::kWarning, event, {fields.begin(), fields.size()});
  }
  void Error(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Log(LogLevel::kError, event, {fields.begin(), fields.size()});
  }

 private:
  struct Impl;
  const LogFormat format_;
  std::unique_ptr<Impl> impl_;
};

// gRPC's own messages from its libraries go to `logger` from now on (nullptr: to standard error),
// those above errors only at kDebug.
void RouteGrpcLog(Logger* logger);

}  // namespace lorc
