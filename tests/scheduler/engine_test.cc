// The engine with real threads. What is scheduled when is the simulation's matter; here it is who
// may touch what, who waits for whom, and that nobody is forgotten.
#include "scheduler/engine.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/scheduler/fake_executor.h"
#include "tests/scheduler/harness.h"

namespace lorc {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr int64_t kMs = 1'000'000;
constexpr StepLimits kLimits = {.max_tokens = 32, .max_sequences = 16};

// Samples like the fake executor, can be slow, stand still or fail. It does not look at blocks: the
// simulation does.
class TestExecutor : public Executor {
 public:
  explicit TestExecutor(const KvGeometry& geometry) : geometry_(geometry) {}

  const KvGeometry& kv_geometry() const override { return geometry_; }
  int32_t max_step_tokens() const override { return kLimits.max_tokens; }
  int32_t max_step_sequences() const override { return kLimits.max_sequences; }

  absl::Status Execute(std::span<const SequenceWork> batch,
                       std::span<StepResult> results) override {
    ++steps;
    while (stands_still) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (step_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(step_us));
    if (fails) return absl::DataLossError("the bus fell off");
    for (size_t i = 0; i < batch.size(); ++i) {
      if (batch[i].sampling == nullptr) continue;
      results[i].token =
          FakeNextToken(batch[i].tokens, batch[i].num_prompt_tokens, *batch[i].sampling);
    }
    return absl::OkStatus();
  }

  std::atomic<int64_t> steps{0};
  std::atomic<int> step_us{0};
  std::atomic<bool> stands_still{false};
  std::atomic<bool> fails{false};

 private:
  const KvGeometry geometry_;
};

std::vector<TokenId> IdsOf(const std::vector<GeneratedToken>& tokens) {
  std::vector<TokenId> ids;
  ids.reserve(tokens.size());
  for (const GeneratedToken& token : tokens) ids.push_back(token.token);
  return ids;
}

// Reads on a thread of its own, told by the engine when there is something.
class Reader {
 public:
  std::function<void()> Callback() {
    return [signal = signal_] {
      MutexLock lock(signal->mutex);
      signal->is_set = true;
      signal->changed.NotifyAll();
    };
  }

  // Waits for news and reads once; true at the end.
  bool Read(TokenChannel& channel) {
    {
      MutexLock lock(signal_->mutex);
      while (!signal_->is_set) signal_->changed.Wait(signal_->mutex);
      signal_->is_set = false;
    }
    return channel.Read(tokens);
  }
  Outcome ReadAll(TokenChannel& channel) {
    while (!Read(channel)) {
    }
    return channel.outcome();
  }
  std::vector<TokenId> ids() const { return IdsOf(tokens); }

  std::vector<GeneratedToken> tokens;

 private:
  struct Signal {
    Mutex mutex;
    CondVar changed;
    bool is_set = false;
  };
  std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();
};

bool WaitFor(const std::function<bool()>& condition) {
  for (int i = 0; i < 20'000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

std::string MessageOf(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

EngineOptions SmallOptions() {
  EngineOptions options;
  options.scheduler.max_running = 8;
  options.scheduler.max_waiting = 64;
  return options;
}

void ExpectAtStart(const SchedulerStats& stats) {
  for (const KindStats* kind : {&stats.latent, &stats.exact}) {
    EXPECT_EQ(kind->written_bytes, 0);
    EXPECT_EQ(kind->promised_bytes, 0);
    EXPECT_EQ(kind->blocks_free, kind->blocks_total);
  }
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.waiting_kv_budget + stats.waiting_batch_slots + stats.waiting_queue, 0);
}

TEST(EngineTest, BringsTokensAndOutcome) {
  TestExecutor executor(SmallGeometry(100, 20, 2));
  Engine engine(&executor, SmallOptions(), nullptr);
  const Request request = MakeRequest(1, 40, 30);
  Reader reader;
  const SubmitResult result = engine.Submit(request, reader.Callback());
  ASSERT_TRUE(result.status.ok());
  const Outcome outcome = reader.ReadAll(*result.channel);
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.finish, FinishReason::kLength);
  EXPECT_EQ(outcome.usage.generated_tokens, 30);
  EXPECT_GT(outcome.usage.prefill_ns, 0);
  EXPECT_EQ(reader.ids(), FakeAnswerFor(request).tokens);
  // Who has read the end finds it in the numbers.
  EXPECT_EQ(engine.Stats().outcomes(absl::StatusCode::kOk), 1);
  ExpectAtStart(engine.Stats());
}

TEST(EngineTest, RefusesAtOnceWhatCanNeverRun) {
  TestExecutor executor(SmallGeometry(10));
  executor.stands_still = true;
  Engine engine(&executor, SmallOptions(), nullptr);
  const SubmitResult running = engine.Submit(MakeRequest(1, 4, 4), nullptr);
  const SubmitResult result = engine.Submit(MakeRequest(1, 40, 4), nullptr);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(result.status), HasSubstr("needs 110 bytes"));
  EXPECT_EQ(result.channel, nullptr);
  const SchedulerStats stats = engine.Stats();
  EXPECT_EQ(stats.refused, 1);
  EXPECT_EQ(stats.submitted, 2);
  EXPECT_EQ(stats.outcomes(absl::StatusCode::kInvalidArgument), 1);
  executor.stands_still = false;
}

TEST(EngineTest, ABurstBeyondTheQueueIsRefusedWithAHint) {
  TestExecutor executor(SmallGeometry(1000));
  executor.stands_still = true;
  EngineOptions options = SmallOptions();
  options.scheduler.max_running = 2;
  options.scheduler.max_waiting = 3;
  Engine engine(&executor, options, nullptr);
  std::vector<SubmitResult> accepted;
  for (int i = 0; i < 20; ++i) {
    SubmitResult result = engine.Submit(MakeRequest(1, 4, 4), nullptr);
    if (result.status.ok()) {
      accepted.push_back(std::move(result));
    } else {
      EXPECT_EQ(result.status.code(), absl::StatusCode::kResourceExhausted);
      EXPECT_THAT(MessageOf(result.status), StartsWith("the server is full"));
      EXPECT_GT(result.retry_after_ns, 0);
    }
  }
  EXPECT_EQ(accepted.size(), 5u);
  executor.stands_still = false;
  EXPECT_TRUE(engine.Drain(60'000 * kMs));
  const SchedulerStats stats = engine.Stats();
  EXPECT_EQ(stats.outcomes(absl::StatusCode::kOk), 5);
  EXPECT_EQ(stats.outcomes(absl::StatusCode::kResourceExhausted), 15);
  for (const SubmitResult& result : accepted) {
    std::vector<GeneratedToken> tokens;
    EXPECT_TRUE(result.channel->Read(tokens));
  }
}

TEST(EngineTest, ASlowReaderPausesAndTheOthersGoOn) {
  TestExecutor executor(SmallGeometry(100));
  EngineOptions options = SmallOptions();
  options.channel_capacity_tokens = 4;
  Engine engine(&executor, options, nullptr);
  const Request request = MakeRequest(1, 4, 20);
  const SubmitResult slow = engine.Submit(request, nullptr);
  ASSERT_TRUE(WaitFor([&] { return engine.Stats().paused == 1; }));
  Reader quick;
  const SubmitResult other = engine.Submit(MakeRequest(1, 4, 50), quick.Callback());
  EXPECT_TRUE(quick.ReadAll(*other.channel).status.ok());
  EXPECT_EQ(engine.Stats().paused, 1);
  EXPECT_TRUE(WaitFor([&] { return !engine.Health().busy; }));

  std::vector<GeneratedToken> tokens;
  EXPECT_FALSE(slow.channel->Read(tokens));
  EXPECT_EQ(tokens.size(), 4u);
  ASSERT_TRUE(WaitFor([&] { return slow.channel->Read(tokens); }));
  EXPECT_EQ(IdsOf(tokens), FakeAnswerFor(request).tokens);
}

TEST(EngineTest, AReaderThatNeverReadsIsEndedWithAborted) {
  TestExecutor executor(SmallGeometry(100));
  EngineOptions options = SmallOptions();
  options.channel_capacity_tokens = 4;
  options.scheduler.slow_reader_timeout_ns = 30 * kMs;
  Engine engine(&executor, options, nullptr);
  const SubmitResult result = engine.Submit(MakeRequest(1, 4, 20), nullptr);
  ASSERT_TRUE(WaitFor([&] { return engine.Stats().outcomes(absl::StatusCode::kAborted) == 1; }));
  std::vector<GeneratedToken> tokens;
  ASSERT_TRUE(WaitFor([&] { return result.channel->Read(tokens); }));
  EXPECT_EQ(tokens.size(), 4u);
  EXPECT_EQ(result.channel->outcome().status.code(), absl::StatusCode::kAborted);
  ExpectAtStart(engine.Stats());
}

TEST(EngineTest, CancelAndStopTakeEffectBeforeTheNextStep) {
  TestExecutor executor(SmallGeometry(1000));
  executor.step_us = 1000;
  Engine engine(&executor, SmallOptions(), nullptr);
  Reader cancelled;
  const SubmitResult one = engine.Submit(MakeRequest(1, 4, 1000), cancelled.Callback());
  Reader stopped;
  const SubmitResult two = engine.Submit(MakeRequest(1, 4, 1000), stopped.Callback());
  cancelled.Read(*one.channel);
  while (stopped.tokens.size() < 3) stopped.Read(*two.channel);
  engine.Cancel(one.sequence_id);
  engine.Stop(two.sequence_id, 2);
  EXPECT_EQ(cancelled.ReadAll(*one.channel).status.code(), absl::StatusCode::kCancelled);
  const Outcome outcome = stopped.ReadAll(*two.channel);
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.finish, FinishReason::kStopString);
  EXPECT_EQ(outcome.usage.generated_tokens, 2);
  engine.Cancel(one.sequence_id);
  engine.Cancel(12345);
}

TEST(EngineTest, ADeadlinePassesInAnIdleEngine) {
  // Nothing runs but a paused request; the timer alone wakes the engine.
  TestExecutor executor(SmallGeometry(100));
  EngineOptions options = SmallOptions();
  options.channel_capacity_tokens = 1;
  Engine engine(&executor, options, nullptr);
  Request request = MakeRequest(1, 4, 20);
  request.deadline_ns = Engine::NowNs() + 50 * kMs;
  Reader reader;
  const SubmitResult result = engine.Submit(request, reader.Callback());
  ASSERT_TRUE(
      WaitFor([&] { return engine.Stats().outcomes(absl::StatusCode::kDeadlineExceeded) == 1; }));
  EXPECT_EQ(reader.ReadAll(*result.channel).status.code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(EngineTest, IdleSleepsAndAStuckStepIsSeen) {
  TestExecutor executor(SmallGeometry(100));
  Engine engine(&executor, SmallOptions(), nullptr);
  ASSERT_TRUE(WaitFor([&] { return !engine.Health().busy; }));
  EXPECT_TRUE(engine.Health().Ready(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_TRUE(engine.Health().Ready(1));
  EXPECT_EQ(executor.steps, 0);

  executor.stands_still = true;
  const SubmitResult result = engine.Submit(MakeRequest(1, 4, 4), nullptr);
  ASSERT_TRUE(WaitFor([&] { return engine.Health().since_progress_ns > 20 * kMs; }));
  EXPECT_FALSE(engine.Health().Ready(20 * kMs));
  // The numbers can be read all the same, and show what is in the step.
  EXPECT_EQ(engine.Stats().running, 1);
  executor.stands_still = false;
  ASSERT_TRUE(WaitFor([&] { return engine.Health().Ready(20 * kMs); }));
}

TEST(EngineTest, AFailedExecutorEndsAllAndTheEngineStaysUnhealthy) {
  TestExecutor executor(SmallGeometry(100));
  executor.step_us = 500;
  EngineOptions options = SmallOptions();
  options.scheduler.max_running = 2;
  Engine engine(&executor, options, nullptr);
  std::vector<Reader> readers(4);
  std::vector<SubmitResult> results;
  results.reserve(readers.size());
  for (Reader& reader : readers) {
    results.push_back(engine.Submit(MakeRequest(1, 4, 90), reader.Callback()));
  }
  readers[0].Read(*results[0].channel);
  executor.fails = true;
  for (size_t i = 0; i < readers.size(); ++i) {
    const Outcome outcome = readers[i].ReadAll(*results[i].channel);
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(MessageOf(outcome.status), HasSubstr("the bus fell off"));
  }
  EXPECT_FALSE(engine.Health().healthy);
  EXPECT_FALSE(engine.Health().Ready(kNeverNs));
  const SubmitResult late = engine.Submit(MakeRequest(1, 4, 4), nullptr);
  EXPECT_EQ(late.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(MessageOf(late.status), HasSubstr("the bus fell off"));
  ExpectAtStart(engine.Stats());
  EXPECT_TRUE(engine.Drain(10'000 * kMs));
}

TEST(EngineTest, DrainLetsRunningRequestsEnd) {
  TestExecutor executor(SmallGeometry(100));
  executor.step_us = 200;
  Engine engine(&executor, SmallOptions(), nullptr);
  const SubmitResult result = engine.Submit(MakeRequest(1, 4, 50), nullptr);
  EXPECT_TRUE(engine.Drain(60'000 * kMs));
  std::vector<GeneratedToken> tokens;
  EXPECT_TRUE(result.channel->Read(tokens));
  EXPECT_TRUE(result.channel->outcome().status.ok());
  EXPECT_EQ(tokens.size(), 50u);
  const SubmitResult late = engine.Submit(MakeRequest(1, 4, 50), nullptr);
  EXPECT_EQ(late.status, absl::UnavailableError("the server is shutting down"));
  EXPECT_FALSE(engine.Health().Ready(kNeverNs));
}

TEST(EngineTest, DrainEndsWhatTakesTooLong) {
  TestExecutor executor(SmallGeometry(1000));
  executor.step_us = 2000;
  Engine engine(&executor, SmallOptions(), nullptr);
  Reader reader;
  const SubmitResult result = engine.Submit(MakeRequest(1, 4, 3000), reader.Callback());
  reader.Read(*result.channel);
  EXPECT_FALSE(engine.Drain(20 * kMs));
  EXPECT_EQ(reader.ReadAll(*result.channel).status.code(), absl::StatusCode::kUnavailable);
}

TEST(EngineTest, ShutdownEndsWhatIsLeft) {
  TestExecutor executor(SmallGeometry(1000));
  std::vector<SubmitResult> results;
  {
    Engine engine(&executor, SmallOptions(), nullptr);
    for (int i = 0; i < 20; ++i) {
      results.push_back(engine.Submit(MakeRequest(1, 4, 1000), nullptr));
    }
    engine.Shutdown();
    EXPECT_EQ(engine.Submit(MakeRequest(1, 4, 4), nullptr).status.code(),
              absl::StatusCode::kUnavailable);
  }
  for (const SubmitResult& result : results) {
    std::vector<GeneratedToken> tokens;
    EXPECT_TRUE(result.channel->Read(tokens));  // the channel outlives the engine
    EXPECT_EQ(result.channel->outcome().status.code(), absl::StatusCode::kUnavailable);
  }
}

class CountingObserver : public EngineObserver {
 public:
  void OnStep(int64_t duration_ns, int64_t prefill_tokens, int64_t decode_tokens) override {
    EXPECT_GE(duration_ns, 0);
    step_tokens += prefill_tokens + decode_tokens;
  }
  void OnFirstToken(int64_t since_arrival_ns) override {
    EXPECT_GE(since_arrival_ns, 0);
    ++first_tokens;
  }
  void OnNextToken(int64_t since_previous_ns) override {
    EXPECT_GE(since_previous_ns, 0);
    ++next_tokens;
  }
  void OnEnd(const Outcome&) override { ++ends; }

  int64_t step_tokens = 0;
  int64_t first_tokens = 0;
  int64_t next_tokens = 0;
  int64_t ends = 0;
};

TEST(EngineTest, TheObserverSeesStepsTokensAndEnds) {
  TestExecutor executor(SmallGeometry(100));
  CountingObserver observer;
  Engine engine(&executor, SmallOptions(), &observer);
  const SubmitResult result = engine.Submit(MakeRequest(1, 10, 20), nullptr);
  EXPECT_TRUE(engine.Drain(60'000 * kMs));
  engine.Shutdown();
  EXPECT_EQ(observer.step_tokens, 10 + 19);
  EXPECT_EQ(observer.first_tokens, 1);
  EXPECT_EQ(observer.next_tokens, 19);
  EXPECT_EQ(observer.ends, 1);
}

// Many callers at once: quick and slow readers, cancels, stops, deadlines, a scraper, a tiny pool,
// and a drain in the middle of it.
TEST(EngineTest, ManyThreads) {
  TestExecutor executor(SmallGeometry(60, 24, 2, 1));
  executor.step_us = 20;
  EngineOptions options;
  options.scheduler.max_running = 8;
  options.scheduler.max_waiting = 10;
  options.scheduler.overtake_age_ns = 2 * kMs;
  options.scheduler.slow_reader_timeout_ns = 30 * kMs;
  options.channel_capacity_tokens = 5;
  CountingObserver observer;
  Engine engine(&executor, options, &observer);

  constexpr int kCallers = 12;
  std::atomic<int64_t> accepted{0};
  std::atomic<int64_t> refused{0};
  std::atomic<int64_t> ended{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> callers;
  callers.reserve(kCallers);
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&, caller] {
      std::mt19937 random(caller);
      for (int i = 0; i < 60; ++i) {
        Request request = MakeRequest(1, 1 + static_cast<int32_t>(random() % 60),
                                      1 + static_cast<int32_t>(random() % 60));
        request.sampling.seed = random();
        request.priority = static_cast<int32_t>(random() % 3);
        if (random() % 8 == 0) request.deadline_ns = Engine::NowNs() + random() % 20 * kMs;
        const std::vector<TokenId> answer = FakeAnswerFor(request).tokens;
        Reader reader;
        const SubmitResult result = engine.Submit(request, reader.Callback());
        if (!result.status.ok()) {
          ++refused;
          std::this_thread::sleep_for(std::chrono::microseconds(200));
          continue;
        }
        ++accepted;
        const auto what = random() % 8;
        if (what == 0) engine.Cancel(result.sequence_id);
        while (!reader.Read(*result.channel)) {
          if (what == 1 && reader.tokens.size() > 6) engine.Cancel(result.sequence_id);
          if (what == 2 && reader.tokens.size() > 6) engine.Stop(result.sequence_id, 5);
          if (what == 3) std::this_thread::sleep_for(std::chrono::milliseconds(2));
          if (what == 4 && i % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(60));
        }
        ++ended;
        const Outcome& outcome = result.channel->outcome();
        const std::vector<TokenId> ids = reader.ids();
        EXPECT_LE(ids.size(), answer.size());
        EXPECT_TRUE(std::equal(ids.begin(), ids.end(), answer.begin()));
        EXPECT_TRUE(outcome.finish != FinishReason::kLength || ids.size() == answer.size());
      }
    });
  }
  std::thread scraper([&] {
    while (!done) {
      const SchedulerStats stats = engine.Stats();
      EXPECT_LE(stats.latent.written_bytes + stats.latent.promised_bytes,
                stats.latent.budget_bytes);
      EXPECT_LE(stats.exact.written_bytes + stats.exact.promised_bytes, stats.exact.budget_bytes);
      EXPECT_LE(stats.running, 8);
      engine.Health();
      std::this_thread::yield();
    }
  });
  while (ended < kCallers * 20) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  engine.Drain(10 * kMs);
  for (std::thread& caller : callers) caller.join();
  done = true;
  scraper.join();
  EXPECT_EQ(ended, accepted);
  EXPECT_EQ(accepted + refused, kCallers * 60);
  const SchedulerStats stats = engine.Stats();
  EXPECT_EQ(stats.submitted, kCallers * 60);
  int64_t outcomes = 0;
  for (const int64_t count : stats.outcomes_by_code) outcomes += count;
  EXPECT_EQ(outcomes, kCallers * 60);
  ExpectAtStart(stats);
  engine.Shutdown();
  EXPECT_EQ(observer.ends, accepted);
}

TEST(SeqLockTest, ReadersSeeWholeValues) {
  struct Pair {
    int64_t one = 0;
    int64_t other = 0;
    int64_t more[30] = {};
  };
  SeqLock<Pair> lock;
  std::atomic<bool> done{false};
  std::vector<std::thread> readers;
  readers.reserve(3);
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      int64_t last = 0;
      while (!done) {
        const Pair pair = lock.Load();
        EXPECT_EQ(pair.other, -pair.one);
        EXPECT_EQ(pair.more[29], pair.one);
        EXPECT_GE(pair.one, last);
        last = pair.one;
      }
    });
  }
  Pair pair;
  for (int64_t i = 1; i <= 20'000; ++i) {
    pair.one = i;
    pair.other = -i;
    pair.more[29] = i;
    lock.Store(pair);
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
}

GeneratedToken Token(TokenId id) {
  GeneratedToken token;
  token.token = id;
  return token;
}

TEST(TokenChannelTest, TellsTheReaderOncePerRead) {
  int told = 0;
  int room = 0;
  TokenChannel channel(
      3, [&] { ++told; }, [&] { ++room; });
  EXPECT_FALSE(channel.Push(Token(1)));
  EXPECT_FALSE(channel.Push(Token(2)));
  EXPECT_EQ(told, 1);
  std::vector<GeneratedToken> tokens;
  EXPECT_FALSE(channel.Read(tokens));
  EXPECT_EQ(tokens.size(), 2u);
  EXPECT_EQ(room, 0);
  EXPECT_FALSE(channel.Push(Token(3)));
  EXPECT_FALSE(channel.Push(Token(4)));
  EXPECT_TRUE(channel.Push(Token(5)));
  EXPECT_EQ(told, 2);
  EXPECT_FALSE(channel.Read(tokens));
  EXPECT_EQ(tokens.size(), 5u);
  EXPECT_EQ(room, 1);
  Outcome outcome;
  outcome.finish = FinishReason::kEos;
  channel.End(outcome);
  EXPECT_EQ(told, 3);
  EXPECT_TRUE(channel.Read(tokens));
  EXPECT_EQ(channel.outcome().finish, FinishReason::kEos);
}

TEST(TokenChannelTest, KeepsTheReaderAliveUntilTheLastCall) {
  auto reader = std::make_shared<int>(0);
  std::weak_ptr<int> alive = reader;
  TokenChannel channel(
      3, [reader] { ++*reader; }, nullptr);
  reader.reset();
  channel.Push(Token(1));
  EXPECT_FALSE(alive.expired());
  channel.End({});
  EXPECT_TRUE(alive.expired());
}

}  // namespace
}  // namespace lorc
