// The whole server: two ports, a model behind them, a life from loading to drained.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/executor.h"
#include "scheduler/engine.h"
#include "service/generation_service.h"
#include "service/health_monitor.h"
#include "service/http_server.h"
#include "service/logger.h"
#include "service/metrics/server_metrics.h"
#include "service/model_host.h"
#include "service/server_config.h"
#include "service/serving.h"

namespace lorc {

// Of LoadModel's stages, for metrics.
struct StartTimes {
  double open_seconds = 0;
};

class Server {
 public:
  // Opens both ports. Until Load is done, calls are answered with UNAVAILABLE, health with
  // NOT_SERVING. `logger` outlives the server. Errors: UNAVAILABLE (port), NOT_FOUND and
  // INVALID_ARGUMENT (certificates, tokens).
  static absl::StatusOr<std::unique_ptr<Server>> Listen(const ServerConfig& config, Logger* logger);

  // Stop(0), if nobody did.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Loads the model and serves it when it returns. Once.
  absl::Status Load(std::unique_ptr<ModelFiles> files, const CacheSize& size,
                    const StartTimes& times);

  // As given, with the ports that were picked.
  std::string grpc_address() const { return grpc_address_.ToString(); }
  std::string http_address() const { return http_->address().ToString(); }

  // Refuses new requests, says NOT_SERVING, waits at most `drain_ns` for those in flight, fails the
  // rest with UNAVAILABLE and closes the gRPC port. True: none had to be failed. The HTTP port
  // answers until the server is destroyed.
  bool Stop(int64_t drain_ns);

  // Makes a Stop that runs on another thread fail what is left at once. Any thread.
  void Hurry();

  // Stands between the engine and the model, to hold it up or make it fail. Before Load.
  using ExecutorWrapper = std::function<std::unique_ptr<Executor>(Executor* model)>;
  void set_executor_wrapper_for_test(ExecutorWrapper wrapper) { wrapper_ = std::move(wrapper); }
  Engine* engine_for_test() { return engine_.get(); }

 private:
  Server(const ServerConfig& config, Logger* logger, BearerAuth auth);

  absl::Status ListenGrpc();
  absl::Status ListenHttp();
  std::string MetricsText() const;
  bool IsAlive() const;

  // In the order in which they go away, the last first.
  Logger* const logger_;
  std::unique_ptr<ModelFiles> files_;
  CacheSize size_;
  std::unique_ptr<ModelExecutor> model_;
  ExecutorWrapper wrapper_;
  std::unique_ptr<Executor> wrapped_;
  std::unique_ptr<ServerMetrics> metrics_;
  ServiceState state_;
  std::unique_ptr<Engine> engine_;
  Serving serving_;
  GenerationService service_;
  HostPort grpc_address_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<HealthMonitor> health_;
  std::unique_ptr<HttpServer> http_;
  std::atomic<bool> hurry_{false};
  bool is_stopped_ = false;
};

}  // namespace lorc
