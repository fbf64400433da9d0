// The passes of runtime/compress put together: what CollectStatistics does with one window, but
// with gradients token by token and labels of the caller's.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "runtime/compress/head_pass.h"
#include "runtime/compress/layer_pass.h"
#include "runtime/compress/products.h"

namespace lorc::test {

struct FarGradients {
  std::vector<float> log_probabilities;          // of the labels [T]
  std::vector<std::vector<float>> keys, values;  // per layer [T, g*d]
};

inline FarGradients RunPass(const Checkpoint& checkpoint, const std::vector<TokenId>& tokens,
                            const FarRule& rule, int num_threads, const LabelRule& label) {
  const ModelConfig& config = checkpoint.config();
  const int64_t num_tokens = std::ssize(tokens);
  const SingleThreadedBlas blas;
  ThreadPool pool(num_threads);
  const Rotation rotation(config, num_tokens);
  LayerPass layer_pass(config, rule, rotation, pool);
  LayerWeights layer;
  std::vector<float> x(num_tokens * config.hidden_size);
  EXPECT_TRUE(ReadEmbeddings(checkpoint, tokens, x.data()).ok());
  std::vector<std::vector<float>> inputs, middles;
  for (int32_t l = 0; l < config.num_layers; ++l) {
    EXPECT_TRUE(ReadLayer(checkpoint, l, pool, &layer).ok());
    inputs.push_back(x);
    middles.emplace_back(x.size());
    layer_pass.Forward(layer, num_tokens, nullptr, x.data(), middles[l].data());
  }
  HeadWeights head;
  EXPECT_TRUE(ReadHead(checkpoint, pool, &head).ok());
  FarGradients result;
  result.log_probabilities = HeadPass(config, pool).Backward(head, num_tokens, label, x.data());
  const std::vector<float> zero(num_tokens * config.kv_width());
  result.keys.assign(config.num_layers, zero);
  result.values.assign(config.num_layers, zero);
  for (int32_t l = config.num_layers - 1; l >= 0; --l) {
    EXPECT_TRUE(ReadLayer(checkpoint, l, pool, &layer).ok());
    layer_pass.Backward(layer, num_tokens, inputs[l].data(), middles[l].data(), x.data(),
                        result.keys[l].data(), result.values[l].data());
  }
  return result;
}

// Every position's label is given.
inline LabelRule GivenLabels(const std::vector<TokenId>& labels) {
  return [&labels](int64_t t, std::span<const float>, double) { return labels[t]; };
}

}  // namespace lorc::test
