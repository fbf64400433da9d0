#include "runtime/compress/correlation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/base/check.h"

namespace lorc {
namespace {

std::optional<double> Pearson(const std::vector<double>& x, const std::vector<double>& y) {
  const auto n = static_cast<double>(x.size());
  const double mean_x = std::accumulate(x.begin(), x.end(), 0.0) / n;
  const double mean_y = std::accumulate(y.begin(), y.end(), 0.0) / n;
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double dx = x[i] - mean_x, dy = y[i] - mean_y;
    xy += dx * dy;
    xx += dx * dx;
    yy += dy * dy;
  }
  if (!(xx > 0) || !(yy > 0)) return std::nullopt;
  return std::clamp(xy / std::sqrt(xx) / std::sqrt(yy), -1.0, 1.0);
}

std::vector<double> Ranks(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    const double mean = static_cast<double>(begin + end - 1) / 2;
    for (; begin < end; ++begin) ranks[order[begin]] = mean;
  }
  return ranks;
}

}  // namespace

Correlation Correlate(std::span<const double> x, std::span<const double> y) {
  LORC_CHECK_EQ(x.size(), y.size());
  std::vector<double> finite_x, finite_y;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) continue;
    finite_x.push_back(x[i]);
    finite_y.push_back(y[i]);
  }
  Correlation correlation;
  correlation.num_points = static_cast<int32_t>(finite_x.size());
  if (correlation.num_points < kLeastCorrelationPoints) return correlation;
  correlation.pearson = Pearson(finite_x, finite_y);
  correlation.spearman = Pearson(Ranks(finite_x), Ranks(finite_y));
  return correlation;
}

}  // namespace lorc
