// lorc-server: from the command line to a server that drains when it is told to stop.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "scheduler/engine.h"
#include "scheduler/mutex.h"
#include "service/capacity_report.h"
#include "service/config_fields.h"
#include "service/logger.h"
#include "service/model_host.h"
#include "service/server.h"
#include "service/server_config.h"
#include "service/signal_watcher.h"
#include "service/version.h"

namespace lorc {
namespace {

enum ExitCode {
  kExitOk = 0,
  kExitOther = 1,
  kExitUsage = 2,   // flags or configuration
  kExitModel = 3,   // model or plan
  kExitMemory = 4,  // the budget does not hold a request, or the memory not the budget
  kExitListen = 5,  // ports, certificates, tokens
};

int Fail(ExitCode code, const absl::Status& status) {
  std::fprintf(stderr, "lorc-server: %s\n", std::string(status.message()).c_str());
  return code;
}

// Who waits for the first signal; the later ones hurry what it began.
class StopRequest {
 public:
  void OnSignal(int count) {
    MutexLock lock(mutex_);
    is_requested_ = true;
    changed_.NotifyAll();
    // Nothing is in flight while the model loads, and loading can't be stopped half-way.
    if (server_ == nullptr) std::_Exit(kExitOk);
    if (count > 1) server_->Hurry();
  }

  // From now on a signal stops this server; nullptr: it ends the process at once.
  void Watch(Server* server) {
    MutexLock lock(mutex_);
    server_ = server;
  }

  void Wait() {
    MutexLock lock(mutex_);
    while (!is_requested_) changed_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  Server* server_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool is_requested_ ABSL_GUARDED_BY(mutex_) = false;
};

void LogConfig(const ServerConfig& config, Logger* logger) {
  std::vector<LogField> fields = {{"version", kServerVersion}};
  for (const ConfigField& field : ConfigFields())
    fields.emplace_back(field.name, field.get(config));
  logger->Log(LogLevel::kInfo, "config", fields);
}

// For people as the table, for machines as one line.
void ShowCapacity(const CapacityReport& report, Logger* logger) {
  if (logger->format() == LogFormat::kText) std::fputs(ToText(report).c_str(), stderr);
  logger->Info("memory", {{"weights_bytes", report.memory.weights},
                          {"activations_bytes", report.memory.activations},
                          {"workspace_bytes", report.memory.workspace},
                          {"kv_budget_bytes", report.budget_bytes},
                          {"kv_budget_origin", report.budget_origin},
                          {"kv_bytes_per_token", report.with_plan.bytes_per_token},
                          {"latent_blocks", report.with_plan.latent_blocks},
                          {"exact_blocks", report.with_plan.exact_blocks},
                          {"max_sequence_tokens", report.max_sequence_tokens},
                          {"available_bytes", report.available.bytes}});
}

void LogLoaded(const ModelFiles& files, double seconds, Logger* logger) {
  const MemoryAccount& memory = files.backend->memory();
  logger->Info("loaded", {{"model", files.config().name},
                          {"seconds", seconds},
                          {"weights_bytes", memory.bytes(MemoryUse::kWeights)},
                          {"activations_bytes", memory.bytes(MemoryUse::kActivations)},
                          {"workspace_bytes", memory.bytes(MemoryUse::kWorkspace)},
                          {"cache_bytes", memory.bytes(MemoryUse::kCache)}});
}

double SecondsSince(int64_t start_ns) {
  return static_cast<double>(Engine::NowNs() - start_ns) * 1e-9;
}

int Serve(const ServerConfig& config, StopRequest* stop, Logger* logger) {
  const int64_t start_ns = Engine::NowNs();
  auto files = OpenModel(config);
  if (!files.ok()) return Fail(kExitModel, files.status());
  auto size = SizeCache(config, **files);
  if (!size.ok()) return Fail(kExitMemory, size.status());
  const CapacityReport report = MakeCapacityReport(**files, *size, config.dry_run_tokens);
  if (config.dry_run) {
    std::fputs((config.json ? ToJson(report) : ToText(report)).c_str(), stdout);
    return kExitOk;
  }
  LogConfig(config, logger);
  ShowCapacity(report, logger);
  if (!(*files)->chat_template) {
    logger->Warning("no_chat", {{"reason", (*files)->no_chat_reason}});
  }
  const StartTimes times = {SecondsSince(start_ns)};

  auto server = Server::Listen(config, logger);
  if (!server.ok()) return Fail(kExitListen, server.status());
  const ModelFiles& loaded = **files;
  const int64_t load_ns = Engine::NowNs();
  const absl::Status status = (*server)->Load(*std::move(files), *size, times);
  if (!status.ok()) {
    const bool memory = status.code() == absl::StatusCode::kResourceExhausted;
    return Fail(memory ? kExitMemory : kExitModel, status);
  }
  LogLoaded(loaded, SecondsSince(load_ns), logger);
  stop->Watch(server->get());
  std::printf("ready grpc=%s http=%s\n", (*server)->grpc_address().c_str(),
              (*server)->http_address().c_str());
  std::fflush(stdout);
  stop->Wait();
  (*server)->Stop(config.drain_timeout_ns);
  stop->Watch(nullptr);
  return kExitOk;
}

int Main(int argc, char** argv) {
  StopRequest stop;
  const SignalWatcher signals([&stop](int count) { stop.OnSignal(count); });
  auto line = ParseCommandLine(argc, argv);
  if (!line.ok()) return Fail(kExitUsage, line.status());
  if (!line->message.empty()) {
    std::fputs(line->message.c_str(), stdout);
    return kExitOk;
  }
  const ServerConfig& config = line->config;
  Logger logger(LogLevelFromName(config.log_level), LogFormatFromName(config.log_format));
  RouteGrpcLog(&logger);
  const int code = Serve(config, &stop, &logger);
  RouteGrpcLog(nullptr);
  return code;
}

}  // namespace
}  // namespace lorc

int main(int argc, char** argv) { return lorc::Main(argc, argv); }
