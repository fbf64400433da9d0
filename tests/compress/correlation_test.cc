#include "runtime/compress/correlation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace lorc {
namespace {

using Values = std::vector<double>;

// x: mean 3, deviations -2 -1 0 1 2, squares 10. y: mean 4, deviations -3 0 -2 1 4, squares 30.
// Products 6 + 0 + 0 + 1 + 8 = 15, so r = 15 / sqrt(300). Ranks of y: 0 2 1 3 4, so
// rho = 1 - 6 (0 + 1 + 1 + 0 + 0) / (5 * 24) = 0.9.
TEST(CorrelationTest, AsByHand) {
  const Correlation correlation = Correlate(Values{1, 2, 3, 4, 5}, Values{1, 4, 2, 5, 8});
  EXPECT_EQ(correlation.num_points, 5);
  EXPECT_NEAR(correlation.pearson.value(), 15 / std::sqrt(300.0), 1e-12);
  EXPECT_NEAR(correlation.spearman.value(), 0.9, 1e-12);
}

// Ranks of x: 0, 1.5, 1.5, 3, 4 (deviations -2, -.5, -.5, 1, 2: squares 9.5), of y: 0 1 2 3 4
// (squares 10); products 4 + 0.5 + 0 + 1 + 4 = 9.5.
TEST(CorrelationTest, EqualValuesShareTheirRank) {
  const Correlation correlation = Correlate(Values{1, 2, 2, 3, 9}, Values{1, 2, 3, 4, 5});
  EXPECT_NEAR(correlation.spearman.value(), 9.5 / std::sqrt(95.0), 1e-12);
}

TEST(CorrelationTest, OrderCountsForSpearmanAlone) {
  const Correlation correlation =
      Correlate(Values{1, 2, 3, 4, 5, 6}, Values{-1, -10, -100, -1000, -10000, -100000});
  EXPECT_DOUBLE_EQ(correlation.spearman.value(), -1);
  EXPECT_GT(correlation.pearson.value(), -0.9);
}

TEST(CorrelationTest, SaysNothingOfTooLittle) {
  const Correlation few = Correlate(Values{1, 2, 3, 4}, Values{1, 2, 3, 4});
  EXPECT_EQ(few.num_points, 4);
  EXPECT_FALSE(few.pearson.has_value());
  EXPECT_FALSE(few.spearman.has_value());
  const Correlation flat = Correlate(Values{1, 2, 3, 4, 5}, Values{7, 7, 7, 7, 7});
  EXPECT_EQ(flat.num_points, 5);
  EXPECT_FALSE(flat.pearson.has_value());
  EXPECT_FALSE(flat.spearman.has_value());
  EXPECT_EQ(Correlate({}, {}).num_points, 0);
}

TEST(CorrelationTest, LeavesOutWhatIsNotFinite) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const Correlation correlation =
      Correlate(Values{1, kInfinity, 2, 3, 4, 5, 6}, Values{2, 1, 4, 6, 8, 10, std::nan("")});
  EXPECT_EQ(correlation.num_points, 5);
  EXPECT_NEAR(correlation.pearson.value(), 1, 1e-12);
}

}  // namespace
}  // namespace lorc
