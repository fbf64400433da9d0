#include "service/logger.h"

#include <grpc/support/log.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <atomic>
#include <chrono>
#include <utility>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace lorc {
namespace {

std::string Now() {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
}

const char* Name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "";
}

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

std::string JsonString(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Quoted where a reader could not tell where the value ends.
std::string TextValue(const std::string& text) {
  bool plain = !text.empty();
  for (const char c : text) plain = plain && c > ' ' && c < 0x7f && c != '"' && c != '=';
  return plain ? text : JsonString(text);
}

struct ToText {
  bool is_json;

  std::string operator()(const std::string& text) const {
    return is_json ? JsonString(text) : TextValue(text);
  }
  std::string operator()(int64_t number) const { return absl::StrCat(number); }
  std::string operator()(double number) const { return absl::StrCat(number); }
  std::string operator()(bool flag) const { return flag ? "true" : "false"; }
};

std::string Line(LogFormat format, LogLevel level, std::string_view event,
                 std::span<const LogField> fields) {
  const bool is_json = format == LogFormat::kJson;
  std::string line;
  if (is_json) {
    line = absl::StrCat("{\"time\":\"", Now(), "\",\"level\":\"", Name(level), "\",\"event\":\"",
                        std::string(event), "\"");
  } else {
    line = absl::StrCat(Now(), " ", Name(level), " ", std::string(event));
  }
  for (const LogField& field : fields) {
    const std::string value = std::visit(ToText{is_json}, field.value);
    if (is_json) {
      absl::StrAppend(&line, ",\"", std::string(field.name), "\":", value);
    } else {
      absl::StrAppend(&line, " ", std::string(field.name), "=", value);
    }
  }
  if (is_json) line += '}';
  return line;
}

std::atomic<Logger*> grpc_logger{nullptr};

void LogFromGrpc(gpr_log_func_args* args) {
  Logger* logger = grpc_logger.load();
  if (logger == nullptr) return;
  const bool is_error = args->severity == GPR_LOG_SEVERITY_ERROR;
  const LogField fields[] = {{"severity", gpr_log_severity_string(args->severity)},
                             {"message", args->message}};
  logger->Log(is_error ? LogLevel::kWarning : LogLevel::kDebug, "grpc", fields);
}

}  // namespace

LogLevel LogLevelFromName(std::string_view name) {
  for (const LogLevel level : {LogLevel::kDebug, LogLevel::kWarning, LogLevel::kError}) {
    if (name == Name(level)) return level;
  }
  return LogLevel::kInfo;
}

LogFormat LogFormatFromName(std::string_view name) {
  return name == "json" ? LogFormat::kJson : LogFormat::kText;
}

struct Logger::Impl {
  Impl(LogLevel level, spdlog::sink_ptr sink) : logger("lorc", std::move(sink)) {
    logger.set_pattern("%v");
    logger.set_level(SpdlogLevel(level));
    logger.flush_on(spdlog::level::debug);
  }

  spdlog::logger logger;
};

Logger::Logger(LogLevel level, LogFormat format)
    : format_(format),
      impl_(std::make_unique<Impl>(level, std::make_shared<spdlog::sinks::stderr_sink_mt>())) {}

Logger::Logger(LogLevel level, LogFormat format, std::ostream& out)
    : format_(format),
      impl_(std::make_unique<Impl>(level, std::make_shared<spdlog::sinks::ostream_sink_mt>(out))) {}

Logger::~Logger() = default;

void Logger::Log(LogLevel level, std::string_view event, std::span<const LogField> fields) {
  if (!impl_->logger.should_log(SpdlogLevel(level))) return;
  const std::string line = Line(format_, level, event, fields);
  // Not as a format string.
  impl_->logger.log(SpdlogLevel(level), spdlog::string_view_t(line.data(), line.size()));
}

void RouteGrpcLog(Logger* logger) {
  grpc_logger.store(logger);
  gpr_set_log_function(logger == nullptr ? nullptr : LogFromGrpc);
}

}  // namespace lorc
