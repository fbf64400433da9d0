// What a plan costs where a sequence generates: counted, not measured.
//
// Multiply-adds of a layer, with N = E + L cached tokens, E of them exact and L latent, r_k and r_v
// numbers per token and group of s KV heads:
//   exact tokens          2 h d E
//   latent, direct keys   h r_k L + h d r_k for every chunk of `anchor` tokens (the absorbed query)
//                         + h r_v L + h d r_v (the weighted sum's way back)
//   latent, rebuilt keys  2 h d L + (g / s) s d (r_k + r_v) L: as kernels/cpu/attend_rebuilt.cc,
//                         values are rebuilt with the keys
//   encoders              g d (r_k + r_v): a token for every token
// without what a layout's missing bases leave out, norms, rotations and the softmax.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/model/model_config.h"

namespace lorc {

struct DecodeCost {
  int64_t multiply_adds = 0;  // per generated token: attention and bases of all layers
  int64_t cache_bytes = 0;    // read for it, each byte once
};

// Of the token that follows `context` cached ones, in blocks of 16. INVALID_ARGUMENT where the plan
// does not fit the model.
absl::StatusOr<DecodeCost> FindDecodeCost(const KvPlan& plan, const ModelConfig& config,
                                          DType exact_type, int64_t context);

}  // namespace lorc
