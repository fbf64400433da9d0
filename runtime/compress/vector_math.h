// Loops over rows of floats that the compiler turns into vector code: sums run in 16 lanes whose
// order is fixed, exponentials are a polynomial.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace lorc {

inline constexpr int64_t kLanes = 16;

// e^x for x <= 88, within 2 units in the last place; 0 below -87 (float's normal numbers end
// there). NaN where x is not finite.
inline float ExpOf(float x) {
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
  return (x < -87.0f ? 0.0f : scaled) + (x - x);
}

inline float Sigmoid(float x) { return 1.0f / (1.0f + ExpOf(std::min(-x, 87.0f))); }

// term(i) summed over [0, count).
template <typename Sum, typename Term>
Sum SumOf(int64_t count, const Term& term) {
  Sum lanes[kLanes] = {};
  const int64_t whole = count - count % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] += term(i + j);
  }
  for (int64_t i = whole; i < count; ++i) lanes[i - whole] += term(i);
  Sum sum = 0;
  for (const Sum lane : lanes) sum += lane;
  return sum;
}

// The largest of x[0, count), count > 0. A NaN may be passed over.
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

// Whether all of x[0, count) are finite: zero times a finite number is zero, anything else shows.
inline bool AllFinite(const float* x, int64_t count) {
  return SumOf<float>(count, [x](int64_t i) { return x[i] * 0.0f; }) == 0.0f;
}

}  // namespace lorc
