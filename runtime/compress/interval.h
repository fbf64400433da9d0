// 95 % confidence intervals of what an evaluation measures.
//
// Paired: two models that read the same texts differ by d_i on text i. With m = mean of d and
// s^2 = sum (d_i - m)^2 / (n - 1), the interval of the expected difference is
//   m +- t(0.975, n - 1) s / sqrt(n)                                          (Student)
// which needs no assumption about how hard the texts are, only that the d_i are independent.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace lorc {

struct Interval {
  double low = 0;
  double high = 0;

  bool operator==(const Interval&) const = default;
};

struct Estimate {
  double value = 0;
  std::optional<Interval> interval;  // none where one observation says nothing about the spread
};

// t with P(|T| < t) = 0.95 for `degrees` of freedom, at least 1.
double StudentQuantile(int64_t degrees);

// The mean of b_i - a_i. a.size() == b.size() > 0.
Estimate MeanDifference(std::span<const double> a, std::span<const double> b);

// A share of n > 0 (Wilson, 1927): with z = 1.96 and p = successes / n,
//   (p + z^2/2n +- z sqrt(p (1 - p) / n + z^2/4n^2)) / (1 + z^2/n).
Estimate Share(int64_t successes, int64_t n);

// How much a share of n paired trials changes where `gained` trials succeed only the second time
// and `lost` only the first. The interval adds half a trial to each of the four outcomes (Agresti
// and Min, 2005): b = gained + 1/2, c = lost + 1/2, N = n + 2,
//   (b - c) / N +- z sqrt(b + c - (b - c)^2 / N) / N,
// so that equal answers on a few questions do not look like certainty.
Estimate ShareDifference(int64_t gained, int64_t lost, int64_t n);

}  // namespace lorc
