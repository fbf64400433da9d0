// Element types of weights and activations, and conversions of single values.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

namespace lorc {

enum class DType : uint8_t { kF32, kF16, kBf16, kInt8 };

constexpr int64_t ByteSize(DType type) {
  switch (type) {
    case DType::kF32:
      return 4;
    case DType::kF16:
      return 2;
    case DType::kBf16:
      return 2;
    case DType::kInt8:
      return 1;
  }
  return 0;
}

constexpr const char* Name(DType type) {
  switch (type) {
    case DType::kF32:
      return "f32";
    case DType::kF16:
      return "f16";
    case DType::kBf16:
      return "bf16";
    case DType::kInt8:
      return "int8";
  }
  return "";
}

// The type of that name; nothing where it is not one that weights can have.
constexpr std::optional<DType> DTypeFromName(std::string_view name) {
  for (const DType type : {DType::kF32, DType::kBf16, DType::kInt8}) {
    if (name == Name(type)) return type;
  }
  return std::nullopt;
}

using bf16_t = uint16_t;  // upper half of an IEEE binary32
using f16_t = uint16_t;   // IEEE binary16
using fp8_t = uint8_t;    // OCP e4m3fn: sign, 4 bits of exponent (bias 7), 3 of mantissa

inline float Bf16ToF32(bf16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

// Rounds to nearest even; NaN stays NaN.
inline bf16_t F32ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<bf16_t>((bits >> 16) | 0x40u);
  return static_cast<bf16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float F16ToF32(f16_t value);
// Rounds to nearest even; overflow gives infinity.
f16_t F32ToF16(float value);

float Fp8ToF32(fp8_t value);
// Rounds to nearest even; what is beyond +-448 gives +-448. NaN stays NaN, and so that it stays
// visible, an infinity becomes one.
fp8_t F32ToFp8(float value);

}  // namespace lorc
