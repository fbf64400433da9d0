// Drives a Scheduler against the fake executor with a clock of its own, and collects what comes
// out.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "scheduler/scheduler.h"
#include "tests/scheduler/fake_executor.h"

namespace lorc {

// 10-byte latent blocks and 100-byte exact blocks of 4 tokens.
inline KvGeometry SmallGeometry(int64_t latent_blocks, int64_t exact_blocks = 0,
                                int32_t window_blocks = 0, int32_t prefix_blocks = 0) {
  KvGeometry geometry;
  geometry.block_tokens = 4;
  geometry.prefix_blocks = prefix_blocks;
  geometry.window_blocks = window_blocks;
  geometry.latent_block_bytes = 10;
  geometry.exact_block_bytes = exact_blocks > 0 ? 100 : 0;
  geometry.full_bytes_per_token = 64;
  geometry.num_latent_blocks = latent_blocks;
  geometry.num_exact_blocks = exact_blocks;
  return geometry;
}

// Runs to max_tokens whatever is sampled.
inline Request MakeRequest(int64_t sequence_id, int32_t prompt_tokens, int32_t max_tokens) {
  Request request;
  request.id = "test";
  request.sequence_id = sequence_id;
  for (int32_t i = 0; i < prompt_tokens; ++i) request.prompt.push_back((i * 7 + 1) % 40);
  request.max_tokens = max_tokens;
  request.eos_ids = {kFakeEos};
  request.ignore_eos = true;
  request.sampling.seed = sequence_id;
  return request;
}

class Harness {
 public:
  Harness(const KvGeometry& geometry, const StepLimits& limits, const SchedulerOptions& options)
      : executor(geometry, limits), scheduler(geometry, limits, options) {}

  void Submit(Request request) {
    request.arrival_ns = now_ns;
    scheduler.Submit(std::move(request), now_ns);
    Collect();
  }

  // One step of 1 ms; returns the positions computed per sequence, empty where nothing was to do.
  std::map<int64_t, int32_t> Step() {
    std::map<int64_t, int32_t> counts;
    const StepPlan& plan = scheduler.PlanStep(now_ns);
    Collect();
    if (plan.work.empty()) return counts;
    for (const SequenceWork& work : plan.work) counts[work.sequence_id] = work.count;
    std::vector<StepResult> results(plan.work.size());
    EXPECT_TRUE(executor.Execute(plan.work, results).ok()) << executor.breach();
    now_ns += 1'000'000;
    scheduler.ApplyResults(results, now_ns);
    Collect();
    return counts;
  }

  // Steps until nothing is to do; returns how many.
  int Run(int at_most = 100'000) {
    int steps = 0;
    while (steps < at_most && !Step().empty()) ++steps;
    EXPECT_LT(steps, at_most);
    return steps;
  }

  void Collect() {
    for (TokenEvent& event : scheduler.token_events()) {
      tokens[event.sequence_id].push_back(event.token);
    }
    for (FinishedEvent& event : scheduler.finished_events()) {
      EXPECT_FALSE(outcomes.contains(event.sequence_id));
      outcomes[event.sequence_id] = event.outcome;
      executor.Forget(event.sequence_id);
    }
    scheduler.ClearEvents();
    EXPECT_EQ(scheduler.AuditForTest(), "");
  }

  std::vector<TokenId> TokensOf(int64_t sequence_id) {
    std::vector<TokenId> ids;
    for (const GeneratedToken& token : tokens[sequence_id]) ids.push_back(token.token);
    return ids;
  }

  FakeExecutor executor;
  Scheduler scheduler;
  int64_t now_ns = 1'000'000'000;
  std::map<int64_t, std::vector<GeneratedToken>> tokens;
  std::map<int64_t, Outcome> outcomes;
};

}  // namespace lorc
