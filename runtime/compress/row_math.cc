#include "runtime/compress/row_math.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace lorc {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kFloatSum = 1024;  // exponentials of a vocabulary that are summed in float32

// e^x for x <= 88, within 2 units in the last place; e^-87 below -87 (float's normal numbers end
// there). NaN where x is not finite.
inline float Exp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float clamped = std::max(x, -87.0f);
  const float rounded = clamped * 1.44269504f + kRound;
  const float n = rounded - kRound;
  // ln 2 in two parts, the first exact in products with |n| < 2^9.
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  // Cephes' expf: e^r on |r| <= ln(2) / 2.
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const uint32_t exponent = std::bit_cast<uint32_t>(rounded) - std::bit_cast<uint32_t>(kRound);
  const float scaled = std::bit_cast<float>(std::bit_cast<uint32_t>(p) + (exponent << 23));
  return scaled + (x - x);
}

inline float Sigmoid(float x) { return 1.0f / (1.0f + Exp(std::min(-x, 87.0f))); }

// term(i) summed over [0, count).
template <typename Term>
inline float SumOf(int64_t count, const Term& term) {
  float lanes[kLanes] = {};
  const int64_t whole = count - count % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] += term(i + j);
  }
  for (int64_t i = whole; i < count; ++i) lanes[i - whole] += term(i);
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// A NaN may be passed over.
inline float MaxOf(const float* x, int64_t count) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, x[0]);
  const int64_t whole = count - count % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  }
  float largest = lanes[0];
  for (const float lane : lanes) largest = std::max(largest, lane);
  for (int64_t i = whole; i < count; ++i) largest = std::max(largest, x[i]);
  return largest;
}

inline float InverseRms(float epsilon, int64_t width, const float* x) {
  const float square = SumOf(width, [x](int64_t i) { return x[i] * x[i]; });
  return 1.0f / std::sqrt(square / static_cast<float>(width) + epsilon);
}

}  // namespace

// Zero times a finite number is zero, anything else shows in the sum.
bool AllFinite(const float* x, int64_t count) {
  return SumOf(count, [x](int64_t i) { return x[i] * 0.0f; }) == 0.0f;
}

void Softmax(float scale, int64_t count, int64_t total, float* x) {
  const float largest = MaxOf(x, count);
  for (int64_t i = 0; i < count; ++i) x[i] = Exp((x[i] - largest) * scale);
  const float inverse = 1.0f / SumOf(count, [x](int64_t i) { return x[i]; });
  for (int64_t i = 0; i < count; ++i) x[i] *= inverse;
  std::fill(x + count, x + total, 0.0f);
}

void SoftmaxGradient(float scale, int64_t count, int64_t total, const float* p, float* gradient) {
  float* g = gradient;
  const float mean = SumOf(count, [p, g](int64_t i) { return p[i] * g[i]; });
  for (int64_t i = 0; i < count; ++i) g[i] = p[i] * (g[i] - mean) * scale;
  std::fill(g + count, g + total, 0.0f);
}

double Exponentials(int64_t count, float* x) {
  const float largest = MaxOf(x, count);
  double sum = 0;
  for (int64_t begin = 0; begin < count; begin += kFloatSum) {
    const int64_t length = std::min(kFloatSum, count - begin);
    float* piece = x + begin;
    for (int64_t i = 0; i < length; ++i) piece[i] = Exp(piece[i] - largest);
    sum += SumOf(length, [piece](int64_t i) { return piece[i]; });
  }
  return sum;
}

void RmsNorm(float epsilon, int64_t width, const float* gain, const float* x, float* y) {
  const float inverse = InverseRms(epsilon, width, x);
  for (int64_t i = 0; i < width; ++i) y[i] = x[i] * inverse * gain[i];
}

// y_i = g_i x_i r with r = (mean x^2 + e)^(-1/2), so dr/dx_i = -r^3 x_i / D and
// x'_i = r g_i y'_i - r^3 x_i / D sum_j g_j y'_j x_j.
void AddRmsNormGradient(float epsilon, int64_t width, const float* gain, const float* x,
                        const float* y_gradient, float* x_gradient) {
  const float r = InverseRms(epsilon, width, x);
  const float sum = SumOf(width, [=](int64_t i) { return gain[i] * y_gradient[i] * x[i]; });
  const float along = r * r * r * sum / static_cast<float>(width);
  for (int64_t i = 0; i < width; ++i) {
    x_gradient[i] += r * gain[i] * y_gradient[i] - along * x[i];
  }
}

void GatedSilu(int64_t count, const float* gate, const float* up, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = gate[i] * Sigmoid(gate[i]) * up[i];
}

// silu(x) = x s with s = sigmoid(x); silu'(x) = s + x s (1 - s).
void GatedSiluGradient(int64_t count, const float* out_gradient, float* gate, float* up) {
  for (int64_t i = 0; i < count; ++i) {
    const float s = Sigmoid(gate[i]);
    const float silu = gate[i] * s;
    gate[i] = out_gradient[i] * up[i] * (s + silu * (1.0f - s));
    up[i] = out_gradient[i] * silu;
  }
}

}  // namespace lorc
