#include "kernels/reference/reference_ops.h"

#include <algorithm>
#include <cmath>

namespace lorc::reference {
namespace {

template <typename Term>
std::vector<double> SumTerms(int64_t num_rows, int64_t columns, int64_t outputs, const Term& term) {
  std::vector<double> y(num_rows * outputs);
  for (int64_t t = 0; t < num_rows; ++t) {
    for (int64_t n = 0; n < outputs; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < columns; ++k) sum += term(t * columns + k, n * columns + k);
      y[t * outputs + n] = sum;
    }
  }
  return y;
}

}  // namespace

std::vector<double> Linear(const std::vector<float>& x, const std::vector<float>& w,
                           int64_t num_rows, int64_t columns, int64_t outputs) {
  return SumTerms(num_rows, columns, outputs,
                  [&](int64_t i, int64_t j) { return static_cast<double>(x[i]) * w[j]; });
}

std::vector<double> LinearMagnitude(const std::vector<float>& x, const std::vector<float>& w,
                                    int64_t num_rows, int64_t columns, int64_t outputs) {
  return SumTerms(num_rows, columns, outputs,
                  [&](int64_t i, int64_t j) { return std::abs(static_cast<double>(x[i]) * w[j]); });
}

std::vector<double> RmsNorm(const std::vector<float>& x, const std::vector<float>& gain,
                            int64_t num_rows, int64_t width, double epsilon) {
  std::vector<double> out(num_rows * width);
  for (int64_t t = 0; t < num_rows; ++t) {
    double squares = 0;
    for (int64_t k = 0; k < width; ++k) {
      squares += static_cast<double>(x[t * width + k]) * x[t * width + k];
    }
    const double factor = 1.0 / std::sqrt(squares / static_cast<double>(width) + epsilon);
    for (int64_t k = 0; k < width; ++k) out[t * width + k] = x[t * width + k] * factor * gain[k];
  }
  return out;
}

double LogSumExp(const float* logits, int64_t width) {
  const double top = *std::max_element(logits, logits + width);
  double sum = 0;
  for (int64_t v = 0; v < width; ++v) sum += std::exp(logits[v] - top);
  return top + std::log(sum);
}

void Rotate(double* head, int64_t head_dim, double position,
            const std::vector<double>& inverse_frequency) {
  const int64_t half = head_dim / 2;
  for (int64_t j = 0; j < half; ++j) {
    const double angle = position * inverse_frequency[j];
    const double a = head[j];
    const double b = head[j + half];
    head[j] = a * std::cos(angle) - b * std::sin(angle);
    head[j + half] = b * std::cos(angle) + a * std::sin(angle);
  }
}

std::vector<double> Attend(const std::vector<double>& query, const std::vector<double>& keys,
                           const std::vector<double>& values, int64_t num_keys, int64_t head_dim) {
  std::vector<double> scores(num_keys);
  for (int64_t n = 0; n < num_keys; ++n) {
    double dot = 0;
    for (int64_t i = 0; i < head_dim; ++i) dot += query[i] * keys[n * head_dim + i];
    scores[n] = dot / std::sqrt(static_cast<double>(head_dim));
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  std::vector<double> out(head_dim, 0.0);
  for (int64_t n = 0; n < num_keys; ++n) {
    const double weight = std::exp(scores[n] - top);
    total += weight;
    for (int64_t i = 0; i < head_dim; ++i) out[i] += weight * values[n * head_dim + i];
  }
  for (double& value : out) value /= total;
  return out;
}

}  // namespace lorc::reference
