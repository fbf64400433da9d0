#include "service/generation_service.h"

#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/weights/status_macros.h"
#include "service/generation_calls.h"
#include "service/info_responses.h"
#include "service/prompt.h"
#include "service/rpc_status.h"

namespace lorc {
namespace {

// A unary call answered by a worker.
class WorkerCall final : public grpc::ServerUnaryReactor, private CallRegistry::Call {
 public:
  WorkerCall(ServiceState* state, grpc::CallbackServerContext* context,
             std::function<absl::Status()> answer)
      : state_(state), context_(context) {
    state_->calls.Add(this);
    state_->prepare.Post([this, answer = std::move(answer)] {
      const absl::Status status = answer();
      BeginSend(Engine::NowNs());
      Finish(ToGrpcStatus(status));
    });
  }

 private:
  ~WorkerCall() override = default;

  void OnDone() override {
    state_->calls.Remove(this);
    delete this;
  }
  void Cut() override { context_->TryCancel(); }

  ServiceState* const state_;
  grpc::CallbackServerContext* const context_;
};

grpc::ServerUnaryReactor* Answered(grpc::CallbackServerContext* context,
                                   const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

absl::Status TokenizeInto(const v1::TokenizeRequest& request, const Serving& serving,
                          v1::TokenizeResponse* response) {
  // A text may be longer than what a generation takes.
  constexpr int64_t kMostTokens = int64_t{1} << 40;
  absl::StatusOr<std::vector<TokenId>> ids =
      absl::InvalidArgumentError("input is not set, expected text or chat");
  if (request.has_text()) {
    ids = PromptFromText(request.text(), request.parse_special(), *serving.files, kMostTokens);
  } else if (request.has_chat()) {
    ids = PromptFromChat(request.chat(), *serving.files, kMostTokens);
  }
  if (!ids.ok()) return ids.status();
  response->mutable_ids()->Add(ids->begin(), ids->end());
  return absl::OkStatus();
}

absl::Status DetokenizeInto(const v1::DetokenizeRequest& request, const Serving& serving,
                            v1::DetokenizeResponse* response) {
  LORC_ASSIGN_OR_RETURN(const std::vector<TokenId> ids,
                        PromptFromIds(request.ids(), "ids", *serving.files));
  response->set_text(ToValidUtf8(serving.files->tokenizer->Decode(ids, request.keep_special())));
  return absl::OkStatus();
}

}  // namespace

absl::Status GenerationService::Admit(const grpc::CallbackServerContext& context) const {
  LORC_RETURN_IF_ERROR(state_->auth.Check(context.client_metadata()));
  if (state_->serving.load() == nullptr) {
    return absl::UnavailableError("the model is still loading");
  }
  return absl::OkStatus();
}

grpc::Status GenerationService::AdmitGeneration(const grpc::CallbackServerContext& context,
                                                const char* rpc) const {
  absl::Status status = Admit(context);
  int64_t retry_after_ns = 0;
  if (status.ok() && state_->draining.load()) {
    status = absl::UnavailableError("the server is shutting down");
  }
  if (status.ok()) {
    // A burst that can't be queued is refused before its prompts are tokenised. The engine has the
    // last word: its numbers here may be a moment old, hence the slack.
    constexpr int64_t kSlack = 64;
    const Serving& serving = *state_->serving.load();
    const SchedulerStats stats = serving.engine->Stats();
    const int64_t in_flight = state_->num_preparing.load(std::memory_order_relaxed) +
                              stats.running + stats.waiting_kv_budget + stats.waiting_batch_slots +
                              stats.waiting_queue;
    const SchedulerOptions& options = serving.size->scheduler;
    if (in_flight >= int64_t{options.max_running} + options.max_waiting + kSlack) {
      retry_after_ns = stats.wait_estimate_ns;
      status = absl::ResourceExhaustedError(
          absl::StrCat("the server is full: ", in_flight, " requests, at most ",
                       options.max_running, " run and ", options.max_waiting, " wait"));
    }
  }
  if (status.ok()) return grpc::Status::OK;
  state_->outcomes.Count(status.code(), FinishReason::kNone, /*was_queued=*/false);
  state_->logger->Info(
      "request", {{"rpc", rpc},
                  {"peer", context.peer()},
                  {"status", absl::StatusCodeToString(status.code())},
                  {"message", std::string(status.message().data(), status.message().size())}});
  return ToGrpcStatus(status, retry_after_ns);
}

grpc::ServerWriteReactor<v1::GenerateResponse>* GenerationService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  const grpc::Status refusal = AdmitGeneration(*context, "Generate");
  if (!refusal.ok()) return new RefusedStream(refusal);
  return new StreamCall(state_, context, request);
}

grpc::ServerUnaryReactor* GenerationService::GenerateOnce(grpc::CallbackServerContext* context,
                                                          const v1::GenerateRequest* request,
                                                          v1::GenerateOnceResponse* response) {
  const grpc::Status refusal = AdmitGeneration(*context, "GenerateOnce");
  if (!refusal.ok()) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(refusal);
    return reactor;
  }
  return new OnceCall(state_, context, request, response);
}

grpc::ServerUnaryReactor* GenerationService::Tokenize(grpc::CallbackServerContext* context,
                                                      const v1::TokenizeRequest* request,
                                                      v1::TokenizeResponse* response) {
  const absl::Status status = Admit(*context);
  if (!status.ok()) return Answered(context, status);
  return new WorkerCall(state_, context, [this, request, response] {
    return TokenizeInto(*request, *state_->serving.load(), response);
  });
}

grpc::ServerUnaryReactor* GenerationService::Detokenize(grpc::CallbackServerContext* context,
                                                        const v1::DetokenizeRequest* request,
                                                        v1::DetokenizeResponse* response) {
  const absl::Status status = Admit(*context);
  if (!status.ok()) return Answered(context, status);
  return new WorkerCall(state_, context, [this, request, response] {
    return DetokenizeInto(*request, *state_->serving.load(), response);
  });
}

grpc::ServerUnaryReactor* GenerationService::GetModelInfo(
    grpc::CallbackServerContext* context, const v1::GetModelInfoRequest* /*request*/,
    v1::GetModelInfoResponse* response) {
  const absl::Status status = Admit(*context);
  if (status.ok()) *response = ModelInfo(*state_->serving.load());
  return Answered(context, status);
}

grpc::ServerUnaryReactor* GenerationService::GetServerStats(
    grpc::CallbackServerContext* context, const v1::GetServerStatsRequest* /*request*/,
    v1::GetServerStatsResponse* response) {
  const absl::Status status = state_->auth.Check(context->client_metadata());
  if (status.ok()) *response = ServerStats(*state_);
  return Answered(context, status);
}

}  // namespace lorc
