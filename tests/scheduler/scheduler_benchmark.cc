// What the scheduler adds to each step: PlanStep, ApplyResults and reading the events, without the
// model. Arguments: sequences that run, requests that wait behind a full pool.
#include <vector>

#include "benchmark/benchmark.h"
#include "scheduler/scheduler.h"

namespace lorc {
namespace {

constexpr int32_t kPromptTokens = 512;

Request LongRequest(int64_t id, int32_t max_tokens) {
  Request request;
  request.sequence_id = id;
  request.prompt.assign(kPromptTokens, 7);
  request.max_tokens = max_tokens;
  return request;
}

void DecodeSteps(benchmark::State& state, const KvGeometry& geometry) {
  const auto running = static_cast<int32_t>(state.range(0));
  const StepLimits limits = {.max_tokens = 2048, .max_sequences = running};
  SchedulerOptions options;
  options.max_running = running;
  options.max_waiting = 1 << 20;
  options.max_waiting_prompt_tokens = 1 << 30;
  options.max_sequence_tokens = 1 << 20;
  options.overtake_age_ns = kNeverNs;
  Scheduler scheduler(geometry, limits, options);
  constexpr int32_t kMaxTokens = 1 << 14;
  int64_t id = 1;
  for (; id <= running; ++id) scheduler.Submit(LongRequest(id, kMaxTokens), 0);
  for (int64_t i = 0; i < state.range(1); ++i) scheduler.Submit(LongRequest(id++, kMaxTokens), 0);

  std::vector<StepResult> results;
  int64_t now_ns = 0;
  int64_t decoded = 0;
  const auto step = [&] {
    const StepPlan& plan = scheduler.PlanStep(now_ns);
    results.clear();
    results.resize(plan.work.size());
    for (StepResult& result : results) result.token = 7;
    now_ns += 1'000'000;
    scheduler.ApplyResults(results, now_ns);
    decoded = plan.decode_tokens;
    benchmark::DoNotOptimize(scheduler.token_events().data());
    scheduler.ClearEvents();
  };
  while (decoded < running) step();
  for ([[maybe_unused]] auto _ : state) {
    step();
    benchmark::DoNotOptimize(scheduler.Stats());  // published after each step
  }
  if (decoded != running) state.SkipWithError("sequences ended during the measurement");
}

// Few enough steps that no sequence comes to its end.
constexpr int64_t kSteps = 10'000;

void LatentOnly(benchmark::State& state) {
  KvGeometry geometry;
  geometry.latent_block_bytes = 4096;
  geometry.num_latent_blocks = 512 * 1100;
  DecodeSteps(state, geometry);
}
BENCHMARK(LatentOnly)->Args({32, 0})->Args({256, 0})->Args({256, 256})->Iterations(kSteps);

void WithWindow(benchmark::State& state) {
  KvGeometry geometry;
  geometry.latent_block_bytes = 4096;
  geometry.exact_block_bytes = 65536;
  geometry.prefix_blocks = 1;
  geometry.window_blocks = 8;
  geometry.num_latent_blocks = 512 * 1100;
  geometry.num_exact_blocks = 512 * 9;
  DecodeSteps(state, geometry);
}
BENCHMARK(WithWindow)->Args({32, 0})->Args({256, 0})->Args({256, 256})->Iterations(kSteps);

}  // namespace
}  // namespace lorc
