// Load with everything at once: many streams, random lengths, cancels, deadlines, a cache budget
// for few of them. Afterwards the server must be as it was, and every answer what a quiet server
// gives.
//
//   service_load_test                                   against tiny models in this process, with
//                                                       a full cache and with a plan
//   service_load_test --address HOST:PORT [--http HOST:PORT]   against a server that runs
//
// Environment: LORC_LOAD_REQUESTS (2000), LORC_LOAD_STREAMS (64), LORC_LOAD_SEED (1).
#include <grpcpp/grpcpp.h>
#include <httplib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "lorc/v1/generation.grpc.pb.h"
#include "service/metrics/process_facts.h"
#include "tests/service/test_server.h"
#include "tests/support/files.h"

namespace lorc::test {
namespace {

using Clock = std::chrono::steady_clock;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kChecksMemory = false;  // freed memory is kept for a while
#else
constexpr bool kChecksMemory = true;
#endif
constexpr int64_t kMostGrowthBytes = 24 << 20;
constexpr int kNumQuestions = 40;

int FromEnvironment(const char* name, int fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::atoi(text);
}

struct Question {
  v1::GenerateRequest request;
  std::string answer;  // of a quiet server
};

class LoadTest {
 public:
  LoadTest(const std::string& address, std::string http) : http_(std::move(http)) {
    grpc::ChannelArguments arguments;
    channel_ = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    stub_ = v1::GenerationService::NewStub(channel_);
  }

  bool Run() {
    const v1::GetServerStatsResponse before = Stats();
    AskQuietly();
    std::vector<std::thread> streams;
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < num_streams_; ++i) streams.emplace_back([this, i] { Stream(i); });
    for (std::thread& stream : streams) stream.join();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    for (const int code : {grpc::OK, grpc::CANCELLED, grpc::DEADLINE_EXCEEDED}) {
      if (num_requests_ >= 500 && codes_[code] == 0) {
        Fail("no request ended with code " + std::to_string(code));
      }
    }
    const bool idle = WaitUntilIdle(before);
    CheckMemory();
    Report(seconds);
    return idle && failures_ == 0;
  }

 private:
  v1::GetServerStatsResponse Stats() {
    grpc::ClientContext context;
    v1::GetServerStatsResponse response;
    const grpc::Status status = stub_->GetServerStats(&context, {}, &response);
    if (!status.ok()) Fail("GetServerStats: " + status.error_message());
    return response;
  }

  void Fail(const std::string& what) {
    if (++failures_ <= 20) std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  }

  // What each question's answer is when nothing else runs.
  void AskQuietly() {
    std::mt19937 random(seed_);
    for (int i = 0; i < kNumQuestions; ++i) {
      Question question;
      for (int t = random() % 100 + 1; t > 0; --t) {
        question.request.mutable_tokens()->add_ids(random() % 250 + 4);
      }
      question.request.mutable_stop()->set_max_tokens(random() % 100 + 1);
      question.request.mutable_stop()->set_ignore_eos(random() % 2 == 0);
      if (random() % 4 == 0) question.request.mutable_stop()->add_stop_strings(std::string(1, 'e'));
      question.request.mutable_sampling()->set_temperature(i % 3 == 0 ? 0.0f : 1.0f);
      question.request.mutable_sampling()->set_seed(random());
      v1::GenerateOnceResponse response;
      grpc::ClientContext context;
      const grpc::Status status = stub_->GenerateOnce(&context, question.request, &response);
      if (!status.ok()) Fail("quiet: " + status.error_message());
      question.answer = response.text();
      questions_.push_back(std::move(question));
    }
  }

  void Stream(int index) {
    std::mt19937 random(seed_ * 1000 + index + 1);
    while (next_request_.fetch_add(1) < num_requests_) {
      Ask(random);
      // By then everything has been used once.
      if (num_done_.fetch_add(1) + 1 == num_requests_ / 2) warm_bytes_ = MemoryBytes();
    }
  }

  void Ask(std::mt19937& random) {
    const Question& question = questions_[random() % questions_.size()];
    const uint32_t kind = random() % 100;
    const bool cancels = kind < 20;
    const bool is_late = kind >= 20 && kind < 25;
    grpc::ClientContext context;
    if (is_late) {
      context.set_deadline(std::chrono::system_clock::now() +
                           std::chrono::microseconds(random() % 20'000));
    }
    std::thread canceller;
    if (cancels) {
      const std::chrono::microseconds after(random() % 60'000);
      canceller = std::thread([&context, after] {
        std::this_thread::sleep_for(after);
        context.TryCancel();
      });
    }
    std::string text;
    bool has_finish = false;
    const auto reader = stub_->Generate(&context, question.request);
    for (v1::GenerateResponse part; reader->Read(&part);) {
      text += part.text();
      has_finish = part.has_finish();
    }
    const grpc::Status status = reader->Finish();
    if (canceller.joinable()) canceller.join();
    Judge(question, status, text, has_finish, cancels, is_late);
  }

  void Judge(const Question& question, const grpc::Status& status, const std::string& text,
             bool has_finish, bool cancels, bool is_late) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ++codes_[status.error_code()];
    }
    const bool expected = status.ok() ||
                          (cancels && status.error_code() == grpc::StatusCode::CANCELLED) ||
                          (is_late && status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) ||
                          status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED;
    if (!expected) {
      Fail("status " + std::to_string(status.error_code()) + ": " + status.error_message());
    }
    if (status.ok() && (text != question.answer || !has_finish)) {
      Fail("an answer differs from the quiet server's");
    }
    if (!status.ok() && question.answer.compare(0, text.size(), text) != 0) {
      Fail("a part of an answer differs from the quiet server's");
    }
  }

  bool WaitUntilIdle(const v1::GetServerStatsResponse& before) {
    v1::GetServerStatsResponse stats;
    for (int i = 0; i < 1000; ++i) {
      stats = Stats();
      if (stats.requests_running() == before.requests_running() &&
          stats.requests_waiting() == before.requests_waiting() &&
          stats.kv_written_bytes() == before.kv_written_bytes() &&
          stats.kv_promised_bytes() == before.kv_promised_bytes() &&
          stats.blocks_free() == before.blocks_free()) {
        return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    Fail("the server is not as it was before: " + stats.ShortDebugString());
    return false;
  }

  // Of the server's process; 0 where it is not to be found out.
  int64_t MemoryBytes() const {
    httplib::Client client("http://" + http_);
    const auto result = client.Get("/metrics");
    constexpr char kName[] = "\nprocess_resident_memory_bytes ";
    const size_t at = result ? result->body.find(kName) : std::string::npos;
    if (at == std::string::npos) return 0;
    return static_cast<int64_t>(std::atof(result->body.c_str() + at + sizeof(kName) - 1));
  }

  void CheckMemory() {
    end_bytes_ = MemoryBytes();
    if (kChecksMemory && warm_bytes_ > 0 && end_bytes_ - warm_bytes_ > kMostGrowthBytes) {
      Fail("memory grew from " + std::to_string(warm_bytes_) + " to " + std::to_string(end_bytes_));
    }
  }

  void Report(double seconds) const {
    std::printf("%d requests over %d streams in %.2f s (%.0f/s);", num_requests_, num_streams_,
                seconds, num_requests_ / seconds);
    for (const auto& [code, count] : codes_) std::printf(" code %d: %d", code, count);
    std::printf("; resident %.1f MiB half-way, %.1f MiB at the end; %d failures\n",
                static_cast<double>(warm_bytes_) / 1048576,
                static_cast<double>(end_bytes_) / 1048576, failures_.load());
  }

  const int num_requests_ = FromEnvironment("LORC_LOAD_REQUESTS", 2000);
  const int num_streams_ = FromEnvironment("LORC_LOAD_STREAMS", 64);
  const unsigned seed_ = static_cast<unsigned>(FromEnvironment("LORC_LOAD_SEED", 1));
  const std::string http_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
  std::vector<Question> questions_;
  std::atomic<int> next_request_{0};
  std::atomic<int> num_done_{0};
  std::atomic<int> failures_{0};
  std::atomic<int64_t> warm_bytes_{0};
  int64_t end_bytes_ = 0;
  std::mutex mutex_;
  std::map<int, int> codes_;
};

// Against a server in this process whose cache holds eight of the longest requests.
bool RunHere(const std::string& plan) {
  constexpr int kMaxTokens = 208;
  const auto edit = [&plan](ServerConfig& config) {
    config.plan = plan;
    config.weights = "f32";
    config.max_running = 64;
    config.max_waiting = 64;
    config.max_sequence_tokens = kMaxTokens;
    config.log_level = "warning";
  };
  KvGeometry geometry;
  {
    TestServer server(edit);
    geometry = server.gate().kv_geometry();
  }
  TestServer server([&](ServerConfig& config) {
    edit(config);
    config.kv_budget_bytes =
        8 * geometry.BytesPromised(kMaxTokens) +
        geometry.ExactHeadroom(config.max_batch_tokens) * geometry.exact_block_bytes;
  });
  return LoadTest(server.server().grpc_address(), server.server().http_address()).Run();
}

int Main(int argc, char** argv) {
  std::string address, http;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--address") address = argv[i + 1];
    if (flag == "--http") http = argv[i + 1];
  }
  if (!address.empty()) return LoadTest(address, http).Run() ? 0 : 1;
  const TempFolder folder;
  bool good = true;
  for (const std::string& plan : {std::string(), WriteQuarterPlan(folder.File("plan"))}) {
    good &= RunHere(plan);
  }
  return good ? 0 : 1;
}

}  // namespace
}  // namespace lorc::test

int main(int argc, char** argv) { return lorc::test::Main(argc, argv); }
