// What a plan means in bytes: the layers as kernels see them, without memory, and the arithmetic of
// the pools.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/matrix.h"
#include "kernels/ops/kv_cache.h"
#include "runtime/kv/geometry.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/model/model_config.h"

namespace lorc {

struct KvLayout {
  std::vector<CacheLayer> layers;  // without pools, bases and tables
  KvGeometry geometry;             // without numbers of blocks

  int64_t BytesPerToken() const { return geometry.latent_block_bytes / geometry.block_tokens; }
};

// `block_tokens` 16, 32 or 64. `exact_type`: of exact tokens, f32 or bf16. INVALID_ARGUMENT where
// the plan's windows are not whole blocks.
absl::StatusOr<KvLayout> MakeKvLayout(const KvPlan& plan, const ModelConfig& config,
                                      int32_t block_tokens, DType exact_type);

// Layers whose weights can give latents themselves: nothing of them is ever kept exactly and no
// rotation comes first.
bool WeightsGiveLatents(const KvPlan& plan, const TensorPlan& tensor, bool is_key);

// What a backend makes of the bases of a layer's K or V, without their values.
BasisSource BasisShape(const CacheLayer& layer, bool is_key);

struct PoolRequest {
  int64_t budget_bytes = 0;
  int32_t max_running = 0;          // sequences
  int32_t max_sequence_tokens = 0;  // prompt and generated tokens
  int32_t max_step_tokens = 0;
};

// Sets the numbers of blocks so that all fits into the budget. Exact blocks: what the largest step
// holds and as many sequences as the budget has room for at half of the longest length, at most
// max_running (never less than one sequence and one step need); latent blocks: the rest.
// RESOURCE_EXHAUSTED with the arithmetic where one request of max_sequence_tokens does not fit.
absl::Status SizePools(const PoolRequest& request, KvGeometry* geometry);

// Sequences of `tokens` tokens that the pools hold at once.
int64_t ConcurrentSequences(const KvGeometry& geometry, int64_t tokens, int32_t max_step_tokens);

}  // namespace lorc
