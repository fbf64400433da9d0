#include "runtime/compress/head_grouping.h"

#include <algorithm>
#include <cmath>

namespace lorc {

std::vector<double> HeadSimilarity(const std::vector<double>& moment, int32_t num_kv_heads,
                                   int32_t head_dim) {
  const int64_t g = num_kv_heads;
  const int64_t d = head_dim;
  const int64_t n = g * d;
  std::vector<double> squares(g * g, 0.0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const double value = moment[std::min(i, j) * n + std::max(i, j)];
      squares[i / d * g + j / d] += value * value;
    }
  }
  std::vector<double> similarity(g * g);
  for (int64_t a = 0; a < g; ++a) {
    for (int64_t b = 0; b < g; ++b) {
      const double size = std::sqrt(squares[a * g + a] * squares[b * g + b]);
      similarity[a * g + b] = size > 0 ? squares[a * g + b] / size : 0.0;
    }
  }
  return similarity;
}

std::vector<int32_t> SimilarHeadsTogether(const std::vector<double>& similarity, int32_t groups) {
  const auto g = static_cast<int32_t>(std::lround(std::sqrt(similarity.size())));
  const int32_t size = g / groups;
  std::vector<int32_t> order;
  std::vector<bool> taken(g, false);
  const auto take = [&](int32_t head) {
    order.push_back(head);
    taken[head] = true;
  };
  while (std::ssize(order) < g) {
    const auto group = static_cast<int64_t>(order.size());
    int32_t first = -1;
    double best = -1;
    for (int32_t a = 0; a < g; ++a) {
      for (int32_t b = 0; b < g && !taken[a]; ++b) {
        if (a == b || (taken[b] && size > 1)) continue;
        if (similarity[a * g + b] > best) {
          best = similarity[a * g + b];
          first = a;
        }
      }
    }
    if (first < 0)
      first = static_cast<int32_t>(std::find(taken.begin(), taken.end(), false) - taken.begin());
    take(first);
    while (std::ssize(order) < group + size) {
      int32_t next = -1;
      double nearest = -1;
      for (int32_t head = 0; head < g; ++head) {
        if (taken[head]) continue;
        double sum = 0;
        for (int64_t i = group; i < std::ssize(order); ++i) sum += similarity[head * g + order[i]];
        if (sum > nearest) {
          nearest = sum;
          next = head;
        }
      }
      take(next);
    }
  }
  return order;
}

}  // namespace lorc
