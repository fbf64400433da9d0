// The deterministic core: which requests run, which tokens each step computes, when each ends.
//
// A function over plain data with a clock that the caller moves: no thread, no lock, no text, no
// randomness. The same calls give the same answers.
//
// Use: any calls in any order, PlanStep, run what it returned, ApplyResults, and again. Between
// PlanStep with work and ApplyResults nothing but FailAll may be called: the step holds blocks.
// After each call that can end requests or bring tokens (all that take now_ns) read the events.
//
// Promises
//  - Each submitted request ends exactly once, with one FinishedEvent after its last TokenEvent.
//  - A running request is never evicted and never fails for memory (ledger.h).
//  - An ended request's blocks are free when the call that ended it returns.
//  - Which tokens a request gets does not depend on the others.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "runtime/step.h"
#include "scheduler/admission.h"
#include "scheduler/batch_planner.h"
#include "scheduler/block_manager.h"
#include "scheduler/ledger.h"
#include "scheduler/options.h"
#include "scheduler/request.h"
#include "scheduler/sequence.h"
#include "scheduler/stats.h"

namespace lorc {

struct StepPlan {
  std::vector<SequenceWork> work;  // empty: nothing to do until a call or NextTimerNs
  int64_t prefill_tokens = 0;
  int64_t decode_tokens = 0;
};

struct TokenEvent {
  int64_t sequence_id = 0;
  int32_t index = 0;       // 0 = the first generated token
  int64_t latency_ns = 0;  // since arrival for the first token, since the one before for others
  GeneratedToken token;
};

struct FinishedEvent {
  int64_t sequence_id = 0;
  Outcome outcome;
};

class Scheduler {
 public:
  // Requires CheckOptions(options, limits, geometry) to be OK.
  Scheduler(const KvGeometry& geometry, const StepLimits& limits, const SchedulerOptions& options);

  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Refused requests end at once, with an event like all others.
  void Submit(Request request, int64_t now_ns);

  // These return false where no such request is waiting or running.
  // Ends it with CANCELLED.
  bool Cancel(int64_t sequence_id, int64_t now_ns);
  // Ends it with OK and kStopString: its text holds a stop string that ends within generated token
  // number `generated_tokens` (1-based, at most those handed out), which becomes the usage.
  bool Stop(int64_t sequence_id, int32_t generated_tokens, int64_t now_ns);
  // A paused request keeps its blocks and takes no step; after options.slow_reader_timeout_ns it
  // ends with ABORTED. Only running requests can be paused.
  bool Pause(int64_t sequence_id, int64_t now_ns);
  bool Resume(int64_t sequence_id);

  // Ends what is past its time, starts what fits and says what to compute. The plan and what it
  // points to stay valid until ApplyResults or FailAll.
  const StepPlan& PlanStep(int64_t now_ns);

  // results.size() == work.size(), in the same order; their logprobs are moved out.
  void ApplyResults(std::span<StepResult> results, int64_t now_ns);

  // Ends everything, waiting or running, with this error; also closes an open step.
  void FailAll(const absl::Status& status, int64_t now_ns);

  std::span<TokenEvent> token_events() { return token_events_; }
  std::span<FinishedEvent> finished_events() { return finished_events_; }
  void ClearEvents();

  // PlanStep must be called again at this time even if nothing happens; kNeverNs if never. May be
  // too early, never too late.
  int64_t NextTimerNs() const { return next_timer_ns_; }

  SchedulerStats Stats() const;
  std::optional<SequenceState> StateOf(int64_t sequence_id) const;  // nullopt: ended or unknown
  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  int64_t num_waiting() const { return waiting_.size(); }

  // Counts everything again; returns what does not agree with the accounts, empty if all does.
  std::string AuditForTest() const;

 private:
  Sequence* Find(int64_t sequence_id) const;
  absl::Status Refusal(const Request& request, int64_t now_ns, int64_t& retry_after_ns);
  void SetTimer(int64_t at_ns) { next_timer_ns_ = std::min(next_timer_ns_, at_ns); }
  void CollectAll();  // into scratch_: ending them changes the lists they stand in
  void EndOverdue(int64_t now_ns);
  void Admit(int64_t now_ns);
  void PlanBatchWork();
  void AddToken(Sequence& sequence, StepResult& result, int64_t now_ns);
  void End(Sequence& sequence, absl::Status status, FinishReason finish, int64_t now_ns);
  void CountOutcome(const Outcome& outcome);
  void Sweep();

  const KvGeometry geometry_;
  const StepLimits limits_;
  const SchedulerOptions options_;
  const int64_t exact_headroom_blocks_;

  BlockManager blocks_;
  Ledger ledger_;
  std::unordered_map<int64_t, std::unique_ptr<Sequence>> sequences_;  // all below, by sequence id
  WaitingQueue waiting_;
  std::vector<Sequence*> running_;  // in the order of Sequence::Precedes
  WaitEstimator wait_estimator_;

  int64_t next_order_ = 0;
  int64_t next_timer_ns_ = kNeverNs;
  bool step_is_open_ = false;
  StepPlan plan_;
  std::vector<Sequence*> planned_;  // [plan_.work.size()]
  std::vector<TokenEvent> token_events_;
  std::vector<FinishedEvent> finished_events_;
  SchedulerStats counts_;  // what is counted over time; Stats() adds the gauges

  // Kept between calls to save allocations; empty outside.
  std::vector<Sequence*> scratch_;
  std::vector<PlanCandidate> candidates_;
  std::vector<int64_t> ended_;  // ids to forget in Sweep
};

}  // namespace lorc
