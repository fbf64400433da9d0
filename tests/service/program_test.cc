// lorc-server as a program: what it prints, how it ends.
#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <chrono>
#include <regex>
#include <string>
#include <thread>
#include <vector>
#include <nlohmann/json.hpp>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/health_client.h"
#include "tests/service/process.h"
#include "tests/service/test_server.h"
#include "tests/support/files.h"

namespace lorc::test {
namespace {

using testing::HasSubstr;
using testing::Not;

std::vector<std::string> Command(const std::vector<std::string>& flags) {
  std::vector<std::string> command = {
      LORC_SERVER_BINARY, "--model",     TinyModelPath(),  "--threads",  "1",
      "--grpc-address",   "127.0.0.1:0", "--http-address", "127.0.0.1:0"};
  command.insert(command.end(), flags.begin(), flags.end());
  return command;
}

// "ready grpc=HOST:PORT http=HOST:PORT", and nothing else.
struct Addresses {
  std::string grpc, http;
};

Addresses WaitUntilReady(Process& process) {
  EXPECT_TRUE(process.WaitForOut("\n")) << process.err();
  std::smatch match;
  const std::string out = process.out();
  EXPECT_TRUE(std::regex_match(out, match,
                               std::regex("ready grpc=(127\\.0\\.0\\.1:[1-9][0-9]*) "
                                          "http=(127\\.0\\.0\\.1:[1-9][0-9]*)\n")))
      << out;
  return {match[1], match[2]};
}

TEST(Program, ServesUntilItIsToldToStop) {
  Process process(Command({"--kv-budget-bytes", "4MiB", "--drain-timeout", "20s"}));
  const Addresses addresses = WaitUntilReady(process);
  const auto channel = grpc::CreateChannel(addresses.grpc, grpc::InsecureChannelCredentials());
  const auto stub = v1::GenerationService::NewStub(channel);
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, TextRequest("hello", 400));
  v1::GenerateResponse part;
  EXPECT_TRUE(reader->Read(&part));
  HealthWatch watch(channel, "");
  EXPECT_TRUE(watch.WaitFor(kServing));

  process.Signal(SIGTERM);
  size_t tokens = part.tokens_size();
  while (reader->Read(&part)) tokens += part.tokens_size();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(tokens, 400);
  EXPECT_EQ(process.Wait(), 0);
  EXPECT_EQ(watch.seen().back(), kNotServing);
  // One line on standard output; the settings and the table on standard error.

  EXPECT_THAT(process.err(), HasSubstr("config version="));
  EXPECT_THAT(process.err(), HasSubstr("kv_budget_bytes=4MiB"));
  EXPECT_THAT(process.err(), HasSubstr("concurrent requests of"));
  EXPECT_THAT(process.err(), HasSubstr("request id="));
  EXPECT_THAT(process.err(), HasSubstr("stopped all_ended=true"));
}

TEST(Program, ASecondSignalHurries) {
  Process process(Command({"--kv-budget-bytes", "16MiB", "--drain-timeout", "1h",
                           "--stream-buffer-tokens", "1", "--log-format", "json"}));
  const Addresses addresses = WaitUntilReady(process);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 8192);
  const auto stub = v1::GenerationService::NewStub(
      grpc::CreateCustomChannel(addresses.grpc, grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext context;
  v1::GenerateRequest request = TextRequest("hello", 500);
  request.set_logprobs(20);
  const auto reader = stub->Generate(&context, request);  // and never reads
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  process.Signal(SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  process.Signal(SIGINT);
  EXPECT_EQ(process.Wait(), 0);
  std::istringstream lines(process.err());
  for (std::string line; std::getline(lines, line);) {
    EXPECT_TRUE(nlohmann::json::accept(line)) << line;
  }
  EXPECT_THAT(process.err(), HasSubstr("\"all_ended\":false"));
}

TEST(Program, DryRun) {
  const Ended ended = RunToEnd(Command(
      {"--dry-run", "--kv-budget-bytes", "1MiB", "--dry-run-tokens", "100", "--weights", "f32"}));
  EXPECT_EQ(ended.status, 0) << ended.err;
  // Two layers of 2 KV heads of 16 numbers in f32: 128 bytes for K, as many for V.
  EXPECT_THAT(ended.out, HasSubstr("full        32  f32              128   full        32"));
  EXPECT_THAT(ended.out, HasSubstr("cache of 1048576 bytes"));
  // 512 bytes a token, 128 blocks of 16 tokens; 100 tokens are 7 blocks.
  const std::regex rows[] = {
      std::regex("latent blocks of 16 tokens +128 +128"),
      std::regex("longest request, tokens +2048 +2048"),
      std::regex("concurrent requests of 100 tokens +18 +18"),
      std::regex("concurrent requests of 512 tokens +4 +4"),
      std::regex("KV cache +1\\.00 MiB  as configured"),
  };
  for (const std::regex& row : rows) EXPECT_TRUE(std::regex_search(ended.out, row)) << ended.out;
  EXPECT_THAT(ended.out, Not(HasSubstr("ready")));

  const Ended json = RunToEnd(Command({"--dry-run", "--json", "--kv-budget-bytes", "1MiB"}));
  EXPECT_EQ(json.status, 0);
  const auto parsed = nlohmann::json::parse(json.out);
  EXPECT_EQ(parsed["kv_budget_bytes"], 1 << 20);
  EXPECT_EQ(parsed["layers"].size(), 2);
}

TEST(Program, DefaultsOfMemoryAreSaid) {
  const Ended ended = RunToEnd(Command({"--dry-run", "--weights", "f32"}));
  EXPECT_EQ(ended.status, 0) << ended.err;
  // 64 requests of 512 tokens of 512 bytes: more can't be used.
  EXPECT_THAT(ended.out, HasSubstr("cache of 16777216 bytes"));
  EXPECT_THAT(ended.out, HasSubstr("default: what is left after a margin of"));
}

TEST(Program, ExitStatusSaysWhatWasWrong) {
  const std::string model = TinyModelPath();
  Ended ended = RunToEnd({LORC_SERVER_BINARY});
  EXPECT_EQ(ended.status, 2);
  EXPECT_THAT(ended.err, HasSubstr("lorc-server: --model is required"));
  ended = RunToEnd(Command({"--max-runing", "3"}));
  EXPECT_EQ(ended.status, 2);
  EXPECT_THAT(ended.err, HasSubstr("--max-running"));

  ended = RunToEnd({LORC_SERVER_BINARY, "--model", "/no/such/model.gguf"});
  EXPECT_EQ(ended.status, 3);
  EXPECT_THAT(ended.err, HasSubstr("/no/such/model.gguf"));
  ended = RunToEnd(Command({"--plan", "/no/such/plan"}));
  EXPECT_EQ(ended.status, 3);
  EXPECT_THAT(ended.err, HasSubstr("/no/such/plan"));

  ended = RunToEnd(
      Command({"--kv-budget-bytes", "64KiB", "--weights", "f32", "--max-sequence-tokens", "512"}));
  EXPECT_EQ(ended.status, 4);
  // The arithmetic: 512 tokens x 512 bytes against 65536.
  EXPECT_THAT(ended.err, HasSubstr("262144"));
  EXPECT_THAT(ended.err, HasSubstr("65536"));
  ended = RunToEnd(Command({"--kv-budget-bytes", "4096TiB"}));
  EXPECT_EQ(ended.status, 4);
  ended = RunToEnd(Command({"--kv-budget-bytes", "4TiB"}));
  EXPECT_EQ(ended.status, 4);
  EXPECT_THAT(ended.err, HasSubstr("available"));
  ended = RunToEnd(Command({"--max-sequence-tokens", "1000"}));
  EXPECT_EQ(ended.status, 4);
  EXPECT_THAT(ended.err, HasSubstr("context length is 512"));

  Process first(Command({}));
  const Addresses addresses = WaitUntilReady(first);
  ended = RunToEnd({LORC_SERVER_BINARY, "--model", model, "--grpc-address", addresses.grpc,
                    "--http-address", "127.0.0.1:0"});
  EXPECT_EQ(ended.status, 5);
  EXPECT_THAT(ended.err, HasSubstr(addresses.grpc));
  EXPECT_THAT(ended.err, HasSubstr("in use"));
  ended = RunToEnd({LORC_SERVER_BINARY, "--model", model, "--grpc-address", "127.0.0.1:0",
                    "--http-address", addresses.http});
  EXPECT_EQ(ended.status, 5);
  EXPECT_EQ(ended.out, "");
  ended = RunToEnd(Command({"--tls-cert", "/none", "--tls-key", "/none"}));
  EXPECT_EQ(ended.status, 5);
  first.Signal(SIGTERM);
  EXPECT_EQ(first.Wait(), 0);
}

TEST(Program, HelpAndVersion) {
  const Ended help = RunToEnd({LORC_SERVER_BINARY, "--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_THAT(help.out, HasSubstr("--kv-budget-bytes BYTES"));
  const Ended version = RunToEnd({LORC_SERVER_BINARY, "--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_THAT(version.out, HasSubstr("lorc-server 0."));
}

}  // namespace
}  // namespace lorc::test
