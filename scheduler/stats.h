// What the scheduler did and where it stands, as plain numbers: gauges are of this moment, the rest
// counts since the start. Bytes and tokens, never ratios.
#pragma once

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "scheduler/request.h"

namespace lorc {

// One kind of cache block.
struct KindStats {
  int64_t block_bytes = 0;
  int64_t budget_bytes = 0;    // the whole pool
  int64_t headroom_bytes = 0;  // of it, kept for prefill steps
  int64_t written_bytes = 0;   // blocks held by requests
  int64_t promised_bytes = 0;  // written + promised <= budget, always
  int64_t blocks_total = 0;
  int64_t blocks_free =
      0;  // total - free = held: times a layer's share of a block, the layer's bytes
};

struct SchedulerStats {
  KindStats latent;
  KindStats exact;
  int64_t block_tokens = 0;
  int64_t written_tokens = 0;      // computed tokens of running requests
  int64_t written_bytes_full = 0;  // what they would take in an uncompressed bf16 cache

  int64_t running = 0;
  int64_t paused = 0;  // of the running: their readers are behind
  int64_t waiting_kv_budget = 0;
  int64_t waiting_batch_slots = 0;
  int64_t waiting_queue = 0;
  int64_t waiting_prompt_tokens = 0;
  int64_t wait_estimate_ns = 0;  // until a request that joins the queue now would start

  int64_t submitted = 0;  // = refused + those that ended + running + waiting
  int64_t refused = 0;    // never queued
  std::array<int64_t, 17> outcomes_by_code = {};  // absl::StatusCode; refused ones included
  std::array<int64_t, kNumFinishReasons> finished_by_reason = {};  // FinishReason; [0] not OK

  int64_t prompt_tokens = 0;  // computed
  int64_t cached_prompt_tokens = 0;
  int64_t generated_tokens = 0;
  int64_t preemptions = 0;        // 0 while admission promises whole requests
  int64_t recomputed_tokens = 0;  // 0 likewise
  int64_t steps = 0;

  int64_t outcomes(absl::StatusCode code) const {
    return outcomes_by_code[static_cast<size_t>(code)];
  }
};

// For histograms. Called on the engine thread between two steps: must be quick and must not block.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;

  virtual void OnStep(int64_t duration_ns, int64_t prefill_tokens, int64_t decode_tokens) = 0;
  virtual void OnFirstToken(int64_t since_arrival_ns) = 0;
  virtual void OnNextToken(int64_t since_previous_ns) = 0;
  // Requests refused by Engine::Submit are not among them.
  virtual void OnEnd(const Outcome& outcome) = 0;
};

}  // namespace lorc
