// A server in the test's process: a tiny model, real gRPC over loopback, a gate in front of the
// model so that a test decides when steps happen.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "lorc/v1/generation.grpc.pb.h"
#include "runtime/executor.h"
#include "scheduler/mutex.h"
#include "service/server.h"
#include "tests/support/tiny_model.h"

namespace lorc::test {

// Runs steps on the model when the gate lets it.
class GatedExecutor final : public Executor {
 public:
  explicit GatedExecutor(Executor* model) : model_(model) {}

  const KvGeometry& kv_geometry() const override { return model_->kv_geometry(); }
  int32_t max_step_tokens() const override { return model_->max_step_tokens(); }
  int32_t max_step_sequences() const override { return model_->max_step_sequences(); }
  absl::Status Execute(std::span<const SequenceWork> batch, std::span<StepResult> results) override;

  // Any thread. Closed, steps wait; Allow lets so many through a closed gate.
  void Close();
  void Open();
  void Allow(int steps);
  void WaitUntilBlocked();

  void set_step_delay(std::chrono::microseconds delay) { delay_us = delay.count(); }
  void Fail() { fails = true; }  // from the next step on

  // Of the latest sampled work.
  SamplingParams last_sampling() const;
  std::vector<TokenId> last_tokens() const;

 private:
  Executor* const model_;
  std::atomic<int64_t> delay_us{0};
  std::atomic<bool> fails{false};
  mutable Mutex mutex_;
  CondVar changed_;
  bool is_closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_blocked_ ABSL_GUARDED_BY(mutex_) = false;
  int allowed_ ABSL_GUARDED_BY(mutex_) = 0;
  SamplingParams last_sampling_ ABSL_GUARDED_BY(mutex_);
  std::vector<TokenId> last_tokens_ ABSL_GUARDED_BY(mutex_);
};

// Where the tiny model's file is; written once.
const std::string& TinyModelPath();
const TinyModel& Tiny();

// Writes a plan of the tiny model that keeps the first 16 and the latest 32 tokens exactly and a
// quarter of the numbers of others. Returns `path`.
std::string WriteQuarterPlan(const std::string& path);

// Small, on free ports, quiet.
ServerConfig TinyConfig();

struct Reply {
  grpc::Status status;
  std::string text;
  std::vector<uint32_t> ids;
  std::vector<v1::GeneratedToken> tokens;
  v1::FinishReason finish = v1::FINISH_REASON_UNSPECIFIED;
  v1::Usage usage;
  int num_parts = 0;
  std::string request_id;  // of the initial metadata
};

class TestServer {
 public:
  // `edit` changes TinyConfig().
  explicit TestServer(const std::function<void(ServerConfig&)>& edit = {});
  ~TestServer();

  Server& server() { return *server_; }
  GatedExecutor& gate() { return *gate_; }
  v1::GenerationService::Stub& stub() { return *stub_; }
  std::shared_ptr<grpc::Channel> channel() const { return channel_; }
  std::string log() const { return log_.str(); }
  const ServerConfig& config() const { return config_; }

  Reply Stream(const v1::GenerateRequest& request, grpc::ClientContext* context = nullptr);
  Reply Once(const v1::GenerateRequest& request, grpc::ClientContext* context = nullptr);
  v1::GetServerStatsResponse Stats();

  // Waits for the condition of the stats; false after ten seconds.
  bool WaitFor(const std::function<bool(const v1::GetServerStatsResponse&)>& condition);
  // The same while a closed gate lets steps through, one every 20 ms and no more than `steps`: a
  // client's cancel reaches the server some time after the client saw it.
  bool StepUntil(int steps,
                 const std::function<bool(const v1::GetServerStatsResponse&)>& condition);
  // Nothing runs, waits, is written or promised, and all blocks are free.
  bool WaitUntilIdle();
  static bool IsIdle(const v1::GetServerStatsResponse& stats);

  // The body of an HTTP GET, and the status.
  std::pair<int, std::string> Get(const std::string& path);

 private:
  ServerConfig config_;
  std::ostringstream log_;
  std::unique_ptr<Logger> logger_;
  GatedExecutor* gate_ = nullptr;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
};

// One server for all tests of a program: each leaves it idle.
TestServer& Shared();

// A request with a short text, greedy, ignoring end tokens.
v1::GenerateRequest TextRequest(const std::string& text, uint32_t max_tokens);

}  // namespace lorc::test
