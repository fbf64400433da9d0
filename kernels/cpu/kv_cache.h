// The two cache ops on the CPU (contracts: ops/kv_cache.h).
#pragma once

#include "kernels/base/arena.h"
#include "kernels/cpu/linear.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {

class ThreadPool;

// What the scratch memory of the cache ops must hold.
struct CacheLimits {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_latent_width =
      0;                    // numbers per token in a latent, over all groups; K or V, the wider one
  int64_t max_tokens = 0;   // rows of a step
  int64_t max_context = 0;  // positions of a sequence
  int64_t block_tokens = 0;
  int num_threads = 0;
};

int64_t WriteCacheScratchBytes(const CacheLimits& limits);
void CpuWriteCache(const WriteCacheArgs& args, ThreadPool& pool, LinearScratch& linear,
                   Arena& arena);

int64_t AttendScratchBytes(const CacheLimits& limits);
void CpuAttend(const AttendArgs& args, ThreadPool& pool, LinearScratch& linear, Arena& arena);

// The two forms of attention. A row is a position of a sequence of which all earlier tokens are
// cached. Rebuilt: keys and values are rebuilt tile by tile and shared by the rows of a sequence.
void CpuAttendRebuilt(const AttendArgs& args, std::span<const SequenceSpan> sequences,
                      ThreadPool& pool, LinearScratch& linear, Arena& arena);
int64_t AttendRebuiltScratchBytes(const CacheLimits& limits);
// Absorbed: queries absorb the bases and meet the latents as they are.
void CpuAttendAbsorbed(const AttendArgs& args, std::span<const SequenceSpan> sequences,
                       ThreadPool& pool, Arena& arena);
int64_t AttendAbsorbedScratchBytes(const CacheLimits& limits);

}  // namespace lorc
