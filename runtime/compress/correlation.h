// Whether one number tells of another.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace lorc {

// With fewer points even a perfect order is chance more often than one time in twenty: of n! orders
// two are perfect, and 2/4! = 0.083, 2/5! = 0.017.
inline constexpr int32_t kLeastCorrelationPoints = 5;

struct Correlation {
  int32_t num_points = 0;  // whose x and y are finite; others do not count
  // None with fewer than kLeastCorrelationPoints, or where x or y is the same for all.
  std::optional<double> pearson;   // of the values
  std::optional<double> spearman;  // of their ranks; equal values share the mean of theirs
};

// x.size() == y.size().
Correlation Correlate(std::span<const double> x, std::span<const double> y);

}  // namespace lorc
