// One LLaMA layer over one whole window in float32, forward and backward (by activations, not by
// weights). Backward recomputes what it needs from the layer's input and m.
//
// x [T, D]: m = x + W_o attend(R W_q n, R W_k n, W_v n), n = rms_norm(x);
//           y = m + W_down (silu(W_gate n') * (W_up n')), n' = rms_norm(m).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/cpu/thread_pool.h"
#include "runtime/compress/attention_pass.h"
#include "runtime/compress/model_weights.h"
#include "runtime/compress/rotation.h"
#include "runtime/model/model_config.h"

namespace lorc {

// What the layer computes on its way, valid during the call.
struct LayerActivations {
  int64_t num_tokens = 0;
  const float* inputs = nullptr;  // n [T, D]
  const float* qkv = nullptr;     // [T, h*d + 2*g*d], not rotated
};

// y[r] = x[r] / rms(x[r]) * gain for rows of `width` numbers, rms with epsilon under the root.
void RmsNormRows(ThreadPool& pool, const std::vector<float>& gain, float epsilon, int64_t num_rows,
                 const float* x, float* y);
// Adds to x_gradient what y_gradient means for x.
void AddRmsNormGradientRows(ThreadPool& pool, const std::vector<float>& gain, float epsilon,
                            int64_t num_rows, const float* x, const float* y_gradient,
                            float* x_gradient);

class LayerPass {
 public:
  // `rotation` covers the longest window. It and the pool outlive this.
  LayerPass(const ModelConfig& config, const FarRule& rule, const Rotation& rotation,
            ThreadPool& pool);

  // x [T, D] becomes the layer's output. `middle` [T, D] gets m; may be nullptr, as may `see`.
  // Needs a SingleThreadedBlas, as does Backward.
  void Forward(const LayerWeights& weights, int64_t num_tokens,
               const std::function<void(const LayerActivations&)>& see, float* x, float* middle);

  // gradient [T, D] by the layer's output becomes the one by its input x [T, D], middle as Forward
  // gave it. far_keys (before RoPE), far_values [T, g*d]: gradients through far queries.
  void Backward(const LayerWeights& weights, int64_t num_tokens, const float* x,
                const float* middle, float* gradient, float* far_keys, float* far_values);

 private:
  int64_t width() const { return config_.query_width() + 2 * config_.kv_width(); }
  void ComputeQkv(const LayerWeights& weights, int64_t num_tokens, const float* x);
  void Rotate(int64_t num_tokens);
  // W_gate n' and W_up n' of rows [0, num_rows) of `middle`.
  void ComputeGateUp(const LayerWeights& weights, int64_t num_rows, const float* middle);
  void FfnForward(const LayerWeights& weights, int64_t num_tokens, float* x);
  void FfnBackward(const LayerWeights& weights, int64_t num_tokens, const float* middle,
                   float* gradient);

  const ModelConfig config_;
  const Rotation& rotation_;
  ThreadPool& pool_;
  AttentionPass attention_;

  std::vector<float> normalized_;    // [T, D]; [rows, D] of a piece of the FFN
  std::vector<float> qkv_;           // [T, h*d + 2*g*d]
  std::vector<float> qkv_gradient_;  // as qkv_
  std::vector<float> attended_;      // [T, h*d]
  std::vector<float> gate_up_;       // [rows, 2*F]
  std::vector<float> gated_;         // [rows, F]
};

}  // namespace lorc
