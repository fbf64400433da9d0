// grpc.health.v1 as a client, without its generated code.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "scheduler/mutex.h"

namespace lorc::test {

// HealthCheckResponse.ServingStatus; -1: no answer.
inline constexpr int kServing = 1;
inline constexpr int kNotServing = 2;
inline constexpr int kServiceUnknown = 3;

// Check. `status` may be nullptr.
int CheckHealth(const std::shared_ptr<grpc::Channel>& channel, const std::string& service,
                grpc::Status* status = nullptr);

// Watch, until the object goes or the server ends the call.
class HealthWatch {
 public:
  HealthWatch(const std::shared_ptr<grpc::Channel>& channel, const std::string& service);
  ~HealthWatch();

  // Waits for this to be the latest status; false after ten seconds.
  bool WaitFor(int serving_status);
  std::vector<int> seen() const;

 private:
  void Run();

  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  grpc::ByteBuffer request_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<int> seen_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace lorc::test
