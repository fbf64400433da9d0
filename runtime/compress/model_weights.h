// Weights in float32, of one layer at a time: what offline passes over a model hold.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/cpu/thread_pool.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

struct LayerWeights {
  std::vector<float> attention_norm;    // [D]
  std::vector<float> qkv;               // [h*d + 2*g*d, D]: W_q, W_k, W_v
  std::vector<float> attention_output;  // [D, h*d]
  std::vector<float> ffn_norm;          // [D]
  std::vector<float> gate_up;           // [2*F, D]: W_gate, W_up
  std::vector<float> down;              // [D, F]
};

struct HeadWeights {
  std::vector<float> norm;    // [D]
  std::vector<float> output;  // [V, D]
};

// Replace what the weights hold. INVALID_ARGUMENT names the layer and the tensor whose numbers are
// not all finite.
absl::Status ReadLayer(const Checkpoint& checkpoint, int32_t layer, ThreadPool& pool,
                       LayerWeights* weights);
absl::Status ReadHead(const Checkpoint& checkpoint, ThreadPool& pool, HeadWeights* weights);

// The embeddings of tokens, which are in the vocabulary: out [tokens, D]. Errors as above.
absl::Status ReadEmbeddings(const Checkpoint& checkpoint, const std::vector<int32_t>& tokens,
                            float* out);

}  // namespace lorc
