// Second moments of keys and values over a text, gathered while the model runs: C = sum over tokens
// of y y^T per layer, uncentred (KV-CoRE; Swift-SVD Algorithm 1), in double precision. Memory does
// not grow with the text.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/model/model_executor.h"

namespace lorc {

struct LayerMoments {
  // [n, n], n = g*d, row-major, upper triangles.
  std::vector<double> unrotated_keys;  // before RoPE
  std::vector<double> anchored_keys;  // rotated by their position inside a chunk of `anchor` tokens
  std::vector<double> values;
};

struct Moments {
  int32_t anchor = 0;  // 0: absolute positions
  int64_t num_tokens = 0;
  std::vector<LayerMoments> layers;
};

// Runs the uncompressed model over windows of `window` tokens. The executor holds one of them.
absl::StatusOr<Moments> CollectMoments(ModelExecutor& executor,
                                       const std::vector<std::vector<TokenId>>& windows,
                                       int32_t anchor, const Progress& progress);

}  // namespace lorc
