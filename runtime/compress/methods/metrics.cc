#include <algorithm>

#include "kernels/base/check.h"
#include "runtime/compress/linear_algebra.h"
#include "runtime/compress/methods/method.h"

namespace lorc {
namespace {

// Adds a block [d, d], upper triangle, at the diagonal place of a KV head.
void AddBlock(const double* block, int64_t d, int64_t n, int64_t kv_head,
              std::vector<double>& metric) {
  double* corner = metric.data() + kv_head * d * (n + 1);
  for (int64_t i = 0; i < d; ++i) {
    for (int64_t j = i; j < d; ++j) corner[i * n + j] += block[i * d + j];
  }
}

// The mean over the rotations of pairs: what remains of a metric of rotated queries for keys that
// are kept before RoPE. Diagonal, the same for both halves of a pair.
void AverageRotations(int64_t d, int64_t n, std::vector<double>& metric) {
  const int64_t half = d / 2;
  for (int64_t head = 0; head < n; head += d) {
    for (int64_t j = 0; j < half; ++j) {
      const int64_t first = head + j, second = first + half;
      const double mean = (metric[first * n + first] + metric[second * n + second]) / 2;
      metric[first * n + first] = metric[second * n + second] = mean;
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i + 1; j < n; ++j) metric[i * n + j] = 0;
  }
}

}  // namespace

std::vector<double> QueryOutputMetric(const TensorSource& source) {
  const ModelConfig& config = *source.config;
  const int64_t n = config.kv_width();
  const int64_t d = config.head_dim;
  const int64_t width = config.query_width();
  std::vector<double> metric(n * n, 0.0);
  std::vector<float> output;  // W_o
  if (!source.is_key) output = source.read(TensorRole::kAttentionOutput);
  std::vector<double> slice(int64_t{config.hidden_size} * d);
  for (int64_t head = 0; head < config.num_heads; ++head) {
    const int64_t kv_head = head / config.heads_per_kv();
    if (source.is_key) {
      LORC_CHECK(source.statistics != nullptr);
      AddBlock(source.statistics->queries.data() + head * d * d, d, n, kv_head, metric);
      continue;
    }
    for (int64_t row = 0; row < config.hidden_size; ++row) {
      std::copy_n(output.begin() + row * width + head * d, d, slice.begin() + row * d);
    }
    std::vector<double> product(d * d, 0.0);
    AddOuterProducts(slice.data(), config.hidden_size, d, product.data());
    AddBlock(product.data(), d, n, kv_head, metric);
  }
  if (source.is_key && !source.rotated()) AverageRotations(d, n, metric);
  return metric;
}

std::vector<double> LossMetric(const TensorSource& source) {
  LORC_CHECK(source.statistics != nullptr);
  return source.Of(source.statistics->gradients);
}

}  // namespace lorc
