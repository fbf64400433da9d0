// The server's metrics. Names, types, labels and units are a contract (tests/service lists them); a
// name that goes is first announced in its help text for one release.
//
// Histograms fill on the engine thread without locks; all else is read from snapshots when somebody
// scrapes, so a scrape never waits for a step and a step never for a scrape.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/memory.h"
#include "scheduler/engine.h"
#include "scheduler/stats.h"
#include "service/metrics/histogram.h"

namespace lorc {

// What does not change while the server runs.
struct ModelFacts {
  std::string model;
  std::string architecture;
  std::string plan;
  std::string method;
  std::string backend;
  std::string weights;

  struct Tensor {
    int64_t bytes_per_token = 0;        // in latent blocks
    int64_t exact_bytes_per_token = 0;  // in exact blocks; 0 where there are none
  };
  struct Layer {
    Tensor key, value;
  };
  std::vector<Layer> layers;
  int64_t full_bytes_per_token = 0;

  double open_seconds = 0;  // files opened and checked
  double load_seconds = 0;  // memory taken, weights packed
};

// What is read when somebody scrapes.
struct MetricsSnapshot {
  SchedulerStats stats;
  EngineHealth health;
  bool ready = false;
  bool draining = false;
  std::array<int64_t, 17> outcomes_by_code = {};                   // absl::StatusCode
  std::array<int64_t, kNumFinishReasons> outcomes_by_finish = {};  // [0]: not OK
  std::array<int64_t, kNumMemoryUses> memory_bytes = {};
};

class ServerMetrics final : public EngineObserver {
 public:
  explicit ServerMetrics(ModelFacts facts);

  // Engine thread.
  void OnStep(int64_t duration_ns, int64_t prefill_tokens, int64_t decode_tokens) override;
  void OnFirstToken(int64_t since_arrival_ns) override;
  void OnNextToken(int64_t since_previous_ns) override;
  void OnEnd(const Outcome& outcome) override;

  // Any thread. The text exposition format.
  std::string ToText(const MetricsSnapshot& snapshot) const;

  // Of a server that is still loading its model.
  static std::string LoadingText();

 private:
  const ModelFacts facts_;
  Histogram time_to_first_token_;
  Histogram inter_token_latency_;
  Histogram queue_time_;
  Histogram latency_;
  Histogram step_time_;
  Histogram step_tokens_;
  Histogram prompt_tokens_;
  Histogram generated_tokens_;
};

}  // namespace lorc
