// Which tokens are computed in the next step.
//
// One rule: each sequence has known and computed tokens, and a step hands out tokens so that the
// second catches up with the first. Prefill chunk, decode and recompute are the same case.
//
//  - A sequence that is one token behind gets it, before all others: prompts never starve decodes.
//  - What is left goes to the sequences further behind. Half of it is shared evenly, the rest goes
//    to them in the order given: short prompts move on beside a long one, and the first still gets
//    at least half.
//  - A chunk may need more exact blocks while it is computed than its sequence was promised. The
//    sum of these extra blocks stays within the headroom; chunks are cut to it. A chunk up to the
//    next block's border needs none, so every sequence can move on without any headroom.
//
// A pure function over plain data.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/kv/geometry.h"
#include "scheduler/options.h"

namespace lorc {

struct PlanCandidate {
  int32_t computed = 0;           // the chunk starts here
  int32_t known = 0;              // > computed
  int64_t exact_need_blocks = 0;  // promised: geometry.ExactBlocksSteady(longest it may get)
  int32_t count = 0;              // out: tokens to compute, 0 where the step has no room
};

// Fills in `count`. Where candidates.size() is within both limits every count is > 0.
void PlanBatch(const KvGeometry& geometry, const StepLimits& limits, int64_t exact_headroom_blocks,
               std::span<PlanCandidate> candidates);

}  // namespace lorc
