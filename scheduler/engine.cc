#include "scheduler/engine.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "scheduler/admission.h"

namespace lorc {

int64_t Engine::NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

namespace {

StepLimits LimitsOf(const Executor& executor) {
  return {executor.max_step_tokens(), executor.max_step_sequences()};
}

EngineOptions Cut(EngineOptions options, const StepLimits& limits) {
  options.scheduler = CutToStep(options.scheduler, limits);
  return options;
}

}  // namespace

Engine::Engine(Executor* executor, const EngineOptions& options, EngineObserver* observer)
    : executor_(executor),
      observer_(observer),
      limits_(LimitsOf(*executor)),
      options_(Cut(options, limits_)),
      geometry_(executor->kv_geometry()),
      budget_(geometry_, ExactHeadroomBlocks(options_.scheduler, limits_, geometry_)),
      max_in_flight_(int64_t{options_.scheduler.max_running} + options_.scheduler.max_waiting),
      progress_ns_(NowNs()),
      scheduler_(geometry_, limits_, options_.scheduler) {
  LORC_CHECK_GE(options.channel_capacity_tokens, 1);
  Publish();
  MutexLock lock(join_mutex_);
  thread_ = std::thread([this] { Run(); });
}

Engine::~Engine() { Shutdown(); }

SubmitResult Engine::Submit(Request request, std::function<void()> on_ready) {
  SubmitResult result;
  request.arrival_ns = NowNs();
  result.status = CheckRequest(request, options_.scheduler, geometry_, budget_);
  if (result.status.ok()) {
    MutexLock lock(mutex_);
    if (!failure_.empty()) {
      result.status = absl::UnavailableError(absl::StrCat("the engine has failed: ", failure_));
    } else if (stop_ || draining_.load(std::memory_order_relaxed)) {
      result.status = absl::UnavailableError("the server is shutting down");
    } else if (in_flight_ >= max_in_flight_) {
      result.status = absl::ResourceExhaustedError(absl::StrCat(
          "the server is full: ", in_flight_, " requests run or wait, at most ",
          options_.scheduler.max_running, " run and ", options_.scheduler.max_waiting, " wait"));
    } else {
      const int64_t id = next_id_++;
      ++in_flight_;
      ++undelivered_;
      result.sequence_id = request.sequence_id = id;
      result.channel = std::make_shared<TokenChannel>(options_.channel_capacity_tokens,
                                                      std::move(on_ready), [this, id] {
                                                        Post({Control::Kind::kResume, id, 0});
                                                      });
      inbox_.submissions.push_back({std::move(request), result.channel});
      num_in_inbox_.fetch_add(1, std::memory_order_relaxed);
      wake_engine_.NotifyAll();
      return result;
    }
  }
  if (result.status.code() == absl::StatusCode::kResourceExhausted) {
    result.retry_after_ns = stats_.Load().wait_estimate_ns;
  }
  CountRefusal(result.status.code());
  return result;
}

void Engine::CountRefusal(absl::StatusCode code) {
  refusals_by_code_[static_cast<size_t>(code)].fetch_add(1, std::memory_order_relaxed);
}

void Engine::Cancel(int64_t sequence_id) { Post({Control::Kind::kCancel, sequence_id, 0}); }

void Engine::Stop(int64_t sequence_id, int32_t generated_tokens) {
  Post({Control::Kind::kStop, sequence_id, generated_tokens});
}

void Engine::Post(const Control& control) {
  MutexLock lock(mutex_);
  inbox_.controls.push_back(control);
  wake_engine_.NotifyAll();
}

bool Engine::Drain(int64_t limit_ns) {
  const int64_t now_ns = NowNs();
  const int64_t until_ns = limit_ns < kNeverNs - now_ns ? now_ns + limit_ns : kNeverNs;
  MutexLock lock(mutex_);
  draining_.store(true, std::memory_order_relaxed);
  while (undelivered_ > 0 && NowNs() < until_ns) {
    if (until_ns == kNeverNs) {
      all_ended_.Wait(mutex_);
    } else {
      all_ended_.WaitUntil(mutex_, until_ns);
    }
  }
  if (undelivered_ == 0) return true;
  inbox_.fail_all = true;
  wake_engine_.NotifyAll();
  return false;
}

void Engine::Shutdown() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    wake_engine_.NotifyAll();
  }
  MutexLock lock(join_mutex_);
  if (thread_.joinable()) thread_.join();
}

void Engine::Run() {
  bool idle = false;
  while (TakeInbox(idle)) {
    ApplyInbox();
    const StepPlan& plan = scheduler_.PlanStep(NowNs());
    Deliver();
    Publish();
    idle = plan.work.empty();
    if (!idle) RunStep(plan);
  }
  ApplyInbox();
  FailAll(absl::UnavailableError("the server was shut down"));
  Publish();
  busy_.store(false, std::memory_order_relaxed);
}

bool Engine::TakeInbox(bool idle) {
  MutexLock lock(mutex_);
  if (idle && inbox_.empty() && !stop_) {
    busy_.store(false, std::memory_order_relaxed);
    const int64_t until_ns = scheduler_.NextTimerNs();
    while (inbox_.empty() && !stop_ && NowNs() < until_ns) {
      if (until_ns == kNeverNs) {
        wake_engine_.Wait(mutex_);
      } else {
        wake_engine_.WaitUntil(mutex_, until_ns);
      }
    }
  }
  // In this order: whoever sees the engine busy sees since when.
  progress_ns_.store(NowNs(), std::memory_order_relaxed);
  busy_.store(true, std::memory_order_release);
  std::swap(inbox_, taken_);
  return !stop_;
}

void Engine::ApplyInbox() {
  const int64_t now_ns = NowNs();
  const auto num_submissions = static_cast<int64_t>(taken_.submissions.size());
  for (Submission& submission : taken_.submissions) {
    channels_.emplace(submission.request.sequence_id, std::move(submission.channel));
    scheduler_.Submit(std::move(submission.request), now_ns);
  }
  for (const Control& control : taken_.controls) {
    switch (control.kind) {
      case Control::Kind::kCancel:
        scheduler_.Cancel(control.sequence_id, now_ns);
        break;
      case Control::Kind::kStop:
        scheduler_.Stop(control.sequence_id, control.generated_tokens, now_ns);
        break;
      case Control::Kind::kResume:
        scheduler_.Resume(control.sequence_id);
        break;
    }
  }
  const bool fail_all = taken_.fail_all;
  taken_.submissions.clear();
  taken_.controls.clear();
  taken_.fail_all = false;
  if (fail_all) {
    FailAll(absl::UnavailableError("the server shut down before the request ended"));
  } else if (!healthy_.load(std::memory_order_relaxed)) {
    // Accepted while the executor was failing.
    FailAll(absl::InternalError("the executor has failed"));
  } else {
    Deliver();
  }
  Publish();
  num_in_inbox_.fetch_sub(num_submissions, std::memory_order_relaxed);
}

void Engine::RunStep(const StepPlan& plan) {
  results_.clear();
  results_.resize(plan.work.size());
  const int64_t start_ns = NowNs();
  const absl::Status status = executor_->Execute(plan.work, results_);
  const int64_t end_ns = NowNs();
  progress_ns_.store(end_ns, std::memory_order_relaxed);
  if (!status.ok()) {
    const std::string failure(status.message().data(), status.message().size());
    healthy_.store(false, std::memory_order_relaxed);
    {
      MutexLock lock(mutex_);
      failure_ = failure.empty() ? "unknown error" : failure;
    }
    FailAll(absl::InternalError(absl::StrCat("the executor failed: ", failure)));
    return;
  }
  const int64_t prefill_tokens = plan.prefill_tokens;
  const int64_t decode_tokens = plan.decode_tokens;
  scheduler_.ApplyResults(results_, end_ns);
  if (observer_ != nullptr) observer_->OnStep(end_ns - start_ns, prefill_tokens, decode_tokens);
  // Before the tokens go out: who has read an end finds it counted.
  Publish();
  Deliver();
}

void Engine::FailAll(const absl::Status& status) {
  scheduler_.FailAll(status, NowNs());
  Publish();
  Deliver();
}

void Engine::Deliver() {
  for (TokenEvent& event : scheduler_.token_events()) {
    if (observer_ != nullptr) {
      if (event.index == 0) {
        observer_->OnFirstToken(event.latency_ns);
      } else {
        observer_->OnNextToken(event.latency_ns);
      }
    }
    const auto it = channels_.find(event.sequence_id);
    LORC_CHECK(it != channels_.end());
    if (it->second->Push(std::move(event.token))) scheduler_.Pause(event.sequence_id, NowNs());
  }
  const auto num_ended = static_cast<int64_t>(scheduler_.finished_events().size());
  if (num_ended > 0) {
    {
      // First, so that a reader that sees the end can submit the next request in its place.
      MutexLock lock(mutex_);
      in_flight_ -= num_ended;
    }
    for (FinishedEvent& event : scheduler_.finished_events()) {
      if (observer_ != nullptr) observer_->OnEnd(event.outcome);
      const auto it = channels_.find(event.sequence_id);
      LORC_CHECK(it != channels_.end());
      it->second->End(std::move(event.outcome));
      channels_.erase(it);
    }
    MutexLock lock(mutex_);
    undelivered_ -= num_ended;
    if (undelivered_ == 0) all_ended_.NotifyAll();
  }
  scheduler_.ClearEvents();
}

void Engine::Publish() { stats_.Store(scheduler_.Stats()); }

SchedulerStats Engine::Stats() const {
  SchedulerStats stats = stats_.Load();
  const int64_t in_inbox = num_in_inbox_.load(std::memory_order_relaxed);
  stats.submitted += in_inbox;
  stats.waiting_queue += in_inbox;
  for (size_t code = 0; code < refusals_by_code_.size(); ++code) {
    const int64_t refusals = refusals_by_code_[code].load(std::memory_order_relaxed);
    stats.submitted += refusals;
    stats.refused += refusals;
    stats.outcomes_by_code[code] += refusals;
    stats.finished_by_reason[0] += refusals;
  }
  return stats;
}

EngineHealth Engine::Health() const {
  EngineHealth health;
  health.healthy = healthy_.load(std::memory_order_relaxed);
  health.draining = draining_.load(std::memory_order_relaxed);
  health.busy = busy_.load(std::memory_order_acquire);
  if (health.busy) {
    health.since_progress_ns =
        std::max<int64_t>(0, NowNs() - progress_ns_.load(std::memory_order_relaxed));
  }
  return health;
}

}  // namespace lorc
