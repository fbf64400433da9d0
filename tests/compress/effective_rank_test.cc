#include "runtime/compress/effective_rank.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace lorc {
namespace {

TEST(EffectiveRankTest, OfSpectraThatAreKnown) {
  const auto rank = [](const std::vector<double>& energies) { return EffectiveRank(energies); };
  EXPECT_NEAR(rank({4, 4, 4, 4, 4}), 5, 1e-12);
  EXPECT_NEAR(rank({7, 0, 0}), 1, 1e-12);
  EXPECT_NEAR(rank({9, 9, 0, -1e-18}), 2, 1e-12);  // rounding below zero is zero
  EXPECT_EQ(rank({0, 0}), 0);
  // s = 2, 1, 1: p = 1/2, 1/4, 1/4, entropy = 3/2 ln 2. Of singular values, not of energies.
  EXPECT_NEAR(rank({4, 1, 1}), std::pow(2.0, 1.5), 1e-12);
}

TEST(EffectiveRankTest, DoesNotDependOnScaleOrOrder) {
  const std::vector<double> some = {9, 4, 1, 0.25};
  EXPECT_NEAR(EffectiveRank(std::vector<double>{0.25e-20, 4e-20, 9e-20, 1e-20}),
              EffectiveRank(some), 1e-12);
}

}  // namespace
}  // namespace lorc
