// Second moments of keys and values: of the text, or of weights under an assumption about inputs.

#include <algorithm>
#include <cmath>

#include "kernels/base/check.h"
#include "runtime/compress/linear_algebra.h"
#include "runtime/compress/methods/method.h"
#include "runtime/kv/rope.h"

namespace lorc {
namespace {

// W diag(scale^2) W^T.
std::vector<double> OfWeight(const TensorSource& source, const std::vector<double>& scale) {
  const int64_t n = source.config->kv_width();
  const int64_t columns = source.config->hidden_size;
  const std::vector<float> weight =
      source.read(source.is_key ? TensorRole::kKey : TensorRole::kValue);
  std::vector<double> transposed(columns * n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < columns; ++c) {
      transposed[c * n + i] = scale[c] * weight[i * columns + c];
    }
  }
  std::vector<double> moment(n * n, 0.0);
  AddOuterProducts(transposed.data(), columns, n, moment.data());
  return moment;
}

// The mean of R C R^T over the positions of a chunk, R turning pair j of every head by
// position * frequency[j]. In complex numbers z_j = x_j + i x_{j + d/2}, C has a part E[z_j z_k*],
// which turns by the difference of angles, and a part E[z_j z_k], which turns by their sum.
std::vector<double> MeanRotated(const ModelConfig& config, int32_t anchor,
                                const std::vector<double>& moment) {
  const std::vector<double> frequency = InverseFrequencies(config);
  const int64_t n = config.kv_width();
  const int64_t d = config.head_dim;
  const int64_t half = d / 2;
  const int64_t positions = anchor > 0 ? anchor : config.context_length;
  // Mean of exp(i t angle) over t in [0, positions).
  const auto mean = [positions](double angle, double* cosine, double* sine) {
    const double p = static_cast<double>(positions);
    const double denominator = std::sin(angle / 2);
    const double size =
        std::abs(denominator) < 1e-12 ? 1.0 : std::sin(p * angle / 2) / (p * denominator);
    *cosine = size * std::cos((p - 1) * angle / 2);
    *sine = size * std::sin((p - 1) * angle / 2);
  };
  const auto at = [&](int64_t i, int64_t j) { return moment[std::min(i, j) * n + std::max(i, j)]; };
  std::vector<double> rotated(n * n, 0.0);
  for (int64_t a = 0; a < n; a += d) {
    for (int64_t b = 0; b < n; b += d) {
      for (int64_t j = 0; j < half; ++j) {
        for (int64_t k = 0; k < half; ++k) {
          const double rr = at(a + j, b + k), ii = at(a + j + half, b + k + half);
          const double ri = at(a + j, b + k + half), ir = at(a + j + half, b + k);
          double c, s;
          mean(frequency[j] - frequency[k], &c, &s);
          const double same_re = c * (rr + ii) - s * (ir - ri),
                       same_im = c * (ir - ri) + s * (rr + ii);
          mean(frequency[j] + frequency[k], &c, &s);
          const double both_re = c * (rr - ii) - s * (ir + ri),
                       both_im = c * (ir + ri) + s * (rr - ii);
          rotated[(a + j) * n + b + k] = (same_re + both_re) / 2;
          rotated[(a + j + half) * n + b + k + half] = (same_re - both_re) / 2;
          rotated[(a + j + half) * n + b + k] = (both_im + same_im) / 2;
          rotated[(a + j) * n + b + k + half] = (both_im - same_im) / 2;
        }
      }
    }
  }
  return rotated;
}

}  // namespace

std::vector<double> SecondMoment(const TensorSource& source, MomentSource from,
                                 bool beyond_prefix) {
  if (from == MomentSource::kText) {
    LORC_CHECK(source.statistics != nullptr);
    return source.Of(beyond_prefix ? source.statistics->far : source.statistics->all);
  }
  std::vector<double> scale(source.config->hidden_size, 1.0);
  if (from == MomentSource::kGain) {
    const std::vector<float> gain = source.read(TensorRole::kAttentionNorm);
    scale.assign(gain.begin(), gain.end());
  }
  if (from == MomentSource::kInputs) {
    LORC_CHECK(source.statistics != nullptr);
    for (size_t i = 0; i < scale.size(); ++i) scale[i] = std::sqrt(source.statistics->inputs[i]);
  }
  std::vector<double> moment = OfWeight(source, scale);
  return source.rotated() ? MeanRotated(*source.config, source.anchor, moment) : moment;
}

}  // namespace lorc
