#include "runtime/compress/head_pass.h"

#include <algorithm>
#include <cmath>

#include "runtime/compress/layer_pass.h"
#include "runtime/compress/products.h"
#include "runtime/compress/row_math.h"

namespace lorc {
namespace {

constexpr int64_t kLogitBytes = int64_t{64} << 20;  // of the logits held at once

}  // namespace

TokenId DrawLabel(std::span<const float> weights, double total, double uniform) {
  const double target = uniform * total;
  double sum = 0;
  int64_t last = 0;  // the last that can be drawn: rounding may leave `target` beyond the sum
  for (int64_t i = 0; i < std::ssize(weights); ++i) {
    if (weights[i] <= 0) continue;
    last = i;
    sum += weights[i];
    if (target < sum) break;
  }
  return static_cast<TokenId>(last);
}

HeadPass::HeadPass(const ModelConfig& config, ThreadPool& pool) : config_(config), pool_(pool) {}

// With p = softmax(logits), the gradient by the logits is p less one for the label.
std::vector<float> HeadPass::Backward(const HeadWeights& weights, int64_t num_tokens,
                                      const LabelRule& label, float* x) {
  const int64_t hidden = config_.hidden_size;
  const int64_t vocabulary = config_.vocabulary_size;
  const int64_t most = std::clamp<int64_t>(
      kLogitBytes / (vocabulary * static_cast<int64_t>(sizeof(float))), 16, num_tokens);
  logits_.resize(most * vocabulary);
  normalized_.resize(most * hidden);
  std::vector<float> log_probabilities(num_tokens);
  std::vector<float> by_normalized(most * hidden);
  for (int64_t first = 0; first < num_tokens; first += most) {
    const int64_t num_rows = std::min(most, num_tokens - first);
    float* rows = x + first * hidden;
    RmsNormRows(pool_, weights.norm, config_.rms_norm_epsilon, num_rows, rows, normalized_.data());
    Multiply(pool_, Transposed::kYes, num_rows, vocabulary, hidden, {normalized_.data(), hidden},
             {weights.output.data(), hidden}, Output::kStore, logits_.data(), vocabulary);
    pool_.ParallelFor(num_rows, [&](int64_t row, int) {
      float* z = logits_.data() + row * vocabulary;
      const double total = Exponentials(vocabulary, z);
      const TokenId chosen = label(first + row, {z, static_cast<size_t>(vocabulary)}, total);
      log_probabilities[first + row] = static_cast<float>(std::log(z[chosen]) - std::log(total));
      const auto inverse = static_cast<float>(1.0 / total);
      for (int64_t i = 0; i < vocabulary; ++i) z[i] *= inverse;
      z[chosen] -= 1.0f;
    });
    Multiply(pool_, Transposed::kNo, num_rows, hidden, vocabulary, {logits_.data(), vocabulary},
             {weights.output.data(), hidden}, Output::kStore, by_normalized.data(), hidden);
    std::copy_n(rows, num_rows * hidden, normalized_.data());
    std::fill_n(rows, num_rows * hidden, 0.0f);
    AddRmsNormGradientRows(pool_, weights.norm, config_.rms_norm_epsilon, num_rows,
                           normalized_.data(), by_normalized.data(), rows);
  }
  return log_probabilities;
}

}  // namespace lorc
