// Which tokens of a step go into which blocks: the same for all layers with these blocks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/token_source.cuh"
#include "kernels/ops/kv_cache.h"

namespace lorc::cuda {

// The part of a CacheLayer that decides.
struct BlockRule {
  int32_t block_tokens = 0;
  int32_t prefix_blocks = 0;
  int32_t window_blocks = 0;

  static BlockRule Of(const CacheLayer& layer) {
    return {layer.block_tokens, layer.prefix_blocks, layer.window_blocks};
  }
  friend bool operator==(const BlockRule&, const BlockRule&) = default;
};

struct WritePlan {
  std::vector<WriteRun> exact;   // to exact blocks
  std::vector<WriteRun> latent;  // to latent blocks: tokens of the step, or blocks that age
  bool ages = false;             // which of the two

  // Runs of either list at most.
  static int64_t MaxRuns(const BackendLimits& limits);

  void Build(const CacheLayer& layer, std::span<const SequenceSpan> sequences);
};

}  // namespace lorc::cuda
