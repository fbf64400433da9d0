// Who may start: fits in memory, in which order, how many may wait.
//
// Apart from batching (batch_planner.h): admission promises memory for a whole request, once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runtime/kv/geometry.h"
#include "scheduler/ledger.h"
#include "scheduler/options.h"
#include "scheduler/request.h"
#include "scheduler/sequence.h"

namespace lorc {

// What a request of `total_tokens` (prompt + max_tokens) may need in its life, headroom aside.
BlockCounts BlocksNeeded(const KvGeometry& geometry, int64_t total_tokens);

// "needs 123 bytes for 45 tokens (3 latent blocks x 41 bytes), the budget is ...".
std::string NeedArithmetic(const KvGeometry& geometry, const Ledger& ledger, int64_t total_tokens);

// INVALID_ARGUMENT for what can never run: an empty prompt, values out of range, longer than the
// context, or more cache than there is. `ledger` gives the budget only; any thread that has its
// own.
absl::Status CheckRequest(const Request& request, const SchedulerOptions& options,
                          const KvGeometry& geometry, const Ledger& ledger);

// The requests that wait, in the order in which they are to start.
class WaitingQueue {
 public:
  void Push(Sequence* sequence);
  void Remove(const Sequence* sequence);

  int64_t size() const { return static_cast<int64_t>(queue_.size()); }
  int64_t prompt_tokens() const { return prompt_tokens_; }
  Sequence* at(int64_t i) const { return queue_[i]; }

  bool HasRoom(const SchedulerOptions& options, int64_t prompt_tokens) const;

 private:
  std::vector<Sequence*> queue_;
  int64_t prompt_tokens_ = 0;
};

// Why requests wait; the sum is the queue's size.
struct WaitingCounts {
  int64_t kv_budget = 0;    // tried, and their bytes can't be promised now
  int64_t batch_slots = 0;  // max_running requests are running
  int64_t queue = 0;        // behind one that waits for bytes: beyond the look-ahead or not allowed
                            // to overtake it
};

// Takes from the queue, in its order, what can start, opens its claim and appends it to `admitted`.
// Past a request that does not fit at most options.look_ahead more are tried, and none once it is
// older than options.overtake_age_ns.
WaitingCounts AdmitWaiting(const SchedulerOptions& options, int64_t now_ns, int64_t free_slots,
                           WaitingQueue& queue, Ledger& ledger, std::vector<Sequence*>& admitted);

// Estimates when a request that joins the queue now would start, from how fast others left it.
class WaitEstimator {
 public:
  void NoteAdmissions(int64_t now_ns, int64_t admitted, int64_t still_waiting);
  int64_t EstimateNs(int64_t waiting) const;

 private:
  int64_t last_ns_ = -1;  // of the latest admission while others waited
  int64_t interval_ns_ = 1'000'000'000;
};

}  // namespace lorc
