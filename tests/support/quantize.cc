#include "tests/support/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/base/dtype.h"

namespace lorc::test {
namespace {

constexpr size_t kBlock = 32;

template <typename T>
void Append(std::string* bytes, T value) {
  char raw[sizeof(T)];
  std::memcpy(raw, &value, sizeof(T));
  bytes->append(raw, sizeof(T));
}

template <typename T>
T Take(std::string_view bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

// Appends a scale and returns what a reader will make of it.
float AppendHalf(std::string* bytes, float value) {
  const f16_t half = F32ToF16(value);
  Append(bytes, half);
  return F16ToF32(half);
}

int Nearest(float value, float scale, int lowest, int highest) {
  if (scale == 0.0f) return std::clamp(0, lowest, highest);
  return static_cast<int>(std::clamp(std::nearbyint(value / scale), static_cast<float>(lowest),
                                     static_cast<float>(highest)));
}

void AppendQ8(std::span<const float> block, std::string* bytes) {
  float largest = 0.0f;
  for (const float value : block) largest = std::max(largest, std::abs(value));
  const float scale = AppendHalf(bytes, largest / 127.0f);
  for (const float value : block)
    Append(bytes, static_cast<int8_t>(Nearest(value, scale, -127, 127)));
}

void AppendNibbles(std::span<const float> block, float scale, float minimum, int zero,
                   std::string* bytes) {
  for (size_t j = 0; j < kBlock / 2; ++j) {
    const int low = Nearest(block[j] - minimum, scale, -zero, 15 - zero) + zero;
    const int high = Nearest(block[j + kBlock / 2] - minimum, scale, -zero, 15 - zero) + zero;
    Append(bytes, static_cast<uint8_t>(low | (high << 4)));
  }
}

void AppendQ4(std::span<const float> block, bool has_minimum, std::string* bytes) {
  const auto [lowest, highest] = std::ranges::minmax(block);
  if (has_minimum) {
    const float scale = AppendHalf(bytes, (highest - lowest) / 15.0f);
    const float minimum = AppendHalf(bytes, lowest);
    AppendNibbles(block, scale, minimum, 0, bytes);
  } else {
    // The value of largest magnitude becomes -8, the one code without a counterpart.
    const float extreme = -lowest > highest ? lowest : highest;
    AppendNibbles(block, AppendHalf(bytes, extreme / -8.0f), 0.0f, 8, bytes);
  }
}

}  // namespace

std::string Quantize(StoredType type, std::span<const float> values) {
  std::string bytes;
  for (size_t i = 0; i < values.size(); i += static_cast<size_t>(BlockElements(type))) {
    switch (type) {
      case StoredType::kF32:
        Append(&bytes, values[i]);
        break;
      case StoredType::kF16:
        Append(&bytes, F32ToF16(values[i]));
        break;
      case StoredType::kBf16:
        Append(&bytes, F32ToBf16(values[i]));
        break;
      case StoredType::kQ8_0:
        AppendQ8(values.subspan(i, kBlock), &bytes);
        break;
      case StoredType::kQ4_0:
        AppendQ4(values.subspan(i, kBlock), false, &bytes);
        break;
      case StoredType::kQ4_1:
        AppendQ4(values.subspan(i, kBlock), true, &bytes);
        break;
    }
  }
  return bytes;
}

std::vector<double> NaiveDequantize(StoredType type, std::string_view bytes) {
  std::vector<double> values;
  const auto block_bytes = static_cast<size_t>(BlockBytes(type));
  for (; !bytes.empty(); bytes.remove_prefix(block_bytes)) {
    switch (type) {
      case StoredType::kF32:
        values.push_back(Take<float>(bytes, 0));
        break;
      case StoredType::kF16:
        values.push_back(F16ToF32(Take<f16_t>(bytes, 0)));
        break;
      case StoredType::kBf16:
        values.push_back(Bf16ToF32(Take<bf16_t>(bytes, 0)));
        break;
      case StoredType::kQ8_0:
        for (size_t j = 0; j < kBlock; ++j)
          values.push_back(static_cast<double>(F16ToF32(Take<f16_t>(bytes, 0))) *
                           Take<int8_t>(bytes, 2 + j));
        break;
      case StoredType::kQ4_0:
      case StoredType::kQ4_1: {
        const bool has_minimum = type == StoredType::kQ4_1;
        const double scale = F16ToF32(Take<f16_t>(bytes, 0));
        const double minimum = has_minimum ? F16ToF32(Take<f16_t>(bytes, 2)) : 0.0;
        for (size_t j = 0; j < kBlock; ++j) {
          const uint8_t byte = Take<uint8_t>(bytes, (has_minimum ? 4 : 2) + j % (kBlock / 2));
          const int code = j < kBlock / 2 ? byte % 16 : byte / 16;
          values.push_back(has_minimum ? scale * code + minimum : scale * (code - 8));
        }
        break;
      }
    }
  }
  return values;
}

}  // namespace lorc::test
