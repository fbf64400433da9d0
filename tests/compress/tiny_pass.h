// The passes of runtime/compress put together for the tiny model: what CollectStatistics does with
// one window.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "runtime/compress/head_pass.h"
#include "runtime/compress/layer_pass.h"
#include "runtime/compress/products.h"
#include "tests/compress/tiny_fixture.h"

namespace lorc::test {

struct TinyGradients {
  std::vector<float> log_probabilities;          // of the labels [T]
  std::vector<TokenId> labels;                   // [T]
  std::vector<std::vector<float>> keys, values;  // per layer [T, g*d]: far gradients
};

inline TinyGradients RunTinyPass(const TinyFixture& tiny, const std::vector<TokenId>& tokens,
                                 const FarRule& rule, int num_threads, const LabelRule& label) {
  const ModelConfig& config = tiny.config();
  const int64_t num_tokens = std::ssize(tokens);
  const SingleThreadedBlas blas;
  ThreadPool pool(num_threads);
  const Rotation rotation(config, num_tokens);
  LayerPass layer_pass(config, rule, rotation, pool);
  std::vector<LayerWeights> layers(config.num_layers);
  std::vector<float> x(num_tokens * config.hidden_size);
  EXPECT_TRUE(ReadEmbeddings(*tiny.checkpoint, tokens, x.data()).ok());
  std::vector<std::vector<float>> inputs, middles;
  for (int32_t l = 0; l < config.num_layers; ++l) {
    EXPECT_TRUE(ReadLayer(*tiny.checkpoint, l, pool, &layers[l]).ok());
    inputs.push_back(x);
    middles.emplace_back(x.size());
    layer_pass.Forward(layers[l], num_tokens, nullptr, x.data(), middles[l].data());
  }
  HeadWeights head;
  EXPECT_TRUE(ReadHead(*tiny.checkpoint, pool, &head).ok());
  TinyGradients result;
  result.labels.resize(num_tokens);
  result.log_probabilities = HeadPass(config, pool)
                                 .Backward(
                                     head, num_tokens,
                                     [&](int64_t t, std::span<const float> weights, double total) {
                                       return result.labels[t] = label(t, weights, total);
                                     },
                                     x.data());
  const std::vector<float> zero(num_tokens * config.kv_width());
  result.keys.assign(config.num_layers, zero);
  result.values.assign(config.num_layers, zero);
  for (int32_t l = config.num_layers - 1; l >= 0; --l) {
    layer_pass.Backward(layers[l], num_tokens, inputs[l].data(), middles[l].data(), x.data(),
                        result.keys[l].data(), result.values[l].data());
  }
  return result;
}

}  // namespace lorc::test
