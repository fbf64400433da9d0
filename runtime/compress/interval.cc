#include "runtime/compress/interval.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/base/check.h"

namespace lorc {
namespace {

constexpr double kNormalQuantile = 1.959963984540054;

// P(|T| < sqrt(degrees) tan(angle)): Abramowitz and Stegun 26.7.3 and 26.7.4, which are finite.
double StudentProbability(int64_t degrees, double angle) {
  const double cosine = std::cos(angle);
  const double sine = std::sin(angle);
  const bool odd = degrees % 2 == 1;
  double term = odd ? cosine : 1.0;
  double sum = degrees == 1 ? 0.0 : term;
  for (int64_t k = odd ? 3 : 2; k < degrees; k += 2) {
    term *= static_cast<double>(k - 1) / static_cast<double>(k) * cosine * cosine;
    sum += term;
  }
  return odd ? 2 / std::numbers::pi * (angle + sine * sum) : sine * sum;
}

}  // namespace

double StudentQuantile(int64_t degrees) {
  LORC_CHECK_GE(degrees, 1);
  double low = 0;
  double high = std::numbers::pi / 2;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (StudentProbability(degrees, middle) < 0.95 ? low : high) = middle;
  }
  return std::sqrt(static_cast<double>(degrees)) * std::tan(low);
}

Estimate MeanDifference(std::span<const double> a, std::span<const double> b) {
  LORC_CHECK_EQ(a.size(), b.size());
  LORC_CHECK(!a.empty());
  const auto n = static_cast<double>(a.size());
  Estimate estimate;
  for (size_t i = 0; i < a.size(); ++i) estimate.value += (b[i] - a[i]) / n;
  if (a.size() < 2) return estimate;
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double deviation = b[i] - a[i] - estimate.value;
    squares += deviation * deviation;
  }
  const double half = StudentQuantile(std::ssize(a) - 1) * std::sqrt(squares / (n - 1) / n);
  estimate.interval = {estimate.value - half, estimate.value + half};
  return estimate;
}

Estimate Share(int64_t successes, int64_t n) {
  LORC_CHECK(0 <= successes && successes <= n && n > 0);
  const auto count = static_cast<double>(n);
  const double p = static_cast<double>(successes) / count;
  const double z2 = kNormalQuantile * kNormalQuantile;
  const double middle = p + z2 / (2 * count);
  const double half = kNormalQuantile * std::sqrt(p * (1 - p) / count + z2 / (4 * count * count));
  const double scale = 1 + z2 / count;
  return {p,
          Interval{std::max(0.0, (middle - half) / scale), std::min(1.0, (middle + half) / scale)}};
}

Estimate ShareDifference(int64_t gained, int64_t lost, int64_t n) {
  LORC_CHECK(gained >= 0 && lost >= 0 && gained + lost <= n && n > 0);
  const double b = static_cast<double>(gained) + 0.5;
  const double c = static_cast<double>(lost) + 0.5;
  const double count = static_cast<double>(n) + 2;
  const double middle = (b - c) / count;
  const double half = kNormalQuantile * std::sqrt(b + c - (b - c) * (b - c) / count) / count;
  return {static_cast<double>(gained - lost) / static_cast<double>(n),
          Interval{std::max(-1.0, middle - half), std::min(1.0, middle + half)}};
}

}  // namespace lorc
