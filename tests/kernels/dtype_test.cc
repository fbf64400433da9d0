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

TEST(DtypeTest, EveryFp8SurvivesARoundTrip) {
  for (int bits = 0; bits <= 0xff; ++bits) {
    const float value = Fp8ToF32(static_cast<fp8_t>(bits));
    if ((bits & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_TRUE(std::isnan(Fp8ToF32(F32ToFp8(value))));
      continue;
    }
    EXPECT_EQ(F32ToFp8(value), bits);
    // By definition: exponents of bias 7, subnormal where they are 0.
    const int exponent = bits >> 3 & 15;
    const double expected =
        exponent == 0 ? std::ldexp(bits & 7, -9) : std::ldexp(8 + (bits & 7), exponent - 10);
    EXPECT_EQ(value, bits < 0x80 ? expected : -expected);
  }
}

TEST(DtypeTest, Fp8RoundsToNearestEvenAndSaturates) {
  for (int bits = 0; bits < 0x7e; ++bits) {
    const float low = Fp8ToF32(static_cast<fp8_t>(bits));
    const float high = Fp8ToF32(static_cast<fp8_t>(bits + 1));
    const float middle = 0.5f * (low + high);
    EXPECT_EQ(F32ToFp8(middle), bits % 2 == 0 ? bits : bits + 1);
    EXPECT_EQ(F32ToFp8(std::nextafter(middle, low)), bits);
    EXPECT_EQ(F32ToFp8(std::nextafter(middle, high)), bits + 1);
    EXPECT_EQ(F32ToFp8(-middle), 0x80 | (bits % 2 == 0 ? bits : bits + 1));
  }
  EXPECT_EQ(Fp8ToF32(F32ToFp8(449.0f)), 448.0f);
  EXPECT_EQ(Fp8ToF32(F32ToFp8(-1e30f)), -448.0f);
  EXPECT_TRUE(std::isnan(Fp8ToF32(F32ToFp8(std::numeric_limits<float>::infinity()))));
  EXPECT_TRUE(std::isnan(Fp8ToF32(F32ToFp8(std::numeric_limits<float>::quiet_NaN()))));
}

}  // namespace
}  // namespace lorc
