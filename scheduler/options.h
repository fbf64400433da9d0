// Settings of the scheduler: meaning, unit, default, requirement.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "runtime/kv/geometry.h"

namespace lorc {

struct SchedulerOptions {
  // Requests that hold memory and take part in steps. >= 1; more than a step has room for
  // (sequences or tokens) is cut to that, so that each one can move on in every step.
  int32_t max_running = 64;
  // Requests that wait, >= 1, and the sum of their prompts, >= 1. A queue that is otherwise empty
  // takes one request of any size.
  int32_t max_waiting = 256;
  int64_t max_waiting_prompt_tokens = 1 << 20;
  // prompt + max_tokens of one request, >= 2: the model's or the server's context length.
  int32_t max_sequence_tokens = 4096;
  // How many requests behind one that does not fit are tried instead of it. >= 0.
  int32_t look_ahead = 16;
  // A waiting request older than this is not overtaken by those behind it. >= 0.
  int64_t overtake_age_ns = 5'000'000'000;
  // A request whose reader has taken nothing for so long is ended with ABORTED. > 0.
  int64_t slow_reader_timeout_ns = 30'000'000'000;
  // Exact blocks kept free for prefill chunks, which need more of them while they are computed
  // than afterwards. -1: enough for a chunk of a whole step, or what the pool has beyond one
  // sequence. Fewer mean smaller chunks, never failure.
  int64_t exact_headroom_blocks = -1;
};

// Largest pool of either kind: block ids are 32 bits.
inline constexpr int64_t kMaxPoolBlocks = 0x7fffffff;

// What one step can hold; the executor's.
struct StepLimits {
  int32_t max_tokens = 512;    // >= 1
  int32_t max_sequences = 64;  // >= 1
};

// INVALID_ARGUMENT naming field, value and range.
absl::Status CheckOptions(const SchedulerOptions& options, const StepLimits& limits,
                          const KvGeometry& geometry);

// The same with max_running cut to what a step has room for.
SchedulerOptions CutToStep(SchedulerOptions options, const StepLimits& limits);

// The exact blocks that admission leaves free.
int64_t ExactHeadroomBlocks(const SchedulerOptions& options, const StepLimits& limits,
                            const KvGeometry& geometry);

// For start-up: FAILED_PRECONDITION with the arithmetic where one request of
// options.max_sequence_tokens can't be held.
absl::Status CheckLongestRequestFits(const SchedulerOptions& options, const StepLimits& limits,
                                     const KvGeometry& geometry);

}  // namespace lorc
