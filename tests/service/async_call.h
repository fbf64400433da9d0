// A call on a thread of its own, to be looked at while it runs.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <thread>

#include "tests/service/test_server.h"

namespace lorc::test {

class AsyncCall {
 public:
  // `timeout_ms` 0: none.
  AsyncCall(TestServer& server, const v1::GenerateRequest& request, bool stream,
            int timeout_ms = 0) {
    if (timeout_ms > 0) {
      context_.set_deadline(std::chrono::system_clock::now() +
                            std::chrono::milliseconds(timeout_ms));
    }
    thread_ = std::thread([this, &server, request, stream] {
      reply_ = stream ? server.Stream(request, &context_) : server.Once(request, &context_);
      is_done_ = true;
    });
  }
  ~AsyncCall() {
    if (thread_.joinable()) thread_.join();
  }

  void Cancel() { context_.TryCancel(); }
  bool is_done() const { return is_done_; }

  // Waits for the end.
  const Reply& reply() {
    if (thread_.joinable()) thread_.join();
    return reply_;
  }

 private:
  grpc::ClientContext context_;
  Reply reply_;
  std::atomic<bool> is_done_{false};
  std::thread thread_;
};

}  // namespace lorc::test
