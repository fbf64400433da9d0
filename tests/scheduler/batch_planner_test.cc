#include "scheduler/batch_planner.h"

#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/scheduler/harness.h"

namespace lorc {
namespace {

using testing::ElementsAre;

std::vector<int32_t> Plan(const KvGeometry& geometry, const StepLimits& limits, int64_t headroom,
                          std::vector<PlanCandidate> candidates) {
  PlanBatch(geometry, limits, headroom, candidates);
  std::vector<int32_t> counts;
  counts.reserve(candidates.size());
  for (const PlanCandidate& candidate : candidates) counts.push_back(candidate.count);
  return counts;
}

PlanCandidate Decode() { return {.computed = 9, .known = 10, .exact_need_blocks = 5}; }
PlanCandidate Prompt(int32_t tokens) { return {.known = tokens, .exact_need_blocks = 5}; }

TEST(BatchPlannerTest, DecodesComeBeforePrompts) {
  EXPECT_THAT(Plan(SmallGeometry(0), {4, 9}, 0, {Prompt(100), Decode(), Decode(), Decode()}),
              ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(Plan(SmallGeometry(0), {3, 9}, 0, {Prompt(100), Decode(), Decode(), Decode()}),
              ElementsAre(0, 1, 1, 1));
}

TEST(BatchPlannerTest, AShortPromptMovesBesideALongOne) {
  EXPECT_THAT(Plan(SmallGeometry(0), {100, 9}, 0, {Prompt(1000), Prompt(20)}), ElementsAre(80, 20));
  EXPECT_THAT(Plan(SmallGeometry(0), {100, 9}, 0, {Prompt(1000), Prompt(1000)}),
              ElementsAre(75, 25));
  EXPECT_THAT(Plan(SmallGeometry(0), {100, 9}, 0, {Prompt(10), Prompt(1000), Prompt(1000)}),
              ElementsAre(10, 74, 16));
  EXPECT_THAT(Plan(SmallGeometry(0), {100, 9}, 0, {Prompt(1000)}), ElementsAre(100));
}

TEST(BatchPlannerTest, EveryoneGetsATokenWithinTheLimits) {
  EXPECT_THAT(Plan(SmallGeometry(0), {4, 4}, 0, {Prompt(9), Prompt(9), Decode(), Prompt(9)}),
              ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(Plan(SmallGeometry(0), {40, 2}, 0, {Prompt(9), Prompt(9), Prompt(9)}),
              ElementsAre(9, 9, 0));
}

TEST(BatchPlannerTest, ChunksAreCutToTheHeadroom) {
  // A window of 2 blocks of 4 tokens, of which a promise of 2 covers a chunk to the second border.
  const KvGeometry geometry = SmallGeometry(100, 100, 2);
  const auto prompt = [](int32_t computed) {
    return PlanCandidate{.computed = computed, .known = 100, .exact_need_blocks = 2};
  };
  EXPECT_THAT(Plan(geometry, {64, 9}, 0, {prompt(0)}), ElementsAre(8));
  EXPECT_THAT(Plan(geometry, {64, 9}, 0, {prompt(8)}), ElementsAre(4));
  EXPECT_THAT(Plan(geometry, {64, 9}, 0, {prompt(11)}), ElementsAre(1));
  EXPECT_THAT(Plan(geometry, {64, 9}, 3, {prompt(11)}), ElementsAre(13));
  EXPECT_THAT(Plan(geometry, {64, 9}, 3, {prompt(8), prompt(8)}), ElementsAre(16, 4));
  EXPECT_THAT(Plan(geometry, {20, 9}, 3, {prompt(8), prompt(8)}), ElementsAre(12, 8));
}

TEST(BatchPlannerTest, StaysWithinAllLimitsAndMovesEveryone) {
  std::mt19937 random(1);
  const auto between = [&](int32_t least, int32_t most) {
    return least + static_cast<int32_t>(random() % static_cast<uint32_t>(most - least + 1));
  };
  for (int round = 0; round < 20'000; ++round) {
    const KvGeometry geometry = SmallGeometry(0, 100, between(0, 4), between(0, 3));
    const StepLimits limits = {between(1, 80), between(1, 20)};
    const int64_t headroom = between(0, 10);
    std::vector<PlanCandidate> candidates(
        between(1, std::min(limits.max_tokens, limits.max_sequences)));
    for (PlanCandidate& candidate : candidates) {
      candidate.computed = between(0, 60);
      candidate.known = candidate.computed + (between(0, 1) == 0 ? 1 : between(1, 60));
      candidate.exact_need_blocks = geometry.ExactBlocksSteady(candidate.known + between(0, 40));
    }
    PlanBatch(geometry, limits, headroom, candidates);
    int64_t tokens = 0;
    int64_t extra = 0;
    bool cut_short = false;
    for (const PlanCandidate& candidate : candidates) {
      ASSERT_GT(candidate.count, 0) << "round " << round;
      ASSERT_LE(candidate.computed + candidate.count, candidate.known);
      tokens += candidate.count;
      const int64_t end = candidate.computed + candidate.count;
      extra += std::max<int64_t>(
          0, geometry.ExactBlocksDuring(candidate.computed, end) - candidate.exact_need_blocks);
      // Short of its end only where the tokens or the headroom ran out at a block's border.
      if (end < candidate.known && end % 4 != 0) cut_short = true;
    }
    ASSERT_LE(tokens, limits.max_tokens);
    ASSERT_LE(extra, headroom);
    ASSERT_TRUE(!cut_short || tokens == limits.max_tokens) << "round " << round;
  }
}

}  // namespace
}  // namespace lorc
