#include "service/generation.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "service/generate_request.h"
#include "service/rpc_status.h"

namespace lorc {
namespace {

double Seconds(int64_t ns) { return static_cast<double>(ns) * 1e-9; }
double Milliseconds(int64_t ns) { return static_cast<double>(ns / 1000) * 1e-3; }

v1::Usage ToProto(const Usage& from) {
  v1::Usage to;
  to.set_prompt_tokens(from.prompt_tokens);
  to.set_cached_prompt_tokens(from.cached_prompt_tokens);
  to.set_generated_tokens(from.generated_tokens);
  to.set_queue_seconds(Seconds(from.queue_ns));
  to.set_prefill_seconds(Seconds(from.prefill_ns));
  to.set_decode_seconds(Seconds(from.decode_ns));
  to.set_kv_bytes(from.kv_bytes);
  to.set_kv_bytes_full(from.kv_bytes_full);
  return to;
}

std::string FinishName(FinishReason finish) {
  constexpr absl::string_view kPrefix = "FINISH_REASON_";
  return v1::FinishReason_Name(ToProto(finish)).substr(kPrefix.size());
}

}  // namespace

Generation::Generation(ServiceState* state, AnswerSink* sink, GenerationCall call)
    : state_(state), engine_(state->serving.load()->engine), sink_(sink), call_(std::move(call)) {}

void Generation::Start() {
  state_->num_preparing.fetch_add(1, std::memory_order_relaxed);
  events_.store(kStart | kScheduled);
  state_->prepare.Post([self = shared_from_this()] { self->Run(); });
}

void Generation::Signal(uint32_t events) {
  if ((events_.fetch_or(events | kScheduled) & kScheduled) != 0) return;
  state_->deliver.Post([self = shared_from_this()] { self->Run(); });
}

void Generation::Run() {
  uint32_t idle;
  do {
    Handle(events_.exchange(kScheduled));
    idle = kScheduled;
  } while (!events_.compare_exchange_strong(idle, 0));
}

void Generation::Handle(uint32_t events) {
  if (is_finished_) return;
  if ((events & kSent) != 0) is_sending_ = false;
  if ((events & kCancelled) != 0) is_cancelled_ = true;
  if ((events & kStart) != 0) {
    if (!is_cancelled_) Submit();
    state_->num_preparing.fetch_sub(1, std::memory_order_relaxed);
    if (is_finished_) return;
  }
  if (channel_ != nullptr && is_cancelled_ && !is_told_to_end_) {
    engine_->Cancel(sequence_id_);
    is_told_to_end_ = true;
  }
  // Who waits for the end reads on whatever the client does.
  if (channel_ != nullptr && !has_ended_ && (!is_sending_ || is_told_to_end_)) Read();
  if (is_sending_) return;
  // The last words of a good end go together with it.
  const bool is_complete = has_ended_ && answer_->is_closed();
  if (channel_ != nullptr && !is_cancelled_ && !is_complete) {
    is_sending_ = sink_->Send(*answer_);
    if (is_sending_) return;
  }
  if (channel_ == nullptr || has_ended_) End();
}

void Generation::Submit() {
  auto prepared = PrepareRequest(*call_.request, *state_->serving.load());
  if (!prepared.ok()) return Finish(prepared.status(), 0, {});
  Request& request = prepared->request;
  const auto& stop = call_.request->stop();
  stop_strings_.assign(stop.stop_strings().begin(), stop.stop_strings().end());
  answer_ = std::make_unique<Answer>(state_->serving.load()->files->tokenizer.get(),
                                     std::move(prepared->text), request.min_tokens,
                                     prepared->with_logprobs);
  request.id = call_.id;
  request.deadline_ns = call_.deadline_ns;
  Outcome outcome;
  outcome.usage.prompt_tokens = static_cast<int32_t>(request.prompt.size());
  SubmitResult result =
      engine_->Submit(std::move(request), [self = shared_from_this()] { self->Signal(kReadable); });
  if (!result.status.ok()) return Finish(result.status, result.retry_after_ns, outcome);
  channel_ = std::move(result.channel);
  sequence_id_ = result.sequence_id;
  was_queued_ = true;
}

void Generation::Read() {
  tokens_.clear();
  has_ended_ = channel_->Read(tokens_);
  for (const GeneratedToken& token : tokens_) answer_->Add(token);
  if (has_ended_ && channel_->outcome().status.ok()) answer_->Close();
  if (answer_->stop() && !has_ended_ && !is_told_to_end_) {
    engine_->Stop(sequence_id_, answer_->stop()->generated_tokens);
    is_told_to_end_ = true;
  }
}

absl::Status Generation::CancelledStatus() const {
  // The client's own timer may be a little ahead of ours.
  constexpr int64_t kToleranceNs = 100'000'000;
  if (call_.deadline_ns != kNeverNs && Engine::NowNs() >= call_.deadline_ns - kToleranceNs) {
    return absl::DeadlineExceededError("the call's deadline passed");
  }
  if (state_->cutting.load()) {
    return absl::UnavailableError("the server shut down before the call ended");
  }
  return absl::CancelledError("cancelled by the client");
}

void Generation::End() {
  Outcome outcome;
  if (channel_ != nullptr) outcome = channel_->outcome();
  channel_ = nullptr;
  was_queued_ = was_queued_ && outcome.status.code() != absl::StatusCode::kResourceExhausted;
  if (is_cancelled_) return Finish(CancelledStatus(), 0, outcome);
  // The answer was complete with its stop string, whatever became of the request afterwards.
  if (answer_->stop()) {
    outcome.status = absl::OkStatus();
    outcome.finish = FinishReason::kStopString;
    outcome.usage.generated_tokens = answer_->stop()->generated_tokens;
  }
  Finish(outcome.status, outcome.retry_after_ns, outcome);
}

void Generation::Finish(const absl::Status& status, int64_t retry_after_ns,
                        const Outcome& outcome) {
  is_finished_ = true;
  state_->outcomes.Count(status.code(), status.ok() ? outcome.finish : FinishReason::kNone,
                         was_queued_);
  Log(status, outcome);
  AnswerSink* sink = std::exchange(sink_, nullptr);
  if (!status.ok()) return sink->Fail(ToGrpcStatus(status, retry_after_ns));
  v1::Usage usage = ToProto(outcome.usage);
  if (answer_->stop()) usage.set_matched_stop(stop_strings_[answer_->stop()->index]);
  sink->Complete(*answer_, ToProto(outcome.finish), usage);
}

void Generation::Log(const absl::Status& status, const Outcome& outcome) const {
  const Usage& usage = outcome.usage;
  std::vector<LogField> fields = {
      {"id", call_.id},
      {"rpc", call_.rpc},
      {"peer", call_.peer},
      {"status", absl::StatusCodeToString(status.code())},
      {"finish", status.ok() ? FinishName(outcome.finish) : "NONE"},
      {"prompt_tokens", usage.prompt_tokens},
      {"generated_tokens", usage.generated_tokens},
      {"queue_ms", Milliseconds(usage.queue_ns)},
      {"prefill_ms", Milliseconds(usage.prefill_ns)},
      {"decode_ms", Milliseconds(usage.decode_ns)},
      {"kv_bytes", usage.kv_bytes},
  };
  if (!status.ok()) {
    fields.emplace_back("message", std::string(status.message().data(), status.message().size()));
  }
  const bool is_ours = status.code() == absl::StatusCode::kInternal;
  state_->logger->Log(is_ours ? LogLevel::kError : LogLevel::kInfo, "request", fields);
}

}  // namespace lorc
