#include "service/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "runtime/weights/status_macros.h"
#include "service/credentials.h"
#include "service/info_responses.h"
#include "service/listen_check.h"

namespace lorc {
namespace {

constexpr int64_t kMs = 1'000'000;

ModelFacts FactsOf(const ModelFiles& files, double open_seconds, double load_seconds) {
  ModelFacts facts;
  facts.model = files.config().name;
  facts.architecture = files.config().architecture;
  facts.plan = files.plan.name;
  facts.method = files.plan.method;
  facts.backend = files.backend->name();
  facts.weights = Name(files.weight_type);
  facts.full_bytes_per_token = files.layout.geometry.full_bytes_per_token;
  facts.open_seconds = open_seconds;
  facts.load_seconds = load_seconds;
  const bool keeps_exact = files.layout.geometry.exact_block_bytes > 0;
  for (const CacheLayer& layer : files.layout.layers) {
    const int64_t exact =
        keeps_exact ? layer.ExactBlockBytes() / (2 * int64_t{layer.block_tokens}) : 0;
    facts.layers.push_back(
        {{layer.key.BytesPerToken(), exact}, {layer.value.BytesPerToken(), exact}});
  }
  return facts;
}

void SetArguments(const ServerConfig& config, grpc::ServerBuilder* builder) {
  const auto milliseconds = [](int64_t ns) {
    return static_cast<int>(std::min<int64_t>(ns / kMs, 1 << 30));
  };
  builder->SetMaxReceiveMessageSize(static_cast<int>(config.max_receive_bytes));
  builder->SetMaxSendMessageSize(static_cast<int>(config.max_send_bytes));
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, config.max_streams_per_connection);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, milliseconds(config.keepalive_time_ns));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                              milliseconds(config.keepalive_timeout_ns));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Clients may ping as often as we do, within reason.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
  // A second server on the port is an error, not a share of the clients.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

double SecondsSince(int64_t start_ns) {
  return static_cast<double>(Engine::NowNs() - start_ns) * 1e-9;
}

int64_t AfterNow(int64_t delay_ns) {
  const int64_t now_ns = Engine::NowNs();
  return delay_ns < kNeverNs - now_ns ? now_ns + delay_ns : kNeverNs;
}

}  // namespace

Server::Server(const ServerConfig& config, Logger* logger, BearerAuth auth)
    : logger_(logger), state_(config, logger, std::move(auth)), service_(&state_) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Listen(const ServerConfig& config, Logger* logger) {
  BearerAuth auth;
  if (!config.bearer_token_file.empty()) {
    LORC_ASSIGN_OR_RETURN(auth, BearerAuth::FromFile(config.bearer_token_file));
    if (config.tls_cert.empty()) {
      logger->Warning("bearer_tokens_without_tls",
                      {{"message", "tokens travel in plain text; set --tls-cert and --tls-key"}});
    }
  }
  std::unique_ptr<Server> server(new Server(config, logger, std::move(auth)));
  LORC_RETURN_IF_ERROR(server->ListenGrpc());
  LORC_RETURN_IF_ERROR(server->ListenHttp());
  return server;
}

absl::Status Server::ListenGrpc() {
  const ServerConfig& config = state_.config;
  LORC_ASSIGN_OR_RETURN(grpc_address_, ParseHostPort(config.grpc_address));
  LORC_ASSIGN_OR_RETURN(auto credentials, MakeServerCredentials(config));
  LORC_RETURN_IF_ERROR(CheckCanListen(grpc_address_));
  grpc::EnableDefaultHealthCheckService(true);
  static const bool reflection = [] {
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  static_cast<void>(reflection);
  grpc::ServerBuilder builder;
  SetArguments(config, &builder);
  int port = 0;
  builder.AddListeningPort(grpc_address_.ToString(), credentials, &port);
  builder.RegisterService(&service_);
  grpc_ = builder.BuildAndStart();
  if (grpc_ == nullptr || port <= 0) {
    return absl::UnavailableError(absl::StrCat("can't listen on ", grpc_address_.ToString()));
  }
  grpc_address_.port = port;
  health_ = std::make_unique<HealthMonitor>(&state_, grpc_->GetHealthCheckService());
  return absl::OkStatus();
}

absl::Status Server::ListenHttp() {
  LORC_ASSIGN_OR_RETURN(const HostPort address, ParseHostPort(state_.config.http_address));
  HttpServer::Handlers handlers;
  handlers.metrics = [this] { return MetricsText(); };
  handlers.is_alive = [this] { return IsAlive(); };
  handlers.is_ready = [this] { return IsReady(state_); };
  LORC_ASSIGN_OR_RETURN(http_, HttpServer::Start(address, std::move(handlers)));
  return absl::OkStatus();
}

absl::Status Server::Load(std::unique_ptr<ModelFiles> files, const CacheSize& size,
                          const StartTimes& times) {
  const int64_t start_ns = Engine::NowNs();
  files_ = std::move(files);
  size_ = size;
  int last_tenth = 0;
  LORC_ASSIGN_OR_RETURN(model_, LoadModel(*files_, size_, [&](double share) {
                          const int tenth = static_cast<int>(share * 10);
                          if (tenth == std::exchange(last_tenth, tenth)) return;
                          logger_->Debug("loading", {{"percent", tenth * 10}});
                        }));
  Executor* executor = model_.get();
  if (wrapper_) {
    wrapped_ = wrapper_(executor);
    executor = wrapped_.get();
  }
  metrics_ =
      std::make_unique<ServerMetrics>(FactsOf(*files_, times.open_seconds, SecondsSince(start_ns)));
  EngineOptions options;
  options.scheduler = size_.scheduler;
  options.channel_capacity_tokens = state_.config.stream_buffer_tokens;
  engine_ = std::make_unique<Engine>(executor, options, metrics_.get());
  serving_ = {&state_.config, files_.get(), &size_, model_->model().num_parameters(),
              engine_.get()};
  state_.serving.store(&serving_);
  health_->Update();
  return absl::OkStatus();
}

std::string Server::MetricsText() const {
  const Serving* serving = state_.serving.load();
  if (serving == nullptr) return ServerMetrics::LoadingText();
  MetricsSnapshot snapshot;
  snapshot.stats = serving->engine->Stats();
  snapshot.health = serving->engine->Health();
  snapshot.ready = IsReady(state_);
  snapshot.draining = state_.draining.load();
  snapshot.outcomes_by_code = state_.outcomes.by_code();
  snapshot.outcomes_by_finish = state_.outcomes.by_finish();
  for (int use = 0; use < kNumMemoryUses; ++use) {
    snapshot.memory_bytes[use] =
        serving->files->backend->memory().bytes(static_cast<MemoryUse>(use));
  }
  return metrics_->ToText(snapshot);
}

bool Server::IsAlive() const {
  const Serving* serving = state_.serving.load();
  if (serving == nullptr) return true;
  const EngineHealth health = serving->engine->Health();
  // Hasty restarts cost more than they heal: the model is loaded anew.
  return health.healthy &&
         (!health.busy || health.since_progress_ns / 10 < state_.config.stall_limit_ns);
}

bool Server::Stop(int64_t drain_ns) {
  if (std::exchange(is_stopped_, true)) return true;
  const int64_t until_ns = AfterNow(drain_ns);
  state_.draining.store(true);
  if (health_ != nullptr) health_->Update();
  const int64_t calls = state_.calls.size();
  logger_->Info("draining", {{"calls", calls}, {"limit_s", static_cast<double>(drain_ns) * 1e-9}});
  bool all_ended = true;
  if (engine_ != nullptr) {
    all_ended =
        engine_->Drain(hurry_.load() ? 0 : std::max<int64_t>(0, until_ns - Engine::NowNs()));
  }
  // Ends are on their way to clients: a moment more for the last of them.
  constexpr int64_t kGraceNs = 1000 * kMs;
  const int64_t grace_ns = hurry_.load() ? kGraceNs / 10 : kGraceNs;
  const int64_t last_ns =
      hurry_.load() ? AfterNow(grace_ns) : std::max(until_ns, AfterNow(grace_ns));
  while (!state_.calls.WaitEmpty(std::min(last_ns, AfterNow(100 * kMs)))) {
    if (hurry_.load() || Engine::NowNs() >= last_ns) break;
  }
  state_.cutting.store(true);
  health_ = nullptr;
  if (grpc_ != nullptr) {
    // An open health Watch would hold it for the whole deadline.
    grpc_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
    grpc_->Wait();
  }
  if (engine_ != nullptr) engine_->Shutdown();
  all_ended = all_ended && !hurry_.load();
  logger_->Info("stopped", {{"all_ended", all_ended}});
  return all_ended;
}

void Server::Hurry() {
  hurry_.store(true);
  if (state_.serving.load() != nullptr) engine_->Drain(0);
}

Server::~Server() {
  Stop(0);
  http_ = nullptr;
  grpc_ = nullptr;
}

}  // namespace lorc
