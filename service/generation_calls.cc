#include "service/generation_calls.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "absl/strings/str_format.h"
#include "scheduler/engine.h"

namespace lorc {
namespace {

constexpr char kRequestIdKey[] = "lorc-request-id";

std::string NewRequestId() {
  thread_local std::mt19937_64 generator{(uint64_t{std::random_device{}()} << 32) ^
                                         std::random_device{}()};
  return absl::StrFormat("%016x", generator());
}

// Metadata values are printable ASCII; gRPC aborts on others.
bool FitsMetadata(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c < 0x7f; });
}

// The call's deadline on the engine's clock.
int64_t DeadlineNs(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return kNeverNs;
  const auto left = deadline - std::chrono::system_clock::now();
  const int64_t left_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
  const int64_t now_ns = Engine::NowNs();
  return left_ns < kNeverNs - now_ns ? now_ns + left_ns : kNeverNs;
}

std::shared_ptr<Generation> MakeGeneration(const char* rpc, ServiceState* state,
                                           grpc::CallbackServerContext* context,
                                           const v1::GenerateRequest* request, AnswerSink* sink) {
  GenerationCall call;
  call.rpc = rpc;
  call.id = request->request_id().empty() ? NewRequestId() : request->request_id().substr(0, 4096);
  call.peer = context->peer();
  call.deadline_ns = DeadlineNs(*context);
  call.request = request;
  if (FitsMetadata(call.id)) context->AddInitialMetadata(kRequestIdKey, call.id);
  return std::make_shared<Generation>(state, sink, std::move(call));
}

}  // namespace

StreamCall::StreamCall(ServiceState* state, grpc::CallbackServerContext* context,
                       const v1::GenerateRequest* request)
    : state_(state),
      context_(context),
      generation_(MakeGeneration("Generate", state, context, request, this)) {
  state_->calls.Add(this);
  generation_->Start();
}

void StreamCall::OnWriteDone(bool ok) {
  EndSend();
  generation_->OnSent(ok);
}

void StreamCall::OnDone() {
  state_->calls.Remove(this);
  delete this;
}

bool StreamCall::Send(Answer& answer) {
  response_.Clear();
  if (!answer.Take(response_.mutable_text(), response_.mutable_tokens())) return false;
  BeginSend(Engine::NowNs());
  StartWrite(&response_);
  return true;
}

void StreamCall::Complete(Answer& answer, v1::FinishReason finish, const v1::Usage& usage) {
  response_.Clear();
  answer.Take(response_.mutable_text(), response_.mutable_tokens());
  response_.set_finish(finish);
  *response_.mutable_usage() = usage;
  BeginSend(Engine::NowNs());
  StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
}

void StreamCall::Fail(const grpc::Status& status) {
  BeginSend(Engine::NowNs());
  Finish(status);
}

OnceCall::OnceCall(ServiceState* state, grpc::CallbackServerContext* context,
                   const v1::GenerateRequest* request, v1::GenerateOnceResponse* response)
    : state_(state),
      context_(context),
      response_(response),
      generation_(MakeGeneration("GenerateOnce", state, context, request, this)) {
  state_->calls.Add(this);
  generation_->Start();
}

void OnceCall::OnDone() {
  state_->calls.Remove(this);
  delete this;
}

bool OnceCall::Send(Answer& answer) {
  answer.Take(response_->mutable_text(), response_->mutable_tokens());
  return false;
}

void OnceCall::Complete(Answer& answer, v1::FinishReason finish, const v1::Usage& usage) {
  answer.Take(response_->mutable_text(), response_->mutable_tokens());
  response_->set_finish(finish);
  *response_->mutable_usage() = usage;
  BeginSend(Engine::NowNs());
  Finish(grpc::Status::OK);
}

void OnceCall::Fail(const grpc::Status& status) {
  BeginSend(Engine::NowNs());
  Finish(status);
}

}  // namespace lorc
