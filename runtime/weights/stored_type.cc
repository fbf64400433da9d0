#include "runtime/weights/stored_type.h"

#include <bit>
#include <cstring>

#include "kernels/base/dtype.h"
#include "runtime/weights/checked_math.h"

static_assert(std::endian::native == std::endian::little, "checkpoint files are little-endian");

namespace lorc {
namespace {

constexpr int64_t kQuantBlock = 32;

template <typename T>
T Load(const std::byte* source) {
  T value;
  std::memcpy(&value, source, sizeof(T));
  return value;
}

// Without branches, so that the compiler can vectorise the loop around it. Shifted into binary32's
// place, exponent and mantissa stand for the value divided by 2^112 (the difference of the two
// exponent biases), also where the half is subnormal; infinity and NaN get their exponent back.
inline float HalfToFloat(uint16_t half) {
  const uint32_t shifted = static_cast<uint32_t>(half & 0x7fffu) << 13;
  const uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(shifted) * 0x1p112f);
  const uint32_t special = shifted >= 0x0f800000u ? 0x7f800000u : 0u;
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  return std::bit_cast<float>(sign | scaled | special);
}

void FromHalf(const std::byte* source, int64_t elements, float* out) {
  for (int64_t i = 0; i < elements; ++i) out[i] = HalfToFloat(Load<uint16_t>(source + 2 * i));
}

void FromBf16(const std::byte* source, int64_t elements, float* out) {
  for (int64_t i = 0; i < elements; ++i) out[i] = Bf16ToF32(Load<bf16_t>(source + 2 * i));
}

void FromQ8(const std::byte* source, int64_t elements, float* out) {
  for (int64_t i = 0; i < elements; i += kQuantBlock, source += 2 + kQuantBlock) {
    const float scale = HalfToFloat(Load<uint16_t>(source));
    for (int64_t j = 0; j < kQuantBlock; ++j)
      out[i + j] = scale * static_cast<float>(std::to_integer<int8_t>(source[2 + j]));
  }
}

void FromQ4(const std::byte* source, int64_t elements, float* out, bool has_minimum) {
  const int64_t header = has_minimum ? 4 : 2;
  for (int64_t i = 0; i < elements; i += kQuantBlock, source += header + kQuantBlock / 2) {
    const float scale = HalfToFloat(Load<uint16_t>(source));
    const float minimum = has_minimum ? HalfToFloat(Load<uint16_t>(source + 2)) : 0.0f;
    const int zero = has_minimum ? 0 : 8;
    for (int64_t j = 0; j < kQuantBlock / 2; ++j) {
      const int pair = std::to_integer<int>(source[header + j]);
      out[i + j] = scale * static_cast<float>((pair & 15) - zero) + minimum;
      out[i + j + kQuantBlock / 2] = scale * static_cast<float>((pair >> 4) - zero) + minimum;
    }
  }
}

}  // namespace

int64_t BlockElements(StoredType type) {
  switch (type) {
    case StoredType::kF32:
    case StoredType::kF16:
    case StoredType::kBf16:
      return 1;
    case StoredType::kQ8_0:
    case StoredType::kQ4_0:
    case StoredType::kQ4_1:
      return kQuantBlock;
  }
  return 1;
}

int64_t BlockBytes(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return 4;
    case StoredType::kF16:
    case StoredType::kBf16:
      return 2;
    case StoredType::kQ8_0:
      return 2 + kQuantBlock;
    case StoredType::kQ4_0:
      return 2 + kQuantBlock / 2;
    case StoredType::kQ4_1:
      return 4 + kQuantBlock / 2;
  }
  return 0;
}

const char* Name(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return "F32";
    case StoredType::kF16:
      return "F16";
    case StoredType::kBf16:
      return "BF16";
    case StoredType::kQ8_0:
      return "Q8_0";
    case StoredType::kQ4_0:
      return "Q4_0";
    case StoredType::kQ4_1:
      return "Q4_1";
  }
  return "";
}

std::optional<int64_t> StoredBytes(StoredType type, int64_t elements) {
  if (elements < 0 || elements % BlockElements(type) != 0) return std::nullopt;
  return CheckedMultiply(elements / BlockElements(type), BlockBytes(type));
}

void Dequantize(StoredType type, const std::byte* source, int64_t elements, float* out) {
  switch (type) {
    case StoredType::kF32:
      if (elements > 0) std::memcpy(out, source, static_cast<size_t>(elements) * sizeof(float));
      return;
    case StoredType::kF16:
      return FromHalf(source, elements, out);
    case StoredType::kBf16:
      return FromBf16(source, elements, out);
    case StoredType::kQ8_0:
      return FromQ8(source, elements, out);
    case StoredType::kQ4_0:
      return FromQ4(source, elements, out, false);
    case StoredType::kQ4_1:
      return FromQ4(source, elements, out, true);
  }
}

}  // namespace lorc
