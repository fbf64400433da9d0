#include "scheduler/batch_planner.h"

#include <algorithm>

namespace lorc {
namespace {

int32_t Behind(const PlanCandidate& candidate) { return candidate.known - candidate.computed; }

// Exact blocks beyond the promise while `count` tokens are computed.
int64_t ExtraBlocks(const KvGeometry& geometry, const PlanCandidate& candidate, int32_t count) {
  const int64_t during =
      geometry.ExactBlocksDuring(candidate.computed, int64_t{candidate.computed} + count);
  return std::max<int64_t>(0, during - candidate.exact_need_blocks);
}

// The longest chunk of at most `want` tokens that needs at most `extra` extra blocks.
int32_t LongestChunk(const KvGeometry& geometry, const PlanCandidate& candidate, int32_t want,
                     int64_t extra) {
  if (ExtraBlocks(geometry, candidate, want) <= extra) return want;
  // Too many: the chunk's end lies in the window, where each block costs one. Blocks(end) is then
  // at most what is allowed beyond the prefix, counted from the window's first block.
  const int64_t allowed = candidate.exact_need_blocks + extra - geometry.prefix_blocks;
  const int64_t end = geometry.FirstWindowBlock(candidate.computed) + allowed;
  return static_cast<int32_t>(
      std::clamp<int64_t>(end * geometry.block_tokens - candidate.computed, 0, want));
}

}  // namespace

void PlanBatch(const KvGeometry& geometry, const StepLimits& limits, int64_t exact_headroom_blocks,
               std::span<PlanCandidate> candidates) {
  int32_t tokens_left = limits.max_tokens;
  int32_t sequences_left = limits.max_sequences;
  int32_t num_prefills = 0;
  for (PlanCandidate& candidate : candidates) {
    candidate.count = 0;
    if (Behind(candidate) > 1) {
      ++num_prefills;
    } else if (tokens_left > 0 && sequences_left > 0) {
      candidate.count = 1;
      --tokens_left;
      --sequences_left;
    }
  }
  num_prefills = std::min(num_prefills, sequences_left);
  if (num_prefills == 0) return;

  int64_t headroom_left = exact_headroom_blocks;
  const auto raise = [&](PlanCandidate& candidate, int32_t most) {
    const int32_t before = candidate.count;
    const int64_t extra_before = before > 0 ? ExtraBlocks(geometry, candidate, before) : 0;
    const int32_t want = std::min({Behind(candidate), before + tokens_left, most});
    if (want <= before) return;
    const int32_t count =
        std::max(before, LongestChunk(geometry, candidate, want, headroom_left + extra_before));
    if (count == before) return;
    candidate.count = count;
    tokens_left -= count - before;
    headroom_left -= ExtraBlocks(geometry, candidate, count) - extra_before;
  };

  const int32_t share = std::max(1, tokens_left / (2 * num_prefills));
  for (PlanCandidate& candidate : candidates) {
    if (Behind(candidate) <= 1) continue;
    if (sequences_left == 0) break;
    raise(candidate, share);
    if (candidate.count > 0) --sequences_left;
  }
  for (PlanCandidate& candidate : candidates) {
    if (tokens_left == 0) break;
    if (candidate.count > 0) raise(candidate, Behind(candidate));
  }
}

}  // namespace lorc
