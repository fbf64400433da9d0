// The end of a LLaMA model over one window in float32: final norm, logits, the loss of one label
// for every position and its gradient.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/cpu/thread_pool.h"
#include "runtime/compress/model_weights.h"
#include "runtime/model/model_config.h"
#include "runtime/step.h"

namespace lorc {

// The label of a position, given what the model finds likely after it: weights [V], which add up to
// `total`. Called from several threads at once, in any order.
using LabelRule =
    std::function<TokenId(int64_t position, std::span<const float> weights, double total)>;

// Draws in proportion to the weights, `uniform` in [0, 1).
TokenId DrawLabel(std::span<const float> weights, double total, double uniform);

class HeadPass {
 public:
  HeadPass(const ModelConfig& config, ThreadPool& pool);

  // x [T, D], the last layer's output, becomes the gradient of the summed negative
  // log-likelihood of the labels. Returns their log-probabilities (natural) [T], not finite where
  // logits are not. Needs a SingleThreadedBlas.
  std::vector<float> Backward(const HeadWeights& weights, int64_t num_tokens,
                              const LabelRule& label, float* x);

 private:
  const ModelConfig config_;
  ThreadPool& pool_;
  std::vector<float> normalized_;  // [rows, D]
  std::vector<float> logits_;      // [rows, V]
};

}  // namespace lorc
