#include "kernels/base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace lorc {
namespace {

TEST(DtypeTest, EveryHalfSurvivesARoundTrip) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float value = F16ToF32(static_cast<f16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(value))));
    } else {
      EXPECT_EQ(F32ToF16(value), bits);
    }
  }
}

TEST(DtypeTest, HalfRoundsToNearestEven) {
  // Between neighbours 1 and 1 + 2^-10 the midpoint goes to the even mantissa, and anything beyond
  // it upwards.
  EXPECT_EQ(F16ToF32(F32ToF16(1.0f + 0x1p-11f)), 1.0f);
  EXPECT_EQ(F16ToF32(F32ToF16(1.0f + 0x1p-11f + 0x1p-20f)), 1.0f + 0x1p-10f);
  EXPECT_EQ(F16ToF32(F32ToF16(1.0f + 3 * 0x1p-11f)), 1.0f + 2 * 0x1p-10f);
  EXPECT_EQ(F16ToF32(F32ToF16(0x1p-25f)), 0.0f);
  EXPECT_EQ(F16ToF32(F32ToF16(0x1.8p-25f)), 0x1p-24f);
  EXPECT_EQ(F16ToF32(F32ToF16(65519.0f)), 65504.0f);
  EXPECT_TRUE(std::isinf(F16ToF32(F32ToF16(65520.0f))));
}

TEST(DtypeTest, Bf16RoundsToNearestEven) {
  EXPECT_EQ(Bf16ToF32(F32ToBf16(1.0f + 0x1p-8f)), 1.0f);
  EXPECT_EQ(Bf16ToF32(F32ToBf16(1.0f + 3 * 0x1p-8f)), 1.0f + 2 * 0x1p-7f);
  EXPECT_TRUE(std::isinf(Bf16ToF32(F32ToBf16(std::numeric_limits<float>::max()))));
  EXPECT_TRUE(std::isnan(Bf16ToF32(F32ToBf16(std::numeric_limits<float>::quiet_NaN()))));
}

}  // namespace
}  // namespace lorc
