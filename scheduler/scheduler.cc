#include "scheduler/scheduler.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace lorc {
namespace {

bool Contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// Before min_tokens the sampler must not choose what would end the request.
void SuppressEnds(Request& request) {
  request.sampling.min_tokens = request.min_tokens;
  if (request.min_tokens == 0) return;
  std::vector<TokenId>& suppressed = request.sampling.suppressed_tokens;
  suppressed = request.stop_ids;
  if (!request.ignore_eos) {
    suppressed.insert(suppressed.end(), request.eos_ids.begin(), request.eos_ids.end());
  }
}

int64_t After(int64_t at_ns, int64_t delay_ns) {
  return delay_ns < kNeverNs - at_ns ? at_ns + delay_ns : kNeverNs;
}

double Seconds(int64_t ns) { return static_cast<double>(ns) * 1e-9; }

}  // namespace

Scheduler::Scheduler(const KvGeometry& geometry, const StepLimits& limits,
                     const SchedulerOptions& options)
    : geometry_(geometry),
      limits_(limits),
      options_(CutToStep(options, limits)),
      exact_headroom_blocks_(ExactHeadroomBlocks(options, limits, geometry)),
      blocks_(geometry),
      ledger_(geometry, exact_headroom_blocks_) {
  LORC_CHECK(CheckOptions(options, limits, geometry).ok());
  running_.reserve(options_.max_running);
  planned_.reserve(options_.max_running);
  candidates_.reserve(options_.max_running);
  plan_.work.reserve(options_.max_running);
  token_events_.reserve(options_.max_running);
}

void Scheduler::Submit(Request request, int64_t now_ns) {
  LORC_CHECK(!step_is_open_);
  LORC_CHECK(request.sequence_id > 0 && !sequences_.contains(request.sequence_id));
  ++counts_.submitted;
  request.arrival_ns = std::min(request.arrival_ns, now_ns);

  Outcome refused;
  refused.status = Refusal(request, now_ns, refused.retry_after_ns);
  if (!refused.status.ok()) {
    ++counts_.refused;
    refused.usage.prompt_tokens = static_cast<int32_t>(
        std::min<size_t>(request.prompt.size(), std::numeric_limits<int32_t>::max()));
    refused.usage.queue_ns = now_ns - request.arrival_ns;
    CountOutcome(refused);
    finished_events_.push_back({request.sequence_id, std::move(refused)});
    return;
  }
  SuppressEnds(request);
  SetTimer(request.deadline_ns);
  const int64_t id = request.sequence_id;
  const int64_t total = static_cast<int64_t>(request.prompt.size()) + request.max_tokens;
  auto sequence = std::make_unique<Sequence>(std::move(request), next_order_++, geometry_,
                                             BlocksNeeded(geometry_, total));
  waiting_.Push(sequence.get());
  sequences_.emplace(id, std::move(sequence));
}

absl::Status Scheduler::Refusal(const Request& request, int64_t now_ns, int64_t& retry_after_ns) {
  absl::Status status = CheckRequest(request, options_, geometry_, ledger_);
  if (!status.ok()) return status;
  if (request.deadline_ns <= now_ns) {
    return absl::DeadlineExceededError("the deadline had passed on arrival");
  }
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  if (!waiting_.HasRoom(options_, prompt)) {
    Admit(now_ns);  // some may be able to start already
    if (!waiting_.HasRoom(options_, prompt)) {
      retry_after_ns = wait_estimator_.EstimateNs(waiting_.size());
      return absl::ResourceExhaustedError(absl::StrCat(
          "the queue is full: ", waiting_.size(), " of ", options_.max_waiting,
          " requests wait with ", waiting_.prompt_tokens(), " of ",
          options_.max_waiting_prompt_tokens, " prompt tokens, this one has ", prompt));
    }
  }
  return absl::OkStatus();
}

bool Scheduler::Cancel(int64_t sequence_id, int64_t now_ns) {
  LORC_CHECK(!step_is_open_);
  Sequence* sequence = Find(sequence_id);
  if (sequence == nullptr) return false;
  End(*sequence, absl::CancelledError("cancelled by the caller"), FinishReason::kNone, now_ns);
  Sweep();
  return true;
}

bool Scheduler::Stop(int64_t sequence_id, int32_t generated_tokens, int64_t now_ns) {
  LORC_CHECK(!step_is_open_);
  Sequence* sequence = Find(sequence_id);
  if (sequence == nullptr) return false;
  End(*sequence, absl::OkStatus(), FinishReason::kStopString, now_ns);
  int32_t& generated = finished_events_.back().outcome.usage.generated_tokens;
  generated = std::clamp(generated_tokens, 0, generated);
  Sweep();
  return true;
}

bool Scheduler::Pause(int64_t sequence_id, int64_t now_ns) {
  LORC_CHECK(!step_is_open_);
  Sequence* sequence = Find(sequence_id);
  if (sequence == nullptr || sequence->state != SequenceState::kRunning) return false;
  if (!sequence->is_paused()) {
    sequence->paused_since_ns = now_ns;
    ++counts_.paused;
    SetTimer(After(now_ns, options_.slow_reader_timeout_ns));
  }
  return true;
}

bool Scheduler::Resume(int64_t sequence_id) {
  LORC_CHECK(!step_is_open_);
  Sequence* sequence = Find(sequence_id);
  if (sequence == nullptr) return false;
  if (sequence->is_paused()) --counts_.paused;
  sequence->paused_since_ns = kNeverNs;
  return true;
}

const StepPlan& Scheduler::PlanStep(int64_t now_ns) {
  LORC_CHECK(!step_is_open_);
  EndOverdue(now_ns);
  Admit(now_ns);
  PlanBatchWork();
  step_is_open_ = !plan_.work.empty();
  return plan_;
}

void Scheduler::CollectAll() {
  for (int64_t i = 0; i < waiting_.size(); ++i) scratch_.push_back(waiting_.at(i));
  scratch_.insert(scratch_.end(), running_.begin(), running_.end());
}

void Scheduler::EndOverdue(int64_t now_ns) {
  if (now_ns < next_timer_ns_) return;
  next_timer_ns_ = kNeverNs;
  CollectAll();
  for (Sequence* sequence : scratch_) {
    const Request& request = sequence->request;
    const int64_t reader_limit_ns =
        sequence->is_paused() ? After(sequence->paused_since_ns, options_.slow_reader_timeout_ns)
                              : kNeverNs;
    if (now_ns >= request.deadline_ns) {
      const bool waits = sequence->state == SequenceState::kWaiting;
      End(*sequence,
          absl::DeadlineExceededError(absl::StrCat(
              "the deadline passed ", waits ? "in the queue" : "while running", " after ",
              Seconds(now_ns - request.arrival_ns), " s, with ", sequence->num_generated(),
              " of at most ", request.max_tokens, " tokens generated")),
          FinishReason::kNone, now_ns);
    } else if (now_ns >= reader_limit_ns) {
      End(*sequence,
          absl::AbortedError(absl::StrCat("the reader took no token for ",
                                          Seconds(now_ns - sequence->paused_since_ns),
                                          " s while its buffer was full")),
          FinishReason::kNone, now_ns);
    } else {
      SetTimer(std::min(request.deadline_ns, reader_limit_ns));
    }
  }
  scratch_.clear();
  Sweep();
}

void Scheduler::Admit(int64_t now_ns) {
  const WaitingCounts waiting = AdmitWaiting(options_, now_ns, options_.max_running - num_running(),
                                             waiting_, ledger_, scratch_);
  counts_.waiting_kv_budget = waiting.kv_budget;
  counts_.waiting_batch_slots = waiting.batch_slots;
  wait_estimator_.NoteAdmissions(now_ns, static_cast<int64_t>(scratch_.size()), waiting_.size());
  for (Sequence* sequence : scratch_) {
    sequence->state = SequenceState::kRunning;
    sequence->admitted_ns = now_ns;
    sequence->tokens.reserve(sequence->longest());
    sequence->blocks = BlockTable(geometry_, geometry_.Blocks(sequence->longest()));
    running_.insert(
        std::upper_bound(running_.begin(), running_.end(), sequence,
                         [](const Sequence* a, const Sequence* b) { return a->Precedes(*b); }),
        sequence);
  }
  scratch_.clear();
}

void Scheduler::PlanBatchWork() {
  plan_.work.clear();
  plan_.prefill_tokens = 0;
  plan_.decode_tokens = 0;
  planned_.clear();
  candidates_.clear();
  for (Sequence* sequence : running_) {
    if (sequence->is_paused()) continue;
    planned_.push_back(sequence);
    candidates_.push_back({sequence->num_computed, sequence->num_known(), sequence->need.exact});
  }
  PlanBatch(geometry_, limits_, exact_headroom_blocks_, candidates_);

  size_t kept = 0;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    const int32_t count = candidates_[i].count;
    if (count == 0) continue;
    Sequence& sequence = *planned_[i];
    planned_[kept++] = &sequence;
    const int32_t first = sequence.num_computed;
    blocks_.Grow(sequence.blocks, first, first + count);
    ledger_.Move(sequence.claim, sequence.blocks.held());
    SequenceWork work;
    work.sequence_id = sequence.request.sequence_id;
    work.tokens = sequence.tokens;
    work.num_prompt_tokens = sequence.num_prompt_tokens;
    work.first = first;
    work.count = count;
    work.latent_blocks = sequence.blocks.latent();
    work.exact_blocks = sequence.blocks.exact();
    if (first + count == sequence.num_known()) work.sampling = &sequence.request.sampling;
    plan_.work.push_back(work);
    const int32_t prefill = std::clamp(sequence.num_prompt_tokens - first, 0, count);
    plan_.prefill_tokens += prefill;
    plan_.decode_tokens += count - prefill;
  }
  planned_.resize(kept);
  candidates_.clear();
}

void Scheduler::ApplyResults(std::span<StepResult> results, int64_t now_ns) {
  LORC_CHECK(step_is_open_);
  LORC_CHECK_EQ(results.size(), plan_.work.size());
  step_is_open_ = false;
  ++counts_.steps;
  counts_.prompt_tokens += plan_.prefill_tokens;
  counts_.written_tokens += plan_.prefill_tokens + plan_.decode_tokens;
  for (size_t i = 0; i < results.size(); ++i) {
    Sequence& sequence = *planned_[i];
    const SequenceWork& work = plan_.work[i];
    sequence.num_computed = work.first + work.count;
    blocks_.Trim(sequence.blocks, sequence.num_computed);
    ledger_.Move(sequence.claim, sequence.blocks.held());
    if (!results[i].status.ok()) {
      End(sequence, std::move(results[i].status), FinishReason::kNone, now_ns);
    } else if (work.sampling != nullptr) {
      AddToken(sequence, results[i], now_ns);
    }
  }
  Sweep();
}

void Scheduler::AddToken(Sequence& sequence, StepResult& result, int64_t now_ns) {
  const Request& request = sequence.request;
  if (result.token == kNoToken) {
    End(sequence, absl::InternalError("the executor chose no token"), FinishReason::kNone, now_ns);
    return;
  }
  const int32_t index = sequence.num_generated();
  FinishReason finish = FinishReason::kNone;
  if (index >= request.min_tokens) {
    if (!request.ignore_eos && Contains(request.eos_ids, result.token)) {
      finish = FinishReason::kEos;
    } else if (Contains(request.stop_ids, result.token)) {
      finish = FinishReason::kStopToken;
    }
  }
  TokenEvent& event = token_events_.emplace_back();
  event.sequence_id = request.sequence_id;
  event.index = index;
  event.latency_ns = now_ns - (index == 0 ? request.arrival_ns : sequence.last_token_ns);
  event.token = {result.token, finish != FinishReason::kNone, result.chosen, std::move(result.top)};

  sequence.tokens.push_back(result.token);
  sequence.last_token_ns = now_ns;
  if (index == 0) sequence.first_token_ns = now_ns;
  ++counts_.generated_tokens;
  if (finish == FinishReason::kNone && index + 1 == request.max_tokens) {
    finish = FinishReason::kLength;
  }
  if (finish != FinishReason::kNone) End(sequence, absl::OkStatus(), finish, now_ns);
}

void Scheduler::FailAll(const absl::Status& status, int64_t now_ns) {
  step_is_open_ = false;
  CollectAll();
  for (Sequence* sequence : scratch_) {
    // A status of its own for each: readers on other threads share nothing.
    End(*sequence, absl::Status(status.code(), status.message()), FinishReason::kNone, now_ns);
  }
  scratch_.clear();
  Sweep();
}

void Scheduler::End(Sequence& sequence, absl::Status status, FinishReason finish, int64_t now_ns) {
  LORC_CHECK(sequence.state != SequenceState::kFinished);
  const Request& request = sequence.request;
  FinishedEvent& event = finished_events_.emplace_back();
  event.sequence_id = request.sequence_id;
  event.outcome.status = std::move(status);
  event.outcome.finish = finish;
  Usage& usage = event.outcome.usage;
  usage.prompt_tokens = sequence.num_prompt_tokens;
  usage.generated_tokens = sequence.num_generated();
  if (sequence.state == SequenceState::kWaiting) {
    usage.queue_ns = now_ns - request.arrival_ns;
    waiting_.Remove(&sequence);
  } else {
    const bool has_token = usage.generated_tokens > 0;
    usage.queue_ns = sequence.admitted_ns - request.arrival_ns;
    usage.prefill_ns = (has_token ? sequence.first_token_ns : now_ns) - sequence.admitted_ns;
    usage.decode_ns = has_token ? now_ns - sequence.first_token_ns : 0;
    const BlockCounts held = sequence.blocks.held();
    usage.kv_bytes =
        held.latent * geometry_.latent_block_bytes + held.exact * geometry_.exact_block_bytes;
    usage.kv_bytes_full = sequence.num_computed * geometry_.full_bytes_per_token;
    counts_.written_tokens -= sequence.num_computed;
    if (sequence.is_paused()) --counts_.paused;
    blocks_.Release(sequence.blocks);
    ledger_.Close(sequence.claim);
  }
  sequence.state = SequenceState::kFinished;
  ended_.push_back(request.sequence_id);
  CountOutcome(event.outcome);
}

void Scheduler::CountOutcome(const Outcome& outcome) {
  const auto code = static_cast<size_t>(outcome.status.code());
  ++counts_.outcomes_by_code[std::min(code, counts_.outcomes_by_code.size() - 1)];
  ++counts_.finished_by_reason[static_cast<size_t>(outcome.finish)];
}

void Scheduler::Sweep() {
  if (ended_.empty()) return;
  std::erase_if(running_, [](const Sequence* s) { return s->state == SequenceState::kFinished; });
  for (const int64_t id : ended_) sequences_.erase(id);
  ended_.clear();
}

void Scheduler::ClearEvents() {
  token_events_.clear();
  finished_events_.clear();
}

Sequence* Scheduler::Find(int64_t sequence_id) const {
  const auto it = sequences_.find(sequence_id);
  return it == sequences_.end() ? nullptr : it->second.get();
}

std::optional<SequenceState> Scheduler::StateOf(int64_t sequence_id) const {
  const Sequence* sequence = Find(sequence_id);
  if (sequence == nullptr) return std::nullopt;
  return sequence->state;
}

}  // namespace lorc
