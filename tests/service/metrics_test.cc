// The metrics are a contract: all their names and types, and what they say.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/async_call.h"
#include "tests/service/test_server.h"
#include "tests/support/files.h"

namespace lorc::test {
namespace {

using testing::HasSubstr;

struct Exposition {
  std::map<std::string, std::string> types;             // by name
  std::map<std::string, std::string> helps;             // by name
  std::map<std::string, double> samples;                // by name with labels
  std::map<std::string, std::set<std::string>> labels;  // names, by sample name
};

Exposition Parse(const std::string& text) {
  Exposition parsed;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string mark, kind, name, rest;
    if (line.rfind("# ", 0) == 0) {
      words >> mark >> kind >> name;
      std::getline(words >> std::ws, rest);
      (kind == "TYPE" ? parsed.types : parsed.helps)[name] = rest;
      continue;
    }
    const size_t space = line.rfind(' ');
    const std::string key = line.substr(0, space);
    parsed.samples[key] = std::strtod(line.c_str() + space, nullptr);
    const size_t brace = key.find('{');
    std::set<std::string>& labels = parsed.labels[key.substr(0, brace)];
    for (size_t at = brace; at != std::string::npos;) {
      const size_t equals = key.find("=\"", at);
      if (equals == std::string::npos) break;
      labels.insert(key.substr(at + 1, equals - at - 1));
      at = key.find("\",", equals);
      if (at != std::string::npos) ++at;
    }
  }
  return parsed;
}

// Dashboards, alerts and routers depend on these: change them only as the header says.
const std::map<std::string, std::string>& Contract() {
  static const std::map<std::string, std::string> contract = {
      {"lorc_build_info", "gauge"},
      {"lorc_cached_prompt_tokens_total", "counter"},
      {"lorc_draining", "gauge"},
      {"lorc_e2e_request_latency_seconds", "histogram"},
      {"lorc_engine_healthy", "gauge"},
      {"lorc_generated_tokens_total", "counter"},
      {"lorc_inter_token_latency_seconds", "histogram"},
      {"lorc_kv_block_bytes", "gauge"},
      {"lorc_kv_block_tokens", "gauge"},
      {"lorc_kv_blocks", "gauge"},
      {"lorc_kv_budget_bytes", "gauge"},
      {"lorc_kv_bytes_per_token", "gauge"},
      {"lorc_kv_full_bytes_per_token", "gauge"},
      {"lorc_kv_headroom_bytes", "gauge"},
      {"lorc_kv_promised_bytes", "gauge"},
      {"lorc_kv_saved_bytes", "gauge"},
      {"lorc_kv_savings_ratio", "gauge"},
      {"lorc_kv_written_bytes", "gauge"},
      {"lorc_kv_written_tokens", "gauge"},
      {"lorc_memory_bytes", "gauge"},
      {"lorc_model_info", "gauge"},
      {"lorc_preemptions_total", "counter"},
      {"lorc_prompt_tokens_total", "counter"},
      {"lorc_ready", "gauge"},
      {"lorc_recomputed_tokens_total", "counter"},
      {"lorc_request_finish_reasons_total", "counter"},
      {"lorc_request_generated_tokens", "histogram"},
      {"lorc_request_outcomes_total", "counter"},
      {"lorc_request_prompt_tokens", "histogram"},
      {"lorc_request_queue_time_seconds", "histogram"},
      {"lorc_requests_paused", "gauge"},
      {"lorc_requests_running", "gauge"},
      {"lorc_requests_waiting", "gauge"},
      {"lorc_startup_seconds", "gauge"},
      {"lorc_step_time_seconds", "histogram"},
      {"lorc_step_tokens", "histogram"},
      {"lorc_steps_total", "counter"},
      {"lorc_time_to_first_token_seconds", "histogram"},
      {"lorc_wait_estimate_seconds", "gauge"},
      {"lorc_waiting_prompt_tokens", "gauge"},
      {"process_cpu_seconds_total", "counter"},
      {"process_resident_memory_bytes", "gauge"},
      {"process_start_time_seconds", "gauge"},
      {"vllm:cache_config_info", "gauge"},
      {"vllm:kv_cache_usage_perc", "gauge"},
      {"vllm:num_requests_running", "gauge"},
      {"vllm:num_requests_waiting", "gauge"},
  };
  return contract;
}

TEST(Metrics, NamesAndTypesAreTheContract) {
  TestServer server;
  const Exposition metrics = Parse(server.Get("/metrics").second);
  EXPECT_EQ(metrics.types, Contract());
  for (const auto& [name, help] : metrics.helps) EXPECT_FALSE(help.empty()) << name;
  using Names = std::set<std::string>;
  const std::map<std::string, Names> labels = {
      {"lorc_kv_written_bytes", {"layer", "tensor"}},
      {"lorc_kv_bytes_per_token", {"layer", "tensor"}},
      {"lorc_kv_blocks", {"kind", "state"}},
      {"lorc_requests_waiting", {"reason"}},
      {"lorc_request_outcomes_total", {"code"}},
      {"lorc_request_finish_reasons_total", {"reason"}},
      {"lorc_memory_bytes", {"use"}},
      {"lorc_startup_seconds", {"phase"}},
      {"lorc_kv_budget_bytes", {}},
      {"lorc_kv_promised_bytes", {}},
      {"vllm:num_requests_waiting", {"model_name", "engine"}},
      {"vllm:num_requests_running", {"model_name", "engine"}},
      {"vllm:kv_cache_usage_perc", {"model_name", "engine"}},
      {"vllm:cache_config_info", {"block_size", "num_gpu_blocks", "engine"}},
  };
  for (const auto& [name, expected] : labels) EXPECT_EQ(metrics.labels.at(name), expected) << name;
}

TEST(Metrics, SayWhatHappened) {
  TestServer server([](ServerConfig& config) { config.max_running = 2; });
  EXPECT_TRUE(server.Once(TextRequest("hello", 10)).status.ok());
  EXPECT_FALSE(server.Once(TextRequest("hello", 0)).status.ok());
  server.gate().Close();
  std::vector<std::unique_ptr<AsyncCall>> calls;
  for (int i = 0; i < 3; ++i) {
    calls.push_back(std::make_unique<AsyncCall>(server, TextRequest("hello world", 40), true));
  }
  ASSERT_TRUE(server.WaitFor([](const auto& stats) {
    return stats.requests_running() >= 1 &&
           stats.requests_running() + stats.requests_waiting() == 3;
  }));
  server.gate().Allow(3);
  server.gate().WaitUntilBlocked();

  const Exposition metrics = Parse(server.Get("/metrics").second);
  const v1::GetServerStatsResponse stats = server.Stats();
  const auto& samples = metrics.samples;
  const auto sum = [&samples](const std::string& prefix) {
    double all = 0;
    for (const auto& [name, value] : samples) {
      if (name.rfind(prefix, 0) == 0) all += value;
    }
    return all;
  };
  EXPECT_EQ(stats.requests_running(), 2);
  EXPECT_GT(stats.kv_written_bytes(), 0);
  EXPECT_EQ(sum("lorc_kv_written_bytes{"), stats.kv_written_bytes());
  EXPECT_EQ(samples.at("lorc_kv_promised_bytes"), stats.kv_promised_bytes());
  EXPECT_EQ(samples.at("lorc_kv_budget_bytes"), stats.kv_budget_bytes());
  EXPECT_EQ(sum("lorc_kv_blocks{"), stats.blocks_total());
  EXPECT_EQ(samples.at("lorc_requests_running"), 2);
  EXPECT_EQ(samples.at("lorc_requests_waiting{reason=\"batch_slots\"}"), 1);
  EXPECT_EQ(samples.at("lorc_request_outcomes_total{code=\"OK\"}"), 1);
  EXPECT_EQ(samples.at("lorc_request_outcomes_total{code=\"INVALID_ARGUMENT\"}"), 1);
  EXPECT_EQ(samples.at("lorc_request_finish_reasons_total{reason=\"length\"}"), 1);
  EXPECT_EQ(samples.at("lorc_generated_tokens_total"), stats.generated_tokens());
  EXPECT_EQ(samples.at("lorc_time_to_first_token_seconds_count"), 3);
  EXPECT_EQ(samples.at("lorc_e2e_request_latency_seconds_count"), 1);
  EXPECT_EQ(samples.at("lorc_step_time_seconds_count"), samples.at("lorc_steps_total"));
  EXPECT_GT(samples.at("lorc_memory_bytes{use=\"cache\"}"), 0);
  EXPECT_EQ(samples.at("lorc_ready"), 1);
  EXPECT_EQ(samples.at("vllm:num_requests_running{model_name=\"tiny\",engine=\"0\"}"), 2);
  EXPECT_EQ(samples.at("vllm:num_requests_waiting{model_name=\"tiny\",engine=\"0\"}"), 1);
  const double usage = samples.at("vllm:kv_cache_usage_perc{model_name=\"tiny\",engine=\"0\"}");
  EXPECT_NEAR(usage, 1 - static_cast<double>(stats.blocks_free()) / stats.blocks_total(), 1e-9);
  EXPECT_GT(usage, 0);
  server.gate().Open();
}

TEST(Metrics, TwoKindsOfBlocks) {
  const TempFolder folder;
  TestServer server([&folder](ServerConfig& config) {
    config.plan = WriteQuarterPlan(folder.File("plan"));
    config.weights = "bf16";
  });
  server.gate().Close();
  AsyncCall call(server, TextRequest(std::string(150, '#'), 100), true);
  server.gate().Allow(40);  // 150 prompt tokens in chunks, then some more
  server.gate().WaitUntilBlocked();
  const auto samples = Parse(server.Get("/metrics").second).samples;
  const v1::GetServerStatsResponse stats = server.Stats();
  double written = 0;
  for (const auto& [name, value] : samples) {
    if (name.rfind("lorc_kv_written_bytes{", 0) == 0) written += value;
  }
  EXPECT_EQ(written, stats.kv_written_bytes());
  EXPECT_GT(samples.at("lorc_kv_blocks{kind=\"latent\",state=\"held\"}"), 0);
  // The prefix and the window.
  EXPECT_EQ(samples.at("lorc_kv_blocks{kind=\"exact\",state=\"held\"}"), 3);
  EXPECT_EQ(samples.at("lorc_kv_savings_ratio"), 0.75);
  EXPECT_GT(samples.at("lorc_kv_saved_bytes"), 0);
  EXPECT_EQ(samples.at("lorc_kv_saved_bytes"), stats.kv_saved_bytes());
  EXPECT_GT(samples.at("lorc_kv_headroom_bytes"), 0);
  server.gate().Open();
  const v1::Usage usage = call.reply().usage;
  EXPECT_TRUE(call.reply().status.ok());
  EXPECT_LT(usage.kv_bytes(), usage.kv_bytes_full());
  EXPECT_TRUE(server.WaitUntilIdle());
  v1::GetModelInfoResponse info;
  grpc::ClientContext context;
  ASSERT_TRUE(server.stub().GetModelInfo(&context, {}, &info).ok());
  EXPECT_EQ(info.plan_name(), "quarter");
  EXPECT_EQ(info.layers(0).key_layout(), "direct");
  EXPECT_EQ(info.layers(0).key_rank(), 8);
  EXPECT_EQ(info.layers(0).key_bytes_per_token(), 16);
  EXPECT_EQ(info.exact_prefix_tokens(), 16);
  EXPECT_EQ(info.exact_window_tokens(), 32);
}

// Steps stand still, scrapes do not.
TEST(Metrics, ScrapesDoNotWaitForSteps) {
  TestServer server;
  server.gate().Close();
  AsyncCall call(server, TextRequest("hello", 10), true);
  server.gate().WaitUntilBlocked();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(server.Get("/metrics").first, 200);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_FALSE(call.is_done());
  server.gate().Open();
}

// promtool has one complaint about names that routers want as they are.
TEST(Metrics, PromtoolAgrees) {
  if (std::system("command -v promtool > /dev/null") != 0) GTEST_SKIP() << "no promtool";
  TestServer server;
  EXPECT_TRUE(server.Once(TextRequest("hello", 10)).status.ok());
  const TempFolder folder;
  const std::string path = folder.File("metrics");
  ASSERT_TRUE(WriteFile(path, server.Get("/metrics").second).ok());
  const std::string command = "promtool check metrics < " + path + " 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  char line[512];
  while (std::fgets(line, sizeof(line), pipe) != nullptr) {
    EXPECT_EQ(std::string(line).rfind("vllm:", 0), 0) << line;
    EXPECT_THAT(line, HasSubstr("should not contain ':'"));
  }
  pclose(pipe);
}

TEST(Http, OtherPaths) {
  TestServer server;
  EXPECT_EQ(server.Get("/").first, 404);
  EXPECT_EQ(server.Get("/metrics/x").first, 404);
  EXPECT_EQ(server.Get("/healthz").second, "ok\n");
}

}  // namespace
}  // namespace lorc::test
