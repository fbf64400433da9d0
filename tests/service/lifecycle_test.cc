// How requests end before their time, and servers.
#include <google/protobuf/util/time_util.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "tests/service/async_call.h"
#include "tests/service/health_client.h"
#include "tests/service/test_server.h"

namespace lorc::test {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr int64_t kMs = 1'000'000;
const char* const kService = "lorc.v1.GenerationService";

void OneAtATime(ServerConfig& config) {
  config.max_running = 1;
  config.max_waiting = 2;
}

int64_t RetryMs(const grpc::Status& status) {
  google::rpc::Status rich;
  google::rpc::RetryInfo retry;
  if (!rich.ParseFromString(status.error_details()) || rich.details_size() != 1 ||
      !rich.details(0).UnpackTo(&retry)) {
    return -1;
  }
  EXPECT_EQ(rich.code(), status.error_code());
  EXPECT_EQ(rich.message(), status.error_message());
  return google::protobuf::util::TimeUtil::DurationToMilliseconds(retry.retry_delay());
}

TEST(Cancel, InTheQueueAndRunning) {
  TestServer server(OneAtATime);
  server.gate().Close();
  for (const bool stream : {true, false}) {
    AsyncCall running(server, TextRequest("hello", 30), stream);
    ASSERT_TRUE(server.WaitFor([](const auto& stats) { return stats.requests_running() == 1; }));
    AsyncCall queued(server, TextRequest("hello", 30), stream);
    ASSERT_TRUE(server.WaitFor([](const auto& stats) { return stats.requests_waiting() == 1; }));

    queued.Cancel();
    EXPECT_EQ(queued.reply().status.error_code(), grpc::StatusCode::CANCELLED);
    EXPECT_TRUE(
        server.StepUntil(10, [](const auto& stats) { return stats.requests_waiting() == 0; }));
    EXPECT_EQ(server.Stats().requests_running(), 1);

    server.gate().WaitUntilBlocked();
    const uint64_t written = server.Stats().kv_written_bytes();
    EXPECT_GT(written, 0);
    running.Cancel();
    EXPECT_EQ(running.reply().status.error_code(), grpc::StatusCode::CANCELLED);
    // It ends long before its 30 tokens.
    EXPECT_TRUE(server.StepUntil(10, TestServer::IsIdle));
  }
  EXPECT_TRUE(server.WaitFor([](const auto& stats) { return stats.requests_cancelled() == 4; }));
  server.gate().Open();
  EXPECT_TRUE(server.Once(TextRequest("hello", 3)).status.ok());
}

TEST(Deadline, InTheQueueAndRunning) {
  TestServer server(OneAtATime);
  server.gate().Close();
  for (const bool stream : {true, false}) {
    AsyncCall running(server, TextRequest("hello", 30), stream, 400);
    ASSERT_TRUE(server.WaitFor([](const auto& stats) { return stats.requests_running() == 1; }));
    AsyncCall queued(server, TextRequest("hello", 30), stream, 200);
    EXPECT_EQ(queued.reply().status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    EXPECT_EQ(running.reply().status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    EXPECT_TRUE(server.StepUntil(10, TestServer::IsIdle));
  }
  EXPECT_TRUE(
      server.WaitFor([](const auto& stats) { return stats.requests_deadline_exceeded() == 4; }));
  EXPECT_EQ(server.Stats().requests_cancelled(), 0);
}

TEST(QueueFull, RetryInfo) {
  TestServer server(OneAtATime);
  server.gate().Close();
  std::vector<std::unique_ptr<AsyncCall>> calls;
  for (int i = 0; i < 3; ++i) {
    calls.push_back(std::make_unique<AsyncCall>(server, TextRequest("hello", 4), i % 2 == 0));
    ASSERT_TRUE(server.WaitFor([i](const auto& stats) {
      return static_cast<int>(stats.requests_running() + stats.requests_waiting()) == i + 1;
    }));
  }
  for (const Reply& reply :
       {server.Once(TextRequest("hello", 4)), server.Stream(TextRequest("hello", 4))}) {
    EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(reply.status.error_message(), HasSubstr("full"));
    EXPECT_GT(RetryMs(reply.status), 0);
  }
  EXPECT_EQ(server.Stats().requests_refused(), 2);
  server.gate().Open();
  for (auto& call : calls) EXPECT_TRUE(call->reply().status.ok());
  EXPECT_TRUE(server.WaitUntilIdle());
}

// The engine finds this one out later, in the channel.
TEST(QueueFull, OfPromptTokens) {
  TestServer server([](ServerConfig& config) {
    OneAtATime(config);
    config.max_waiting_prompt_tokens = 20;
  });
  server.gate().Close();
  AsyncCall running(server, TextRequest("hello", 4), true);
  ASSERT_TRUE(server.WaitFor([](const auto& stats) { return stats.requests_running() == 1; }));
  AsyncCall queued(server, TextRequest("hello", 4), true);
  ASSERT_TRUE(server.WaitFor([](const auto& stats) { return stats.requests_waiting() == 1; }));
  AsyncCall refused(server, TextRequest(std::string(25, '#'), 4), true);
  ASSERT_TRUE(server.WaitFor([](const auto& stats) { return stats.requests_waiting() == 2; }));
  server.gate().Allow(1);
  EXPECT_EQ(refused.reply().status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_GT(RetryMs(refused.reply().status), 0);
  EXPECT_EQ(server.Stats().requests_refused(), 1);
  server.gate().Open();
  EXPECT_TRUE(running.reply().status.ok());
  EXPECT_TRUE(queued.reply().status.ok());
}

TEST(Priority, LargerFirst) {
  TestServer server(OneAtATime);
  server.gate().Close();
  AsyncCall running(server, TextRequest("hello", 2), true);
  ASSERT_TRUE(server.WaitFor([](const auto& stats) { return stats.requests_running() == 1; }));
  v1::GenerateRequest request = TextRequest("hello", 2);
  request.set_priority(-5);
  AsyncCall low(server, request, true);
  ASSERT_TRUE(server.WaitFor([](const auto& stats) { return stats.requests_waiting() == 1; }));
  request.set_priority(5);
  AsyncCall high(server, request, true);
  ASSERT_TRUE(server.WaitFor([](const auto& stats) { return stats.requests_waiting() == 2; }));
  server.gate().Open();
  EXPECT_LT(high.reply().usage.queue_seconds(), low.reply().usage.queue_seconds());
}

// Fills its small window with large messages and then does not read.
class SlowReader {
 public:
  explicit SlowReader(TestServer& server) {
    v1::GenerateRequest request = TextRequest("hello", 500);
    request.set_logprobs(20);
    // A connection of its own: windows are shared.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 8192);
    stub_ = v1::GenerationService::NewStub(grpc::CreateCustomChannel(
        server.server().grpc_address(), grpc::InsecureChannelCredentials(), arguments));
    reader_ = stub_->Generate(&context_, request);
    v1::GenerateResponse part;
    EXPECT_TRUE(reader_->Read(&part));
  }

  grpc::Status ReadToTheEnd() {
    for (v1::GenerateResponse part; reader_->Read(&part);) num_tokens += part.tokens_size();
    return reader_->Finish();
  }

  int num_tokens = 0;

 private:
  grpc::ClientContext context_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader_;
};

TEST(SlowReader, PausesAloneAndEndsAborted) {
  TestServer server([](ServerConfig& config) {
    config.stream_buffer_tokens = 4;
    config.slow_reader_timeout_ns = 1500 * kMs;
  });
  SlowReader slow(server);
  const auto paused = [&server] {
    for (int i = 0; i < 400; ++i) {
      if (server.Get("/metrics").second.find("\nlorc_requests_paused 1") != std::string::npos) {
        return true;
      }
      std::this_thread::sleep_for(milliseconds(5));
    }
    return false;
  };
  EXPECT_TRUE(paused());
  // Nobody else waits.
  EXPECT_TRUE(server.Stream(TextRequest("hello", 100)).status.ok());
  EXPECT_EQ(server.Stats().requests_running(), 1);
  // The engine ends it and has its blocks back; the client may still fetch what was sent.
  EXPECT_TRUE(server.WaitUntilIdle());
  const grpc::Status status = slow.ReadToTheEnd();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("the reader took no token"));
  EXPECT_GT(slow.num_tokens, 20);
  EXPECT_LT(slow.num_tokens, 500);
}

TEST(SlowReader, WhoReadsLateButInTimeGetsEverything) {
  TestServer server([](ServerConfig& config) { config.stream_buffer_tokens = 4; });
  SlowReader slow(server);
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_TRUE(slow.ReadToTheEnd().ok());
}

TEST(SlowReader, WhoNeverReadsIsCut) {
  TestServer server([](ServerConfig& config) {
    config.stream_buffer_tokens = 4;
    config.slow_reader_timeout_ns = 200 * kMs;
  });
  SlowReader slow(server);
  for (int i = 0; i < 1000 && server.log().find("cut_stuck_clients") == std::string::npos; ++i) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  EXPECT_THAT(server.log(), HasSubstr("cut_stuck_clients calls=1"));
  EXPECT_FALSE(slow.ReadToTheEnd().ok());
  EXPECT_TRUE(server.WaitUntilIdle());
}

TEST(Drain, LiveStreamsEndWellAndWatchersAreTold) {
  TestServer server;
  server.gate().set_step_delay(milliseconds(10));
  HealthWatch all(server.channel(), "");
  HealthWatch ours(server.channel(), kService);
  ASSERT_TRUE(all.WaitFor(kServing));
  ASSERT_TRUE(ours.WaitFor(kServing));
  AsyncCall stream(server, TextRequest("hello", 60), true);
  AsyncCall once(server, TextRequest("hello", 60), false);
  ASSERT_TRUE(server.WaitFor([](const auto& stats) { return stats.requests_running() == 2; }));

  const auto start = std::chrono::steady_clock::now();
  bool all_ended = false;
  std::thread stop([&] { all_ended = server.server().Stop(20'000 * kMs); });
  EXPECT_TRUE(all.WaitFor(kNotServing));
  EXPECT_TRUE(ours.WaitFor(kNotServing));
  EXPECT_EQ(server.Get("/readyz").first, 503);
  EXPECT_EQ(server.Get("/healthz").first, 200);
  const Reply refused = server.Once(TextRequest("hello", 2));
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("shutting down"));
  EXPECT_TRUE(stream.reply().status.ok());
  EXPECT_EQ(stream.reply().usage.generated_tokens(), 60);
  EXPECT_TRUE(once.reply().status.ok());
  stop.join();
  EXPECT_TRUE(all_ended);
  // Not the twenty seconds for which an open Watch would hold Shutdown.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(8));
}

TEST(Drain, WhatIsLeftFailsAtTheLimit) {
  TestServer server;
  server.gate().set_step_delay(milliseconds(20));
  AsyncCall stream(server, TextRequest("hello", 500), true);
  AsyncCall once(server, TextRequest("hello", 500), false);
  ASSERT_TRUE(server.WaitFor([](const auto& stats) { return stats.requests_running() == 2; }));
  EXPECT_FALSE(server.server().Stop(200 * kMs));
  EXPECT_EQ(stream.reply().status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(once.reply().status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_GT(stream.reply().ids.size(), 0u);
}

TEST(Drain, HurryEndsIt) {
  TestServer server;
  server.gate().set_step_delay(milliseconds(20));
  AsyncCall stream(server, TextRequest("hello", 500), true);
  ASSERT_TRUE(server.WaitFor([](const auto& stats) { return stats.requests_running() == 1; }));
  bool all_ended = true;
  std::thread stop([&] { all_ended = server.server().Stop(60'000 * kMs); });
  ASSERT_TRUE(server.WaitFor([](const auto& stats) { return stats.draining(); }));
  server.server().Hurry();
  stop.join();
  EXPECT_FALSE(all_ended);
  EXPECT_EQ(stream.reply().status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(Health, FollowsTheEngine) {
  TestServer server([](ServerConfig& config) { config.stall_limit_ns = 300 * kMs; });
  HealthWatch watch(server.channel(), kService);
  EXPECT_TRUE(watch.WaitFor(kServing));
  EXPECT_EQ(CheckHealth(server.channel(), ""), kServing);
  EXPECT_EQ(CheckHealth(server.channel(), kService), kServing);
  grpc::Status unknown;
  CheckHealth(server.channel(), "no.such.Service", &unknown);
  EXPECT_EQ(unknown.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(server.Get("/readyz").first, 200);

  // A step that does not end.
  server.gate().Close();
  AsyncCall call(server, TextRequest("hello", 5), true);
  EXPECT_TRUE(watch.WaitFor(kNotServing));
  EXPECT_EQ(server.Get("/readyz").first, 503);
  EXPECT_EQ(server.Get("/healthz").first, 200);  // not so soon
  EXPECT_FALSE(server.Stats().ready());
  std::this_thread::sleep_for(milliseconds(3200));
  EXPECT_EQ(server.Get("/healthz").first, 503);
  server.gate().Open();
  EXPECT_TRUE(watch.WaitFor(kServing));
  EXPECT_TRUE(call.reply().status.ok());
  EXPECT_EQ(server.Get("/healthz").first, 200);
}

TEST(Health, AnExecutorThatFailed) {
  TestServer server;
  HealthWatch watch(server.channel(), "");
  EXPECT_TRUE(watch.WaitFor(kServing));
  server.gate().Fail();
  const Reply reply = server.Stream(TextRequest("hello", 5));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(reply.status.error_message(), HasSubstr("the test wants it so"));
  EXPECT_TRUE(watch.WaitFor(kNotServing));
  EXPECT_EQ(server.Once(TextRequest("hello", 5)).status.error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(server.Get("/healthz").first, 503);
  EXPECT_EQ(server.Get("/readyz").first, 503);
  EXPECT_THAT(server.Get("/metrics").second, HasSubstr("\nlorc_engine_healthy 0"));
  EXPECT_THAT(server.log(), HasSubstr("error request"));
}

TEST(Start, NothingIsServedWhileTheModelLoads) {
  std::ostringstream log;
  Logger logger(LogLevel::kInfo, LogFormat::kText, log);
  auto server = Server::Listen(TinyConfig(), &logger);
  ASSERT_TRUE(server.ok());
  const auto channel =
      grpc::CreateChannel((*server)->grpc_address(), grpc::InsecureChannelCredentials());
  const auto stub = v1::GenerationService::NewStub(channel);
  grpc::ClientContext context;
  v1::GenerateOnceResponse response;
  const grpc::Status status = stub->GenerateOnce(&context, TextRequest("hello", 2), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("loading"));
  EXPECT_EQ(CheckHealth(channel, ""), kNotServing);
  EXPECT_EQ(CheckHealth(channel, kService), kNotServing);
  grpc::ClientContext stats_context;
  v1::GetServerStatsResponse stats;
  EXPECT_TRUE(stub->GetServerStats(&stats_context, {}, &stats).ok());
  EXPECT_FALSE(stats.ready());
  EXPECT_EQ(stats.requests_refused(), 1);
}

TEST(Start, APortInUseIsAnErrorAndFreeAfterwards) {
  auto first = std::make_unique<TestServer>();
  std::ostringstream log;
  Logger logger(LogLevel::kInfo, LogFormat::kText, log);
  ServerConfig config = TinyConfig();
  config.grpc_address = first->server().grpc_address();
  absl::Status status = Server::Listen(config, &logger).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("in use"));
  config = TinyConfig();
  config.http_address = first->server().http_address();
  status = Server::Listen(config, &logger).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("in use"));

  const std::string grpc_address = first->server().grpc_address();
  const std::string http_address = first->server().http_address();
  first = nullptr;
  TestServer second([&](ServerConfig& edited) {
    edited.grpc_address = grpc_address;
    edited.http_address = http_address;
  });
  EXPECT_EQ(second.server().grpc_address(), grpc_address);
  EXPECT_TRUE(second.Once(TextRequest("hello", 2)).status.ok());
}

TEST(Start, ServersComeAndGo) {
  std::string text;
  for (int i = 0; i < 3; ++i) {
    TestServer server;
    const Reply reply = server.Once(TextRequest("hello", 10));
    EXPECT_TRUE(reply.status.ok());
    if (i > 0) {
      EXPECT_EQ(reply.text, text);
    }
    text = reply.text;
  }
}

// ServerReflectionRequest { string list_services = 7; }: the answer names the services.
TEST(Reflection, NamesTheServices) {
  TestServer server;
  grpc::GenericStub stub(server.channel());
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  const auto call = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  call->StartCall(nullptr);
  ASSERT_TRUE(next());
  const grpc::Slice slice("\x3a\x01*");
  grpc::ByteBuffer request(&slice, 1);
  call->WriteLast(request, {}, nullptr);
  ASSERT_TRUE(next());
  grpc::ByteBuffer response;
  call->Read(&response, nullptr);
  ASSERT_TRUE(next());
  grpc::Slice answer;
  ASSERT_TRUE(response.DumpToSingleSlice(&answer).ok());
  const std::string text(reinterpret_cast<const char*>(answer.begin()), answer.size());
  EXPECT_THAT(text, HasSubstr(kService));
  EXPECT_THAT(text, HasSubstr("grpc.health.v1.Health"));
  grpc::Status status;
  call->Finish(&status, nullptr);
  next();
}

}  // namespace
}  // namespace lorc::test
