#include "runtime/compress/moment_sums.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "runtime/compress/products.h"
#include "runtime/kv/rope.h"

namespace lorc {
namespace {

// S becomes R S R^T for a symmetric S [d, d], all of it, R the rotation by `turn` positions.
void RotateBothSides(const std::vector<double>& frequencies, double turn,
                     std::vector<double>& matrix) {
  const int64_t half = std::ssize(frequencies);
  const int64_t d = 2 * half;
  for (int64_t j = 0; j < half; ++j) {
    const double cosine = std::cos(turn * frequencies[j]);
    const double sine = std::sin(turn * frequencies[j]);
    const auto rotate = [&](double& x, double& y) {
      const double a = x;
      const double b = y;
      x = a * cosine - b * sine;
      y = b * cosine + a * sine;
    };
    for (int64_t i = 0; i < d; ++i) rotate(matrix[j * d + i], matrix[(j + half) * d + i]);
    for (int64_t i = 0; i < d; ++i) rotate(matrix[i * d + j], matrix[i * d + j + half]);
  }
}

// Rows before `prefix` into `all` alone, the others into both; `far` may be nullptr.
void AddSplit(MatrixView rows, int64_t num_rows, int64_t prefix, int64_t n,
              std::vector<double>* all, std::vector<double>* far) {
  prefix = std::min(prefix, num_rows);
  std::vector<double> sum(n * n);
  AddOuterProducts({rows.data + prefix * rows.stride, rows.stride}, num_rows - prefix, n,
                   sum.data());
  for (std::vector<double>* to : {all, far}) {
    if (to == nullptr) continue;
    for (int64_t i = 0; i < n * n; ++i) (*to)[i] += sum[i];
  }
  if (all != nullptr) AddOuterProducts(rows, prefix, n, all->data());
}

}  // namespace

MomentSums::MomentSums(const ModelConfig& config, int32_t anchor, int32_t exact_prefix,
                       const Rotation& rotation, ThreadPool& pool)
    : config_(config),
      anchor_(anchor),
      exact_prefix_(exact_prefix),
      rotation_(rotation),
      pool_(pool),
      frequencies_(InverseFrequencies(config)) {}

void MomentSums::RotateInChunks(int64_t num_tokens, int64_t num_heads, const float* rows,
                                int64_t stride, std::vector<float>& to) {
  const int64_t n = num_heads * config_.head_dim;
  to.resize(num_tokens * n);
  pool_.ParallelFor(num_tokens, [&](int64_t t, int) {
    std::copy_n(rows + t * stride, n, to.data() + t * n);
    rotation_.Apply(anchor_ > 0 ? t % anchor_ : t, num_heads, to.data() + t * n);
  });
}

// A query in chunk c counts once for each chunk c - j, rotated by j * anchor more than inside its
// own. So the sum is that over j of R(j anchor) (M_j + M_(j+1) + ...) R(j anchor)^T, M_c the second
// moment of the queries of chunk c, each rotated by its position there.
void MomentSums::AddQueries(int64_t num_tokens, const float* queries, double* sum) const {
  const int64_t d = config_.head_dim;
  const int64_t chunk = anchor_ > 0 ? anchor_ : num_tokens;
  std::vector<double> later(d * d);  // upper triangle
  std::vector<double> turned(d * d);
  for (int64_t j = (num_tokens - 1) / chunk; j >= 0; --j) {
    AddOuterProducts({queries + j * chunk * config_.query_width(), config_.query_width()},
                     std::min(chunk, num_tokens - j * chunk), d, later.data());
    for (int64_t row = 0; row < d; ++row) {
      for (int64_t column = 0; column < d; ++column) {
        turned[row * d + column] = later[std::min(row, column) * d + std::max(row, column)];
      }
    }
    if (j > 0) RotateBothSides(frequencies_, static_cast<double>(j * chunk), turned);
    for (int64_t row = 0; row < d; ++row) {
      for (int64_t column = row; column < d; ++column) {
        sum[row * d + column] += turned[row * d + column];
      }
    }
  }
}

void MomentSums::AddActivations(const LayerActivations& activations, LayerStatistics* layer) {
  const int64_t num_tokens = activations.num_tokens;
  const int64_t d = config_.head_dim;
  const int64_t n = config_.kv_width();
  const int64_t hidden = config_.hidden_size;
  const int64_t stride = config_.query_width() + 2 * n;
  const float* keys = activations.qkv + config_.query_width();
  RotateInChunks(num_tokens, config_.num_heads, activations.qkv, stride, queries_);
  RotateInChunks(num_tokens, config_.num_kv_heads, keys, stride, keys_);
  // One task for each sum.
  pool_.ParallelFor(4 + config_.num_heads, [&](int64_t task, int) {
    switch (task) {
      case 0:
        return AddSplit({keys, stride}, num_tokens, exact_prefix_, n, &layer->all.unrotated_keys,
                        &layer->far.unrotated_keys);
      case 1:
        return AddSplit({keys_.data(), n}, num_tokens, exact_prefix_, n, &layer->all.anchored_keys,
                        &layer->far.anchored_keys);
      case 2:
        return AddSplit({keys + n, stride}, num_tokens, exact_prefix_, n, &layer->all.values,
                        &layer->far.values);
      case 3:
        for (int64_t t = 0; t < num_tokens; ++t) {
          const float* input = activations.inputs + t * hidden;
          for (int64_t i = 0; i < hidden; ++i) {
            layer->inputs[i] += static_cast<double>(input[i]) * input[i];
          }
        }
        return;
      default:
        return AddQueries(num_tokens, queries_.data() + (task - 4) * d,
                          layer->queries.data() + (task - 4) * d * d);
    }
  });
}

void MomentSums::AddGradients(int64_t num_tokens, const float* keys, const float* values,
                              KvMoments* gradients) {
  const int64_t n = config_.kv_width();
  RotateInChunks(num_tokens, config_.num_kv_heads, keys, n, keys_);
  const std::pair<const float*, std::vector<double>*> sums[] = {
      {keys, &gradients->unrotated_keys},
      {keys_.data(), &gradients->anchored_keys},
      {values, &gradients->values}};
  pool_.ParallelFor(std::ssize(sums), [&](int64_t task, int) {
    AddSplit({sums[task].first, n}, num_tokens, exact_prefix_, n, nullptr, sums[task].second);
  });
}

}  // namespace lorc
