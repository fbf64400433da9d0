// Causal attention over one whole window in float32 and its gradients, those through far queries
// apart.
//
// out_i = sum_j p_ij v_j, p_i = softmax over j <= i of q_i k_j / sqrt(d). With o' the loss'
// gradient by out, c_ij = o'_i v_j and s_ij = p_ij (c_ij - sum_j p_ij c_ij) / sqrt(d):
//   v'_j = sum_i p_ij o'_i,   k'_j = sum_i s_ij q_i,   q'_i = sum_j s_ij k_j.
// The far parts of v'_j and k'_j are the sums over those i that would read j's latent.
//
// Scores are computed for tiles of queries, so memory grows with the window's length, not its
// square. Results do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/thread_pool.h"
#include "runtime/model/model_config.h"

namespace lorc {

// Which pairs are far, by blocks of 16 tokens.
struct FarRule {
  static constexpr int64_t kBlockTokens = 16;
  int64_t prefix_tokens = 0;  // multiples of 16
  int64_t window_tokens = 0;

  // The query at i reads the latents of keys [prefix_tokens, FarEnd(i)), of those up to its own.
  int64_t FarEnd(int64_t i) const {
    const int64_t end = i - i % kBlockTokens + kBlockTokens - window_tokens;
    return end > prefix_tokens ? end : prefix_tokens;
  }
};

class AttentionPass {
 public:
  // The pool outlives this.
  AttentionPass(const ModelConfig& config, const FarRule& rule, ThreadPool& pool);

  // Rows of qkv: h*d queries, g*d keys, both rotated, g*d values. out [T, h*d]. Needs a
  // SingleThreadedBlas, as does Backward.
  void Forward(int64_t num_tokens, const float* qkv, float* out);

  // out_gradient [T, h*d] -> qkv_gradient [T, h*d + 2*g*d] (of rotated queries and keys);
  // far_keys, far_values [T, g*d]: the far parts of keys' (rotated) and values' gradients.
  void Backward(int64_t num_tokens, const float* qkv, const float* out_gradient,
                float* qkv_gradient, float* far_keys, float* far_values);

 private:
  // The query heads of one KV head at positions [begin, end): rows [position][head of G].
  struct Tile {
    int64_t kv_head = 0;
    int64_t begin = 0;
    int64_t end = 0;
  };
  // What a thread needs for a tile.
  struct Scratch {
    float* queries = nullptr;        // [rows, d]
    float* outs = nullptr;           // [rows, d]
    float* probabilities = nullptr;  // [rows, end]
    float* scores = nullptr;         // [rows, end]
  };
  // Gradients of one KV head's keys and values that one task sums, [T, d] each.
  struct Sums {
    float* far_keys = nullptr;
    float* far_values = nullptr;
    float* near_keys = nullptr;
    float* near_values = nullptr;
  };

  int64_t width() const { return config_.query_width() + 2 * int64_t{config_.kv_width()}; }
  Tile MakeTile(int64_t kv_head, int64_t index, int64_t num_tokens) const;
  void TakeScratch(int64_t num_tokens, bool backward);
  Scratch ScratchOf(int thread, int64_t num_tokens) const;
  // Rows of a tile between an array [T, ...] whose rows lie `stride` floats apart and [rows, d].
  void Gather(const Tile& tile, const float* heads, int64_t stride, float* rows) const;
  void Scatter(const Tile& tile, const float* rows, float* heads, int64_t stride) const;

  void Probabilities(const Tile& tile, const float* qkv, const Scratch& scratch) const;
  void BackwardTile(const Tile& tile, const float* qkv, const float* out_gradient,
                    const Scratch& scratch, float* qkv_gradient, const Sums& sums) const;
  void AddToSums(const Tile& tile, const Scratch& scratch, const Sums& sums) const;
  void AddUp(int64_t num_tokens, int64_t parts, float* qkv_gradient, float* far_keys,
             float* far_values) const;

  const ModelConfig config_;
  const FarRule rule_;
  const int64_t tile_tokens_;  // a multiple of the block
  ThreadPool& pool_;
  mutable std::vector<float> scratch_;  // of every thread: Scratch
  std::vector<float> sums_;             // of every task of Backward: Sums
};

}  // namespace lorc
