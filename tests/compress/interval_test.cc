#include "runtime/compress/interval.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace lorc {
namespace {

// Published tables of Student's t, two-sided 95 %, rounded to three decimals.
TEST(Interval, StudentQuantilesAreThoseOfTheTables) {
  EXPECT_NEAR(StudentQuantile(1), 12.706, 5e-4);
  EXPECT_NEAR(StudentQuantile(2), 4.303, 5e-4);
  EXPECT_NEAR(StudentQuantile(3), 3.182, 5e-4);
  EXPECT_NEAR(StudentQuantile(7), 2.365, 5e-4);
  EXPECT_NEAR(StudentQuantile(10), 2.228, 5e-4);
  EXPECT_NEAR(StudentQuantile(30), 2.042, 5e-4);
  EXPECT_NEAR(StudentQuantile(120), 1.980, 5e-4);
  EXPECT_NEAR(StudentQuantile(1'000'000), 1.960, 5e-4);
  // Closed forms: tan(0.95 pi / 2), and p sqrt(2 / (1 - p^2)).
  EXPECT_NEAR(StudentQuantile(1), std::tan(0.95 * M_PI / 2), 1e-9);
  EXPECT_NEAR(StudentQuantile(2), 0.95 * std::sqrt(2 / (1 - 0.95 * 0.95)), 1e-9);
}

// Differences 1, 2, 3, 6: mean 3, s^2 = (4 + 1 + 0 + 9) / 3, t(3) = 3.18245.
TEST(Interval, OfPairedDifferences) {
  const std::vector<double> a = {10, 20, 30, 40};
  const std::vector<double> b = {11, 22, 33, 46};
  const Estimate estimate = MeanDifference(a, b);
  EXPECT_DOUBLE_EQ(estimate.value, 3);
  ASSERT_TRUE(estimate.interval.has_value());
  const double half = 3.182446305 * std::sqrt(14.0 / 3) / 2;
  EXPECT_NEAR(estimate.interval->low, 3 - half, 1e-8);
  EXPECT_NEAR(estimate.interval->high, 3 + half, 1e-8);
}

TEST(Interval, OneDifferenceHasNoSpread) {
  const Estimate estimate = MeanDifference(std::vector<double>{1.0}, std::vector<double>{1.5});
  EXPECT_EQ(estimate.value, 0.5);
  EXPECT_FALSE(estimate.interval.has_value());
}

TEST(Interval, OfEqualDifferencesIsThatDifference) {
  const std::vector<double> a = {1, 2, 3};
  const Estimate estimate = MeanDifference(a, a);
  EXPECT_EQ(estimate.value, 0);
  EXPECT_EQ(estimate.interval, (Interval{0, 0}));
}

// 15 of 20: (0.75 + 0.096036 +- 1.96 sqrt(0.009375 + 0.0024009)) / 1.19207, worked out by hand;
// 0 of n: [0, z^2 / (n + z^2)].
TEST(Interval, OfAShare) {
  const Estimate most = Share(15, 20);
  EXPECT_DOUBLE_EQ(most.value, 0.75);
  EXPECT_NEAR(most.interval->low, 0.5313, 5e-5);
  EXPECT_NEAR(most.interval->high, 0.8881, 5e-5);
  const double z2 = 1.959963984540054 * 1.959963984540054;
  EXPECT_EQ(Share(0, 10).interval->low, 0);
  EXPECT_NEAR(Share(0, 10).interval->high, z2 / (10 + z2), 1e-12);
  EXPECT_NEAR(Share(10, 10).interval->low, 10 / (10 + z2), 1e-12);
  EXPECT_NEAR(Share(10, 10).interval->high, 1, 1e-12);
}

// b = 5.5, c = 2.5, N = 102: 3/102 +- 1.96 sqrt(8 - 9/102) / 102.
TEST(Interval, OfADifferenceOfShares) {
  const Estimate estimate = ShareDifference(5, 2, 100);
  EXPECT_DOUBLE_EQ(estimate.value, 0.03);
  const double half = 1.959963984540054 * std::sqrt(8 - 9.0 / 102) / 102;
  EXPECT_NEAR(estimate.interval->low, 3.0 / 102 - half, 1e-12);
  EXPECT_NEAR(estimate.interval->high, 3.0 / 102 + half, 1e-12);
  // No difference seen on one question is no certainty.
  const Estimate same = ShareDifference(0, 0, 1);
  EXPECT_EQ(same.value, 0);
  EXPECT_LT(same.interval->low, -0.5);
  EXPECT_GT(same.interval->high, 0.5);
}

}  // namespace
}  // namespace lorc
