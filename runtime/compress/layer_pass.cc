#include "runtime/compress/layer_pass.h"

#include <algorithm>

#include "runtime/compress/products.h"
#include "runtime/compress/row_math.h"

namespace lorc {
namespace {

constexpr int64_t kRowsAtOnce = 16;  // rows of an elementwise task
constexpr int64_t kFfnRows = 1024;   // rows whose gates are held at once

template <typename Body>
void ForRows(ThreadPool& pool, int64_t num_rows, const Body& body) {
  pool.ParallelFor((num_rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](int64_t piece, int) {
    const int64_t end = std::min(num_rows, (piece + 1) * kRowsAtOnce);
    for (int64_t row = piece * kRowsAtOnce; row < end; ++row) body(row);
  });
}

}  // namespace

void RmsNormRows(ThreadPool& pool, const std::vector<float>& gain, float epsilon, int64_t num_rows,
                 const float* x, float* y) {
  const int64_t width = std::ssize(gain);
  ForRows(pool, num_rows, [&](int64_t row) {
    RmsNorm(epsilon, width, gain.data(), x + row * width, y + row * width);
  });
}

void AddRmsNormGradientRows(ThreadPool& pool, const std::vector<float>& gain, float epsilon,
                            int64_t num_rows, const float* x, const float* y_gradient,
                            float* x_gradient) {
  const int64_t width = std::ssize(gain);
  ForRows(pool, num_rows, [&](int64_t row) {
    AddRmsNormGradient(epsilon, width, gain.data(), x + row * width, y_gradient + row * width,
                       x_gradient + row * width);
  });
}

LayerPass::LayerPass(const ModelConfig& config, const FarRule& rule, const Rotation& rotation,
                     ThreadPool& pool)
    : config_(config), rotation_(rotation), pool_(pool), attention_(config, rule, pool) {}

void LayerPass::ComputeQkv(const LayerWeights& weights, int64_t num_tokens, const float* x) {
  const int64_t hidden = config_.hidden_size;
  normalized_.resize(num_tokens * hidden);
  qkv_.resize(num_tokens * width());
  attended_.resize(num_tokens * config_.query_width());
  RmsNormRows(pool_, weights.attention_norm, config_.rms_norm_epsilon, num_tokens, x,
              normalized_.data());
  Multiply(pool_, Transposed::kYes, num_tokens, width(), hidden, {normalized_.data(), hidden},
           {weights.qkv.data(), hidden}, Output::kStore, qkv_.data(), width());
}

void LayerPass::Rotate(int64_t num_tokens) {
  ForRows(pool_, num_tokens, [&](int64_t t) {
    // Keys follow the queries.
    rotation_.Apply(t, config_.num_heads + config_.num_kv_heads, qkv_.data() + t * width());
  });
}

void LayerPass::ComputeGateUp(const LayerWeights& weights, int64_t num_rows, const float* middle) {
  const int64_t hidden = config_.hidden_size;
  const int64_t ffn = config_.ffn_size;
  normalized_.resize(std::max<int64_t>(std::ssize(normalized_), num_rows * hidden));
  gate_up_.resize(num_rows * 2 * ffn);
  gated_.resize(num_rows * ffn);
  RmsNormRows(pool_, weights.ffn_norm, config_.rms_norm_epsilon, num_rows, middle,
              normalized_.data());
  Multiply(pool_, Transposed::kYes, num_rows, 2 * ffn, hidden, {normalized_.data(), hidden},
           {weights.gate_up.data(), hidden}, Output::kStore, gate_up_.data(), 2 * ffn);
}

void LayerPass::FfnForward(const LayerWeights& weights, int64_t num_tokens, float* x) {
  const int64_t hidden = config_.hidden_size;
  const int64_t ffn = config_.ffn_size;
  for (int64_t first = 0; first < num_tokens; first += kFfnRows) {
    const int64_t num_rows = std::min(kFfnRows, num_tokens - first);
    float* rows = x + first * hidden;
    ComputeGateUp(weights, num_rows, rows);
    ForRows(pool_, num_rows, [&](int64_t row) {
      const float* gate = gate_up_.data() + row * 2 * ffn;
      GatedSilu(ffn, gate, gate + ffn, gated_.data() + row * ffn);
    });
    Multiply(pool_, Transposed::kYes, num_rows, hidden, ffn, {gated_.data(), ffn},
             {weights.down.data(), ffn}, Output::kAdd, rows, hidden);
  }
}

void LayerPass::FfnBackward(const LayerWeights& weights, int64_t num_tokens, const float* middle,
                            float* gradient) {
  const int64_t hidden = config_.hidden_size;
  const int64_t ffn = config_.ffn_size;
  for (int64_t first = 0; first < num_tokens; first += kFfnRows) {
    const int64_t num_rows = std::min(kFfnRows, num_tokens - first);
    const float* middle_rows = middle + first * hidden;
    float* rows = gradient + first * hidden;
    ComputeGateUp(weights, num_rows, middle_rows);
    Multiply(pool_, Transposed::kNo, num_rows, ffn, hidden, {rows, hidden},
             {weights.down.data(), ffn}, Output::kStore, gated_.data(), ffn);
    ForRows(pool_, num_rows, [&](int64_t row) {
      float* gate = gate_up_.data() + row * 2 * ffn;
      GatedSiluGradient(ffn, gated_.data() + row * ffn, gate, gate + ffn);
    });
    Multiply(pool_, Transposed::kNo, num_rows, hidden, 2 * ffn, {gate_up_.data(), 2 * ffn},
             {weights.gate_up.data(), hidden}, Output::kStore, normalized_.data(), hidden);
    AddRmsNormGradientRows(pool_, weights.ffn_norm, config_.rms_norm_epsilon, num_rows, middle_rows,
                           normalized_.data(), rows);
  }
}

void LayerPass::Forward(const LayerWeights& weights, int64_t num_tokens,
                        const std::function<void(const LayerActivations&)>& see, float* x,
                        float* middle) {
  const int64_t hidden = config_.hidden_size;
  ComputeQkv(weights, num_tokens, x);
  if (see) see({num_tokens, normalized_.data(), qkv_.data()});
  Rotate(num_tokens);
  attention_.Forward(num_tokens, qkv_.data(), attended_.data());
  Multiply(pool_, Transposed::kYes, num_tokens, hidden, config_.query_width(),
           {attended_.data(), config_.query_width()},
           {weights.attention_output.data(), config_.query_width()}, Output::kAdd, x, hidden);
  if (middle != nullptr) std::copy_n(x, num_tokens * hidden, middle);
  FfnForward(weights, num_tokens, x);
}

void LayerPass::Backward(const LayerWeights& weights, int64_t num_tokens, const float* x,
                         const float* middle, float* gradient, float* far_keys, float* far_values) {
  const int64_t hidden = config_.hidden_size;
  const int64_t query_width = config_.query_width();
  FfnBackward(weights, num_tokens, middle, gradient);
  ComputeQkv(weights, num_tokens, x);
  Rotate(num_tokens);
  Multiply(pool_, Transposed::kNo, num_tokens, query_width, hidden, {gradient, hidden},
           {weights.attention_output.data(), query_width}, Output::kStore, attended_.data(),
           query_width);
  qkv_gradient_.resize(num_tokens * width());
  attention_.Backward(num_tokens, qkv_.data(), attended_.data(), qkv_gradient_.data(), far_keys,
                      far_values);
  ForRows(pool_, num_tokens, [&](int64_t t) {
    rotation_.Undo(t, config_.num_heads + config_.num_kv_heads, qkv_gradient_.data() + t * width());
    rotation_.Undo(t, config_.num_kv_heads, far_keys + t * config_.kv_width());
  });
  Multiply(pool_, Transposed::kNo, num_tokens, hidden, width(), {qkv_gradient_.data(), width()},
           {weights.qkv.data(), hidden}, Output::kStore, normalized_.data(), hidden);
  AddRmsNormGradientRows(pool_, weights.attention_norm, config_.rms_norm_epsilon, num_tokens, x,
                         normalized_.data(), gradient);
}

}  // namespace lorc
