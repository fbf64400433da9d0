#include "runtime/compress/orthogonal_mix.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lorc {
namespace {

class OrthogonalMixTest : public testing::TestWithParam<int32_t> {};

TEST_P(OrthogonalMixTest, IsOrthogonal) {
  const int32_t width = GetParam();
  const std::vector<double> mix = OrthogonalMix(width, 7);
  for (int32_t a = 0; a < width; ++a) {
    for (int32_t b = 0; b < width; ++b) {
      double product = 0;
      for (int32_t i = 0; i < width; ++i) product += mix[a * width + i] * mix[b * width + i];
      EXPECT_NEAR(product, a == b ? 1.0 : 0.0, 1e-12 * width) << a << ", " << b;
    }
  }
}

// Every number is spread over all: no entry carries more than twice its even share.
TEST_P(OrthogonalMixTest, SpreadsEveryNumber) {
  const int32_t width = GetParam();
  for (const double entry : OrthogonalMix(width, 7)) {
    EXPECT_LE(entry * entry, 2.0 / width + 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(Widths, OrthogonalMixTest,
                         testing::Values(8, 16, 24, 32, 40, 56, 64, 72, 128));

TEST(OrthogonalMixTest, DependsOnTheSeedAlone) {
  EXPECT_EQ(OrthogonalMix(32, 1), OrthogonalMix(32, 1));
  EXPECT_NE(OrthogonalMix(32, 1), OrthogonalMix(32, 2));
}

}  // namespace
}  // namespace lorc
