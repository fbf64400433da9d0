// lorc.v1.GenerationService on gRPC's callback API.
#pragma once

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"
#include "lorc/v1/generation.grpc.pb.h"
#include "service/serving.h"

namespace lorc {

class GenerationService final : public v1::GenerationService::CallbackService {
 public:
  // `state` outlives the service.
  explicit GenerationService(ServiceState* state) : state_(state) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* GenerateOnce(grpc::CallbackServerContext* context,
                                         const v1::GenerateRequest* request,
                                         v1::GenerateOnceResponse* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* context,
                                         const v1::GetModelInfoRequest* request,
                                         v1::GetModelInfoResponse* response) override;
  grpc::ServerUnaryReactor* GetServerStats(grpc::CallbackServerContext* context,
                                           const v1::GetServerStatsRequest* request,
                                           v1::GetServerStatsResponse* response) override;

 private:
  // UNAUTHENTICATED, or UNAVAILABLE while the model loads.
  absl::Status Admit(const grpc::CallbackServerContext& context) const;
  // The same, and what can be said of a generation before it is looked at.
  grpc::Status AdmitGeneration(const grpc::CallbackServerContext& context, const char* rpc) const;

  ServiceState* const state_;
};

}  // namespace lorc
