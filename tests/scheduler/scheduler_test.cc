#include "scheduler/scheduler.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/scheduler/harness.h"

namespace lorc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

constexpr int64_t kMs = 1'000'000;
constexpr StepLimits kLimits = {.max_tokens = 16, .max_sequences = 8};

std::string MessageOf(const Outcome& outcome) {
  return {outcome.status.message().data(), outcome.status.message().size()};
}

// A request whose answer ends for this reason after at least `least` tokens.
Request RequestThatEnds(FinishReason finish, size_t least) {
  for (int64_t seed = 1;; ++seed) {
    Request request = MakeRequest(1, 5, 200);
    request.ignore_eos = false;
    request.stop_ids = {3};
    request.sampling.seed = seed;
    const FakeAnswer answer = FakeAnswerFor(request);
    if (answer.finish == finish && answer.tokens.size() >= least) return request;
  }
}

TEST(SchedulerTest, RunsToTheLength) {
  Harness harness(SmallGeometry(100), kLimits, {});
  const Request request = MakeRequest(1, 21, 6);
  harness.Submit(request);
  EXPECT_THAT(harness.Step(), ElementsAre(Pair(1, 16)));
  EXPECT_THAT(harness.tokens[1], IsEmpty());
  EXPECT_THAT(harness.Step(), ElementsAre(Pair(1, 5)));
  EXPECT_EQ(harness.tokens[1].size(), 1u);
  EXPECT_EQ(harness.Run(), 5);
  EXPECT_EQ(harness.TokensOf(1), FakeAnswerFor(request).tokens);

  const Outcome& outcome = harness.outcomes.at(1);
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.finish, FinishReason::kLength);
  EXPECT_EQ(outcome.usage.prompt_tokens, 21);
  EXPECT_EQ(outcome.usage.generated_tokens, 6);
  EXPECT_EQ(outcome.usage.queue_ns, 0);
  EXPECT_EQ(outcome.usage.prefill_ns, 2 * kMs);
  EXPECT_EQ(outcome.usage.decode_ns, 5 * kMs);
  // The last token is not computed: 26 tokens in 7 blocks.
  EXPECT_EQ(outcome.usage.kv_bytes, 70);
  EXPECT_EQ(outcome.usage.kv_bytes_full, 26 * 64);
  EXPECT_FALSE(harness.tokens[1].back().ends_request);
}

TEST(SchedulerTest, EndAndStopTokensAreHandedOutButMarked) {
  for (const FinishReason finish : {FinishReason::kEos, FinishReason::kStopToken}) {
    Harness harness(SmallGeometry(100), kLimits, {});
    const Request request = RequestThatEnds(finish, 3);
    harness.Submit(request);
    harness.Run();
    const FakeAnswer answer = FakeAnswerFor(request);
    EXPECT_EQ(harness.TokensOf(1), answer.tokens);
    EXPECT_EQ(harness.outcomes.at(1).finish, finish);
    EXPECT_EQ(harness.outcomes.at(1).usage.generated_tokens,
              static_cast<int32_t>(answer.tokens.size()));
    EXPECT_TRUE(harness.tokens[1].back().ends_request);
    EXPECT_FALSE(harness.tokens[1][0].ends_request);
  }
}

TEST(SchedulerTest, MinTokensHoldsBackEndsAndTellsTheSampler) {
  Harness harness(SmallGeometry(100), kLimits, {});
  Request request = RequestThatEnds(FinishReason::kEos, 2);
  const size_t length = FakeAnswerFor(request).tokens.size();
  request.min_tokens = static_cast<int32_t>(length) + 5;
  harness.Submit(request);
  const StepPlan& plan = harness.scheduler.PlanStep(harness.now_ns);
  EXPECT_EQ(plan.work[0].sampling->min_tokens, request.min_tokens);
  EXPECT_THAT(plan.work[0].sampling->suppressed_tokens, ElementsAre(3, kFakeEos));

  // A sampler that does not listen ends nothing either, until it may.
  std::vector<StepResult> results(1);
  for (int32_t i = 0; i <= request.min_tokens; ++i) {
    EXPECT_EQ(harness.scheduler.num_running(), 1);
    results[0].token = kFakeEos;
    harness.scheduler.ApplyResults(results, harness.now_ns);
    EXPECT_EQ(harness.scheduler.token_events()[0].token.ends_request, i == request.min_tokens);
    harness.Collect();
    harness.scheduler.PlanStep(harness.now_ns);
  }
  EXPECT_EQ(harness.outcomes.at(1).finish, FinishReason::kEos);
}

TEST(SchedulerTest, TokensTellTheirLatency) {
  Harness harness(SmallGeometry(100), kLimits, {});
  Request request = MakeRequest(1, 5, 3);
  request.arrival_ns = harness.now_ns - 7 * kMs;
  harness.scheduler.Submit(request, harness.now_ns);
  for (int32_t i = 0; i < 3; ++i) {
    harness.scheduler.PlanStep(harness.now_ns);
    harness.now_ns += (i + 1) * kMs;
    std::vector<StepResult> results(1);
    results[0].token = 9;
    harness.scheduler.ApplyResults(results, harness.now_ns);
    const TokenEvent& event = harness.scheduler.token_events()[0];
    EXPECT_EQ(event.index, i);
    EXPECT_EQ(event.latency_ns, i == 0 ? 8 * kMs : (i + 1) * kMs);
    harness.Collect();
  }
  EXPECT_EQ(harness.outcomes.at(1).usage.queue_ns, 7 * kMs);
  EXPECT_EQ(harness.outcomes.at(1).usage.prefill_ns, 1 * kMs);
  EXPECT_EQ(harness.outcomes.at(1).usage.decode_ns, 5 * kMs);
}

TEST(SchedulerTest, IgnoredEosIsATokenLikeOthers) {
  Request request = RequestThatEnds(FinishReason::kEos, 2);
  request.ignore_eos = true;
  request.stop_ids.clear();
  Harness harness(SmallGeometry(100), kLimits, {});
  harness.Submit(request);
  harness.Run();
  EXPECT_EQ(harness.outcomes.at(1).finish, FinishReason::kLength);
  EXPECT_EQ(harness.TokensOf(1).size(), 200u);
}

TEST(SchedulerTest, AStopStringEndsItWithTheTokensThatCount) {
  Harness harness(SmallGeometry(100), kLimits, {});
  harness.Submit(MakeRequest(1, 5, 50));
  for (int i = 0; i < 10; ++i) harness.Step();
  EXPECT_TRUE(harness.scheduler.Stop(1, 7, harness.now_ns));
  harness.Collect();
  EXPECT_TRUE(harness.outcomes.at(1).status.ok());
  EXPECT_EQ(harness.outcomes.at(1).finish, FinishReason::kStopString);
  EXPECT_EQ(harness.outcomes.at(1).usage.generated_tokens, 7);
  EXPECT_FALSE(harness.scheduler.Stop(1, 7, harness.now_ns));
}

TEST(SchedulerTest, LogprobsTravelWithTheirToken) {
  Harness harness(SmallGeometry(100), kLimits, {});
  harness.Submit(MakeRequest(1, 5, 50));
  harness.scheduler.PlanStep(harness.now_ns);
  std::vector<StepResult> results(1);
  results[0].token = 9;
  results[0].chosen = {9, -1.5f};
  results[0].top = {{8, -0.5f}, {9, -1.5f}};
  harness.scheduler.ApplyResults(results, harness.now_ns);
  const GeneratedToken& token = harness.scheduler.token_events()[0].token;
  EXPECT_EQ(token.chosen.logprob, -1.5f);
  EXPECT_EQ(token.top.size(), 2u);
}

TEST(SchedulerTest, DeadlinesHoldInTheQueueToo) {
  SchedulerOptions options;
  options.max_running = 1;
  Harness harness(SmallGeometry(100), kLimits, options);
  harness.Submit(MakeRequest(1, 5, 50));
  Request late = MakeRequest(2, 5, 50);
  late.deadline_ns = harness.now_ns + 3 * kMs;
  harness.Submit(late);
  EXPECT_EQ(harness.scheduler.NextTimerNs(), late.deadline_ns);
  for (int i = 0; i < 3; ++i) harness.Step();
  EXPECT_FALSE(harness.outcomes.contains(2));
  harness.Step();
  EXPECT_EQ(harness.outcomes.at(2).status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(MessageOf(harness.outcomes.at(2)), HasSubstr("in the queue after 0.003 s"));
  EXPECT_EQ(harness.outcomes.at(2).usage.queue_ns, 3 * kMs);
  EXPECT_EQ(harness.scheduler.NextTimerNs(), kNeverNs);

  Request dead = MakeRequest(3, 5, 50);
  dead.deadline_ns = harness.now_ns;
  harness.Submit(dead);
  EXPECT_EQ(harness.outcomes.at(3).status.code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(SchedulerTest, ARunningRequestEndsAtItsDeadlineWithItsBlocksBack) {
  Harness harness(SmallGeometry(100), kLimits, {});
  Request request = MakeRequest(1, 5, 50);
  request.deadline_ns = harness.now_ns + 5 * kMs;
  harness.Submit(request);
  harness.Run();
  EXPECT_EQ(harness.outcomes.at(1).status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(MessageOf(harness.outcomes.at(1)),
              HasSubstr("while running after 0.005 s, with 5 of at most 50 tokens"));
  EXPECT_EQ(harness.scheduler.Stats().latent.blocks_free, 100);
}

TEST(SchedulerTest, CancelFreesBlocksAtOnce) {
  Harness harness(SmallGeometry(100), kLimits, {});
  harness.Submit(MakeRequest(1, 40, 50));
  harness.Step();
  EXPECT_EQ(harness.scheduler.Stats().latent.blocks_free, 96);
  EXPECT_TRUE(harness.scheduler.Cancel(1, harness.now_ns));
  EXPECT_EQ(harness.scheduler.Stats().latent.blocks_free, 100);
  EXPECT_EQ(harness.scheduler.Stats().latent.promised_bytes, 0);
  EXPECT_FALSE(harness.scheduler.Cancel(1, harness.now_ns));
  harness.Collect();
  EXPECT_EQ(harness.outcomes.at(1).status.code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(harness.Step(), IsEmpty());
}

TEST(SchedulerTest, ASlowReaderPausesOnlyItself) {
  SchedulerOptions options;
  options.slow_reader_timeout_ns = 10 * kMs;
  Harness harness(SmallGeometry(100), kLimits, options);
  harness.Submit(MakeRequest(1, 5, 50));
  harness.Submit(MakeRequest(2, 5, 50));
  harness.Step();
  EXPECT_TRUE(harness.scheduler.Pause(1, harness.now_ns));
  EXPECT_EQ(harness.scheduler.Stats().paused, 1);
  EXPECT_THAT(harness.Step(), ElementsAre(Pair(2, 1)));
  EXPECT_TRUE(harness.scheduler.Resume(1));
  EXPECT_THAT(harness.Step(), ElementsAre(Pair(1, 1), Pair(2, 1)));
  EXPECT_TRUE(harness.scheduler.Pause(1, harness.now_ns));
  for (int i = 0; i < 10; ++i) EXPECT_THAT(harness.Step(), ElementsAre(Pair(2, 1)));
  harness.Step();
  EXPECT_EQ(harness.outcomes.at(1).status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(MessageOf(harness.outcomes.at(1)), HasSubstr("took no token for 0.01 s"));
  EXPECT_EQ(harness.scheduler.Stats().paused, 0);
  harness.Run();
  EXPECT_TRUE(harness.outcomes.at(2).status.ok());
}

TEST(SchedulerTest, AnErrorOfOneSequenceEndsThatOneAlone) {
  Harness harness(SmallGeometry(100), kLimits, {});
  Request request = MakeRequest(1, 5, 50);
  request.sampling.seed = kPoisonedSeed;
  harness.Submit(request);
  harness.Submit(MakeRequest(2, 5, 50));
  harness.Run();
  EXPECT_EQ(harness.outcomes.at(1).status, absl::InternalError("the logits are not finite"));
  EXPECT_EQ(harness.outcomes.at(1).usage.generated_tokens, 2);
  EXPECT_TRUE(harness.outcomes.at(2).status.ok());
}

TEST(SchedulerTest, FailAllEndsWhatRunsAndWhatWaitsInAnOpenStep) {
  SchedulerOptions options;
  options.max_running = 1;
  Harness harness(SmallGeometry(100), kLimits, options);
  harness.Submit(MakeRequest(1, 5, 50));
  harness.Submit(MakeRequest(2, 5, 50));
  harness.scheduler.PlanStep(harness.now_ns);
  harness.scheduler.FailAll(absl::InternalError("device lost"), harness.now_ns);
  harness.Collect();
  EXPECT_EQ(harness.outcomes.at(1).status, absl::InternalError("device lost"));
  EXPECT_EQ(harness.outcomes.at(2).status, absl::InternalError("device lost"));
  harness.Submit(MakeRequest(3, 5, 50));
  harness.Run();
  EXPECT_TRUE(harness.outcomes.at(3).status.ok());
}

TEST(SchedulerTest, AFullQueueRefusesWithAHint) {
  SchedulerOptions options;
  options.max_running = 2;
  options.max_waiting = 2;
  Harness harness(SmallGeometry(100), kLimits, options);
  for (int64_t id = 1; id <= 5; ++id) harness.Submit(MakeRequest(id, 5, 50));
  // Two could start when the third and fourth came, so the queue has room for those.
  EXPECT_EQ(harness.outcomes.size(), 1u);
  EXPECT_EQ(harness.outcomes.at(5).status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(MessageOf(harness.outcomes.at(5)),
              HasSubstr("2 of 2 requests wait with 10 of 1048576 prompt tokens"));
  EXPECT_EQ(harness.outcomes.at(5).retry_after_ns, 2'000'000'000);
  EXPECT_EQ(harness.scheduler.Stats().refused, 1);
  harness.Run();
  EXPECT_EQ(harness.outcomes.size(), 5u);
}

TEST(SchedulerTest, ABudgetOfExactlyOneRequestServesOneAfterTheOther) {
  // 20 tokens are 5 blocks, of which 2 are exact at a time where there is a window of 2.
  for (const KvGeometry& geometry : {SmallGeometry(5), SmallGeometry(4, 2, 2)}) {
    Harness harness(geometry, kLimits, {});
    for (int64_t id = 1; id <= 4; ++id) harness.Submit(MakeRequest(id, 10, 10));
    harness.Step();
    EXPECT_EQ(harness.scheduler.num_running(), 1);
    EXPECT_EQ(harness.scheduler.Stats().waiting_kv_budget, 3);
    harness.Run();
    for (int64_t id = 1; id <= 4; ++id) {
      EXPECT_TRUE(harness.outcomes.at(id).status.ok());
      EXPECT_EQ(harness.TokensOf(id), FakeAnswerFor(MakeRequest(id, 10, 10)).tokens);
    }
  }
}

TEST(SchedulerTest, ALargeHeadIsServedAlthoughSmallOnesKeepComing) {
  SchedulerOptions options;
  options.overtake_age_ns = 20 * kMs;
  Harness harness(SmallGeometry(10), kLimits, options);
  int64_t id = 1;
  harness.Submit(MakeRequest(id++, 4, 12));
  harness.Step();
  const int64_t large = id++;
  harness.Submit(MakeRequest(large, 20, 20));  // the whole pool
  int64_t overtakers = 0;
  for (int i = 0; i < 60 && !harness.outcomes.contains(large); ++i) {
    harness.Submit(MakeRequest(id++, 2, 10));  // always one that would fit
    harness.Step();
    if (harness.scheduler.StateOf(large) == SequenceState::kWaiting) {
      overtakers = static_cast<int64_t>(harness.outcomes.size());
    }
  }
  EXPECT_GT(overtakers, 1);  // look-ahead uses the room while the head is young
  EXPECT_TRUE(harness.outcomes.contains(large) ||
              harness.scheduler.StateOf(large) == SequenceState::kRunning);
}

TEST(SchedulerTest, LongPromptsMoveInChunksUnderASmallHeadroom) {
  // Two prompts of 30 blocks, a window of 2: the headroom of 1 block allows 2 blocks a step at
  // most.
  SchedulerOptions options;
  options.exact_headroom_blocks = 1;
  const StepLimits limits = {.max_tokens = 64, .max_sequences = 4};
  Harness harness(SmallGeometry(100, 5, 2), limits, options);
  harness.Submit(MakeRequest(1, 120, 8));
  harness.Submit(MakeRequest(2, 120, 8));
  int64_t most = 0;
  while (!harness.Step().empty()) {
    const SchedulerStats stats = harness.scheduler.Stats();
    most = std::max(most, stats.exact.written_bytes);
    EXPECT_LE(stats.exact.written_bytes + stats.exact.promised_bytes, stats.exact.budget_bytes);
  }
  EXPECT_LE(most, 400);
  for (const int64_t id : {1, 2}) {
    EXPECT_EQ(harness.TokensOf(id), FakeAnswerFor(MakeRequest(id, 120, 8)).tokens);
  }
}

TEST(SchedulerTest, APoolOfAboutOneLongestRequestAlwaysMovesOn) {
  // Around the border where others deadlock or recompute for ever.
  for (const int32_t window : {0, 1, 3}) {
    for (int64_t slack = -1; slack <= 3; ++slack) {
      SCOPED_TRACE(testing::Message() << "window " << window << " slack " << slack);
      KvGeometry geometry = SmallGeometry(0, 100, window, 1);
      const BlockCounts need = BlocksNeeded(geometry, 100);
      geometry.num_latent_blocks = need.latent + slack;
      geometry.num_exact_blocks = need.exact + std::max<int64_t>(0, slack);
      SchedulerOptions options;
      options.max_sequence_tokens = 100;
      Harness harness(geometry, kLimits, options);
      for (int64_t id = 1; id <= 6; ++id) {
        harness.Submit(MakeRequest(id, id % 2 == 0 ? 90 : 10, id % 2 == 0 ? 10 : 90));
      }
      for (int64_t id = 7; id <= 12; ++id) harness.Submit(MakeRequest(id, 3, 5));
      const int steps = harness.Run();
      EXPECT_LT(steps, 1000);
      for (int64_t id = 1; id <= 12; ++id) {
        const bool fits = slack >= 0 || id > 6;
        EXPECT_EQ(harness.outcomes.at(id).status.code(),
                  fits ? absl::StatusCode::kOk : absl::StatusCode::kInvalidArgument);
      }
      EXPECT_EQ(harness.scheduler.Stats().preemptions, 0);
    }
  }
}

TEST(SchedulerTest, StatsCountBytesTokensAndEnds) {
  SchedulerOptions options;
  options.max_running = 1;
  Harness harness(SmallGeometry(100, 20, 2), kLimits, options);
  harness.Submit(MakeRequest(1, 20, 10));
  harness.Submit(MakeRequest(2, 7, 3));
  harness.Step();
  harness.Step();
  SchedulerStats stats = harness.scheduler.Stats();
  EXPECT_EQ(stats.block_tokens, 4);
  EXPECT_EQ(stats.written_tokens, 20);
  EXPECT_EQ(stats.written_bytes_full, 20 * 64);
  // 20 tokens fill 5 blocks: 4 have left the window, 1 is still exact, the next begins.
  EXPECT_EQ(stats.latent.written_bytes, 40);
  EXPECT_EQ(stats.exact.written_bytes, 100);
  EXPECT_EQ(stats.latent.promised_bytes, 20);
  EXPECT_EQ(stats.exact.promised_bytes, 100);
  EXPECT_EQ(stats.latent.budget_bytes, 1000);
  EXPECT_EQ(stats.exact.budget_bytes, 2000);
  EXPECT_EQ(stats.exact.headroom_bytes, 400);
  EXPECT_EQ(stats.exact.blocks_free, 19);
  EXPECT_EQ(stats.running, 1);
  EXPECT_EQ(stats.waiting_batch_slots, 1);
  EXPECT_EQ(stats.waiting_prompt_tokens, 7);
  EXPECT_EQ(stats.prompt_tokens, 20);
  EXPECT_EQ(stats.generated_tokens, 1);
  EXPECT_EQ(stats.steps, 2);

  harness.Submit(MakeRequest(3, 7, 0));
  harness.scheduler.Cancel(2, harness.now_ns);
  harness.Run();
  stats = harness.scheduler.Stats();
  EXPECT_EQ(stats.submitted, 3);
  EXPECT_EQ(stats.refused, 1);
  EXPECT_EQ(stats.outcomes(absl::StatusCode::kOk), 1);
  EXPECT_EQ(stats.outcomes(absl::StatusCode::kCancelled), 1);
  EXPECT_EQ(stats.outcomes(absl::StatusCode::kInvalidArgument), 1);
  EXPECT_EQ(stats.finished_by_reason[static_cast<int>(FinishReason::kLength)], 1);
  EXPECT_EQ(stats.generated_tokens, 10);
}

TEST(SchedulerTest, MoreRunningThanAStepHoldsIsCutToTheStep) {
  SchedulerOptions options;
  options.max_running = 100;
  Harness harness(SmallGeometry(1000), {.max_tokens = 3, .max_sequences = 8}, options);
  for (int64_t id = 1; id <= 5; ++id) harness.Submit(MakeRequest(id, 2, 5));
  harness.Step();
  EXPECT_EQ(harness.scheduler.num_running(), 3);
  harness.Run();
  EXPECT_EQ(harness.outcomes.size(), 5u);
}

}  // namespace
}  // namespace lorc
