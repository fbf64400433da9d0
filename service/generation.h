// One generation from its request to its last word: what Generate and GenerateOnce share.
//
// Events (tokens are ready, the client has taken a part, the client is gone) come from any thread
// and are handled one after the other on the service's workers, never on gRPC's or the engine's
// threads. While a part is on its way to the client nothing is read from the engine, so that a slow
// client fills its own channel and pauses its own request only.
#pragma once

#include <grpcpp/support/status.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "lorc/v1/generation.pb.h"
#include "scheduler/engine.h"
#include "service/answer.h"
#include "service/serving.h"

namespace lorc {

// Where an answer goes. Called by one thread at a time and not after Complete or Fail, which may
// destroy the sink.
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;

  // Takes what there is of the answer, if it wants to. True: a part is on its way, and OnSent will
  // be called.
  virtual bool Send(Answer& answer) = 0;

  // The last part, after a Send that has been OnSent.
  virtual void Complete(Answer& answer, v1::FinishReason finish, const v1::Usage& usage) = 0;
  virtual void Fail(const grpc::Status& status) = 0;
};

struct GenerationCall {
  const char* rpc = "";  // "Generate", for the log
  std::string id;
  std::string peer;
  int64_t deadline_ns = kNeverNs;                // Engine::NowNs
  const v1::GenerateRequest* request = nullptr;  // until the sink is told the end
};

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // `state` and `sink` outlive the generation's last word. state->serving is set.
  Generation(ServiceState* state, AnswerSink* sink, GenerationCall call);

  // Once, first. The sink may hear back from now on.
  void Start();

  // Any thread.
  void OnSent(bool ok) { Signal(ok ? kSent : kSent | kCancelled); }
  void OnCancelled() { Signal(kCancelled); }

 private:
  enum Event : uint32_t { kScheduled = 1, kStart = 2, kReadable = 4, kSent = 8, kCancelled = 16 };

  void Signal(uint32_t events);
  void Run();
  void Handle(uint32_t events);
  void Submit();
  void Read();
  void End();
  void Finish(const absl::Status& status, int64_t retry_after_ns, const Outcome& outcome);
  absl::Status CancelledStatus() const;
  void Log(const absl::Status& status, const Outcome& outcome) const;

  ServiceState* const state_;
  Engine* const engine_;
  AnswerSink* sink_;
  const GenerationCall call_;
  std::atomic<uint32_t> events_{0};

  // By one worker at a time.
  std::unique_ptr<Answer> answer_;
  std::shared_ptr<TokenChannel> channel_;  // set while the engine has the request
  int64_t sequence_id_ = 0;
  std::vector<GeneratedToken> tokens_;  // read at once; kept for its memory
  std::vector<std::string> stop_strings_;
  bool is_sending_ = false;
  bool is_cancelled_ = false;
  bool is_told_to_end_ = false;  // the engine, by Cancel or Stop
  bool was_queued_ = false;
  bool has_ended_ = false;    // the channel
  bool is_finished_ = false;  // the sink has been told the end
};

}  // namespace lorc
