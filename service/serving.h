// What calls share: a model that runs, and the state of the service around it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "scheduler/engine.h"
#include "scheduler/request.h"
#include "service/bearer_auth.h"
#include "service/call_registry.h"
#include "service/logger.h"
#include "service/model_host.h"
#include "service/server_config.h"
#include "service/worker_pool.h"

namespace lorc {

// Constant; all of it outlives the calls.
struct Serving {
  const ServerConfig* config = nullptr;
  const ModelFiles* files = nullptr;
  const CacheSize* size = nullptr;
  int64_t num_parameters = 0;
  Engine* engine = nullptr;
};

// Calls of Generate and GenerateOnce that have ended. Written before the client sees the end.
class OutcomeCounters {
 public:
  void Count(absl::StatusCode code, FinishReason finish, bool was_queued) {
    by_code_[static_cast<size_t>(code)].fetch_add(1, std::memory_order_relaxed);
    by_finish_[static_cast<size_t>(finish)].fetch_add(1, std::memory_order_relaxed);
    const bool by_client =
        code == absl::StatusCode::kCancelled || code == absl::StatusCode::kDeadlineExceeded;
    if (!was_queued && !by_client) refused_.fetch_add(1, std::memory_order_relaxed);
  }

  std::array<int64_t, 17> by_code() const { return Load(by_code_); }  // absl::StatusCode
  std::array<int64_t, kNumFinishReasons> by_finish() const { return Load(by_finish_); }
  int64_t refused() const { return refused_.load(std::memory_order_relaxed); }  // never queued

 private:
  template <size_t kSize>
  static std::array<int64_t, kSize> Load(const std::array<std::atomic<int64_t>, kSize>& from) {
    std::array<int64_t, kSize> values;
    for (size_t i = 0; i < kSize; ++i) values[i] = from[i].load(std::memory_order_relaxed);
    return values;
  }

  std::array<std::atomic<int64_t>, 17> by_code_ = {};
  std::array<std::atomic<int64_t>, kNumFinishReasons> by_finish_ = {};
  std::atomic<int64_t> refused_{0};
};

struct ServiceState {
  ServiceState(const ServerConfig& server_config, Logger* server_logger, BearerAuth bearer_auth)
      : config(server_config), logger(server_logger), auth(std::move(bearer_auth)) {}

  const ServerConfig config;
  Logger* const logger;
  const BearerAuth auth;
  const int64_t start_ns = Engine::NowNs();

  std::atomic<const Serving*> serving{nullptr};  // nullptr: the model is loading
  std::atomic<bool> draining{false};
  std::atomic<bool> cutting{false};  // what is cancelled from now on is cancelled by the server
  std::atomic<int64_t> num_preparing{0};  // generations not yet submitted
  OutcomeCounters outcomes;
  CallRegistry calls;

  // Tokenising a long prompt takes a while: tokens of others do not wait for it.
  WorkerPool prepare{2};
  WorkerPool deliver{2};
};

}  // namespace lorc
