// The engine: one thread that owns the scheduler and the executor, a bounded way in (Submit) and a
// bounded channel out for each request (token_channel.h).
//
// Threads: every public function may be called from any thread, also from on_ready callbacks and
// EngineObserver, except that Drain and Shutdown wait for the engine thread and must not be called
// there. None of the others waits for a step.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "runtime/executor.h"
#include "scheduler/mutex.h"
#include "scheduler/options.h"
#include "scheduler/request.h"
#include "scheduler/scheduler.h"
#include "scheduler/seqlock.h"
#include "scheduler/stats.h"
#include "scheduler/token_channel.h"

namespace lorc {

struct EngineOptions {
  SchedulerOptions scheduler;
  // Generated tokens of one request that may lie unread before it pauses, >= 1.
  int32_t channel_capacity_tokens = 256;
};

struct SubmitResult {
  // OK: `channel` brings tokens and outcome. Otherwise the request was refused: INVALID_ARGUMENT,
  // RESOURCE_EXHAUSTED or UNAVAILABLE, as in Outcome.
  absl::Status status;
  int64_t retry_after_ns = 0;  // > 0 with RESOURCE_EXHAUSTED
  int64_t sequence_id = 0;     // for Cancel and Stop
  std::shared_ptr<TokenChannel> channel;
};

struct EngineHealth {
  bool healthy = true;            // false after an executor error: for ever
  bool draining = false;          // refuses new requests
  bool busy = false;              // in a step or about to plan one; an idle engine sleeps
  int64_t since_progress_ns = 0;  // while busy: since the last step ended or the engine woke up

  // An idle engine is ready, a busy one that has ended no step for so long is not.
  bool Ready(int64_t stall_limit_ns) const {
    return healthy && !draining && (!busy || since_progress_ns < stall_limit_ns);
  }
};

class Engine {
 public:
  // Starts the thread. `executor` and `observer` (may be nullptr) outlive the engine. Requires
  // CheckOptions to be OK for options.scheduler and the executor's limits.
  Engine(Executor* executor, const EngineOptions& options, EngineObserver* observer);
  ~Engine();  // Shutdown

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // request.sequence_id and arrival_ns are set here; deadline_ns is on NowNs()'s clock. What can
  // be said without the engine thread is refused at once; a queue that is full when it looks makes
  // the channel's outcome RESOURCE_EXHAUSTED. For `on_ready` see token_channel.h.
  SubmitResult Submit(Request request, std::function<void()> on_ready);

  // These take effect before the next step; they do nothing where the request has ended. Call each
  // at most once for a request. The channel still brings the outcome.
  void Cancel(int64_t sequence_id);
  // The reader found a stop string that ends within generated token `generated_tokens` (1-based).
  void Stop(int64_t sequence_id, int32_t generated_tokens);

  // Refuses new requests from now on and waits until all others have ended. True: they did within
  // the limit. Otherwise what is left ends with UNAVAILABLE after the step in progress.
  bool Drain(int64_t limit_ns);

  // Ends what is left with UNAVAILABLE after the step in progress and joins the thread.
  void Shutdown();

  SchedulerStats Stats() const;
  EngineHealth Health() const;

  // Nanoseconds on std::chrono::steady_clock.
  static int64_t NowNs();

 private:
  struct Submission {
    Request request;
    std::shared_ptr<TokenChannel> channel;
  };
  struct Control {
    enum class Kind { kCancel, kStop, kResume };
    Kind kind;
    int64_t sequence_id;
    int32_t generated_tokens;
  };
  struct Inbox {
    std::vector<Submission> submissions;
    std::vector<Control> controls;
    bool fail_all = false;

    bool empty() const { return submissions.empty() && controls.empty() && !fail_all; }
  };

  void CountRefusal(absl::StatusCode code);
  void Post(const Control& control);

  // Engine thread.
  void Run();
  bool TakeInbox(bool idle);  // false: shut down
  void ApplyInbox();
  void RunStep(const StepPlan& plan);
  void FailAll(const absl::Status& status);
  void Deliver();
  void Publish();

  Executor* const executor_;
  EngineObserver* const observer_;
  const StepLimits limits_;
  const EngineOptions options_;  // cut to the limits
  const KvGeometry geometry_;
  const Ledger budget_;  // nothing is booked in it: for CheckRequest
  const int64_t max_in_flight_;

  mutable Mutex mutex_;
  CondVar wake_engine_;
  CondVar all_ended_;
  Inbox inbox_ ABSL_GUARDED_BY(mutex_);
  int64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  int64_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;    // accepted, not ended
  int64_t undelivered_ ABSL_GUARDED_BY(mutex_) = 0;  // accepted, End not called on the channel
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::string failure_ ABSL_GUARDED_BY(mutex_);  // of the executor, empty if none

  // Written by one side, read by any thread.
  std::atomic<bool> healthy_{true};
  std::atomic<bool> draining_{false};
  std::atomic<bool> busy_{false};
  std::atomic<int64_t> progress_ns_;
  std::atomic<int64_t> num_in_inbox_{0};
  std::array<std::atomic<int64_t>, 17> refusals_by_code_ = {};
  SeqLock<SchedulerStats> stats_;

  // Engine thread only.
  Scheduler scheduler_;
  Inbox taken_;
  std::unordered_map<int64_t, std::shared_ptr<TokenChannel>> channels_;  // by sequence id
  std::vector<StepResult> results_;

  Mutex join_mutex_;
  std::thread thread_ ABSL_GUARDED_BY(join_mutex_);
};

}  // namespace lorc
