// The reactors of Generate and GenerateOnce. Each deletes itself when gRPC is done with it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "lorc/v1/generation.grpc.pb.h"
#include "service/call_registry.h"
#include "service/generation.h"
#include "service/serving.h"

namespace lorc {

class StreamCall final : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                         private AnswerSink,
                         private CallRegistry::Call {
 public:
  // Starts at once.
  StreamCall(ServiceState* state, grpc::CallbackServerContext* context,
             const v1::GenerateRequest* request);

 private:
  ~StreamCall() override = default;

  void OnWriteDone(bool ok) override;
  void OnCancel() override { generation_->OnCancelled(); }
  void OnDone() override;

  bool Send(Answer& answer) override;
  void Complete(Answer& answer, v1::FinishReason finish, const v1::Usage& usage) override;
  void Fail(const grpc::Status& status) override;

  void Cut() override { context_->TryCancel(); }

  ServiceState* const state_;
  grpc::CallbackServerContext* const context_;
  v1::GenerateResponse response_;  // gRPC reads it until the write is done
  std::shared_ptr<Generation> generation_;
};

class OnceCall final : public grpc::ServerUnaryReactor,
                       private AnswerSink,
                       private CallRegistry::Call {
 public:
  OnceCall(ServiceState* state, grpc::CallbackServerContext* context,
           const v1::GenerateRequest* request, v1::GenerateOnceResponse* response);

 private:
  ~OnceCall() override = default;

  void OnCancel() override { generation_->OnCancelled(); }
  void OnDone() override;

  bool Send(Answer& answer) override;
  void Complete(Answer& answer, v1::FinishReason finish, const v1::Usage& usage) override;
  void Fail(const grpc::Status& status) override;

  void Cut() override { context_->TryCancel(); }

  ServiceState* const state_;
  grpc::CallbackServerContext* const context_;
  v1::GenerateOnceResponse* const response_;
  std::shared_ptr<Generation> generation_;
};

// A stream that has failed before it began.
class RefusedStream final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  explicit RefusedStream(const grpc::Status& status) { Finish(status); }

 private:
  void OnDone() override { delete this; }
};

}  // namespace lorc
