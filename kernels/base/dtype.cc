#include "kernels/base/dtype.h"

namespace lorc {

float F16ToF32(f16_t value) {
  const uint32_t sign = static_cast<uint32_t>(value & 0x8000u) << 16;
  const uint32_t exponent = (value >> 10) & 0x1fu;
  const uint32_t mantissa = value & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  // Subnormal: mantissa * 2^-24, exact in binary32.
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

f16_t F32ToF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<f16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<f16_t>(sign | 0x7c00u);  // 65520 and above
  if (magnitude < 0x38800000u) {  // below 2^-14: subnormal, in units of 2^-24
    // Adding 0.5 aligns the mantissa so that the hardware rounds to a multiple of 2^-24.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<f16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<f16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

float Fp8ToF32(fp8_t value) {
  const uint32_t magnitude = value & 0x7fu;
  if (magnitude == 0x7f) return std::bit_cast<float>(uint32_t{value} << 24 | 0x7fc00000u);
  // As binary16, whose exponents are biased by 8 more: subnormals come right as well.
  const uint32_t half = (uint32_t{value} & 0x80u) << 8 | magnitude << 7;
  return F16ToF32(static_cast<f16_t>(half)) * 256.0f;
}

fp8_t F32ToFp8(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 24) & 0x80u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x7f800000u) return static_cast<fp8_t>(sign | 0x7fu);
  if (magnitude >= 0x43e00000u) return static_cast<fp8_t>(sign | 0x7eu);  // 448 and above
  if (magnitude < 0x3c800000u) {  // below 2^-6: in units of 2^-9, 8 being the least normal number
    // Adding 2^14 aligns the mantissa so that the hardware rounds to a multiple of 2^-9.
    const float shifted = std::bit_cast<float>(magnitude) + 16384.0f;
    return static_cast<fp8_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x46800000u));
  }
  const uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
  return static_cast<fp8_t>(sign | ((rounded - 0x3c000000u) >> 20));
}

}  // namespace lorc
