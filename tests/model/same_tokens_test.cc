// A request's tokens are its own: the same alone, among others, in whatever chunks its prompt is
// computed and after it had to wait for memory. Scheduler, engine and real model together, default
// layout and uncompressed.

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "scheduler/engine.h"
#include "tests/model/real_model.h"
#include "tests/model/some_plans.h"

namespace lorc {
namespace {

constexpr int32_t kMaxTokens = 12;
constexpr int32_t kMaxSequence = 160;

// Greedy and drawn requests of different lengths.
Request MakeRequest(int32_t i) {
  Request request;
  request.id = std::to_string(i);
  request.prompt = test::SomeTokens(1 + i * 37 % 141, i + 1);
  request.max_tokens = kMaxTokens;
  if (i % 2 == 1) {
    request.sampling.temperature = 1.0f;
    request.sampling.top_p = i % 4 == 1 ? 0.9f : 1.0f;
    request.sampling.seed = i;
    request.sampling.presence_penalty = i % 3 == 0 ? 0.5f : 0.0f;
  }
  return request;
}

// Runs the requests at once and returns their tokens.
std::vector<std::vector<TokenId>> RunAll(ModelExecutor& executor, int32_t count,
                                         int32_t max_running) {
  EngineOptions options;
  options.scheduler.max_running = max_running;
  options.scheduler.max_sequence_tokens = kMaxSequence;
  Engine engine(&executor, options, nullptr);
  struct Reader {
    std::mutex mutex;
    std::condition_variable changed;
    int signals = 0;
  } reader;
  std::vector<std::shared_ptr<TokenChannel>> channels;
  for (int32_t i = 0; i < count; ++i) {
    auto submitted = engine.Submit(MakeRequest(i), [&reader] {
      std::lock_guard lock(reader.mutex);
      ++reader.signals;
      reader.changed.notify_one();
    });
    EXPECT_TRUE(submitted.status.ok()) << submitted.status;
    channels.push_back(submitted.channel);
  }
  std::vector<std::vector<TokenId>> tokens(count);
  std::vector<bool> ended(count, false);
  int seen = 0;
  while (std::count(ended.begin(), ended.end(), false) > 0) {
    {
      std::unique_lock lock(reader.mutex);
      reader.changed.wait(lock, [&] { return reader.signals > seen; });
      seen = reader.signals;
    }
    for (int32_t i = 0; i < count; ++i) {
      if (ended[i]) continue;
      std::vector<GeneratedToken> read;
      ended[i] = channels[i]->Read(read);
      for (const GeneratedToken& token : read) tokens[i].push_back(token.token);
      if (ended[i]) {
        EXPECT_TRUE(channels[i]->outcome().status.ok()) << channels[i]->outcome().status;
      }
    }
  }
  engine.Shutdown();
  return tokens;
}

class SameTokensTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto opened = Checkpoint::Open(test::RequiredEnvironment("LORC_TEST_MODEL"));
    ASSERT_TRUE(opened.ok()) << opened.status();
    checkpoint_ = *std::move(opened);
    auto plan = test::SomePlan(*checkpoint_, GetParam());
    ASSERT_TRUE(plan.ok()) << plan.status();
    plan_ = *std::move(plan);
  }

  static test::RunOptions Options(int32_t max_step_tokens, int32_t num_sequences,
                                  int32_t max_tokens = kMaxSequence) {
    test::RunOptions options;
    options.weight_type = DType::kBf16;
    options.max_tokens = max_tokens;
    options.max_step_tokens = max_step_tokens;
    options.num_sequences = num_sequences;
    return options;
  }

  // `count` requests in a server of its own kind; the pools hold `num_sequences` of the longest.
  std::vector<std::vector<TokenId>> Serve(int32_t count, int32_t max_step_tokens,
                                          int32_t num_sequences, int num_threads = 0) {
    test::RunOptions options = Options(max_step_tokens, num_sequences);
    options.num_threads = num_threads;
    const auto running = test::Run(*checkpoint_, plan_, options);
    return RunAll(*running.executor, count, num_sequences);
  }

  std::unique_ptr<Checkpoint> checkpoint_;
  KvPlan plan_;
};

TEST_P(SameTokensTest, AloneTogetherChunkedAndWaiting) {
  constexpr int32_t kCount = 32;
  const auto together = Serve(kCount, 512, kCount);
  for (const auto& tokens : together) ASSERT_EQ(tokens.size(), kMaxTokens);
  const auto expect_same = [&](const std::vector<std::vector<TokenId>>& other, const char* how) {
    for (size_t i = 0; i < other.size(); ++i)
      EXPECT_EQ(other[i], together[i]) << how << ", request " << i;
  };
  expect_same(Serve(6, 512, 1, 1), "one after the other, one thread");
  expect_same(Serve(6, 7, 1), "prompts in chunks of 7");
  expect_same(Serve(3, 1, 1), "prompts token by token");
  expect_same(Serve(kCount, 64, 3), "waiting for memory, small steps");
}

INSTANTIATE_TEST_SUITE_P(Caches, SameTokensTest,
                         testing::Values("full", "direct", "rebuilt", "mixed"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace lorc
