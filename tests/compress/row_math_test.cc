#include "runtime/compress/row_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace lorc {
namespace {

// 2 units in the last place each; the sum is of 1,024 of them at most in float32, in 16 lanes.
constexpr double kExp = 2 * 0x1p-23;
constexpr double kSum = kExp + (1024 / 16 + 16) * 0x1p-24;

TEST(RowMathTest, ExponentialsOverTheirRange) {
  for (const int64_t count : {1, 15, 16, 17, 1024, 5000}) {
    std::vector<float> x(count);
    for (int64_t i = 0; i < count; ++i) x[i] = 3.0f - 87.0f * static_cast<float>(i) / 5000.0f;
    const std::vector<float> before = x;
    const double sum = Exponentials(count, x.data());
    double expected_sum = 0;
    for (int64_t i = 0; i < count; ++i) {
      const double expected = std::exp(static_cast<double>(before[i]) - before[0]);
      // The difference is rounded first.
      EXPECT_NEAR(x[i], expected, (kExp + 87 * 0x1p-24) * expected) << before[i];
      expected_sum += expected;
    }
    EXPECT_NEAR(sum, expected_sum, (kSum + 87 * 0x1p-24) * expected_sum);
  }
}

TEST(RowMathTest, SoftmaxAddsUpToOneAndLeavesNothingBeyond) {
  std::vector<float> x(40, 1000.0f);
  x[3] = 1008.0f;
  x[5] = -3e38f;
  Softmax(0.5f, 33, 40, x.data());
  const double sum = std::exp(4.0) + 31;
  EXPECT_NEAR(x[0], 1 / sum, 1e-6);
  EXPECT_NEAR(x[3], std::exp(4.0) / sum, 1e-6);
  EXPECT_LT(x[5], 1e-37);
  for (int i = 33; i < 40; ++i) EXPECT_EQ(x[i], 0) << i;
}

TEST(RowMathTest, WhatIsNotFiniteShows) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::nanf(""), infinity, -infinity}) {
    for (const int64_t place : {0, 7, 39}) {
      std::vector<float> x(40, 1.0f);
      EXPECT_TRUE(AllFinite(x.data(), 40));
      x[place] = bad;
      EXPECT_FALSE(AllFinite(x.data(), 40));
      std::vector<float> softmax = x;
      Softmax(1.0f, 40, 40, softmax.data());
      EXPECT_FALSE(AllFinite(softmax.data(), 40)) << bad << " at " << place;
      EXPECT_FALSE(std::isfinite(Exponentials(40, x.data()))) << bad << " at " << place;
    }
  }
}

}  // namespace
}  // namespace lorc
