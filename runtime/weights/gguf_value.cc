#include <cmath>
#include <limits>

#include "runtime/weights/byte_cursor.h"
#include "runtime/weights/gguf.h"

namespace lorc {
namespace {

// Precondition of all of these: the parser has checked that the bytes are there.
template <typename T>
T Load(const std::byte* source) {
  T value;
  std::memcpy(&value, source, sizeof(T));
  return value;
}

std::optional<int64_t> LoadInteger(GgufValueType type, const std::byte* source) {
  switch (type) {
    case GgufValueType::kUint8:
      return Load<uint8_t>(source);
    case GgufValueType::kInt8:
      return Load<int8_t>(source);
    case GgufValueType::kUint16:
      return Load<uint16_t>(source);
    case GgufValueType::kInt16:
      return Load<int16_t>(source);
    case GgufValueType::kUint32:
      return Load<uint32_t>(source);
    case GgufValueType::kInt32:
      return Load<int32_t>(source);
    case GgufValueType::kInt64:
      return Load<int64_t>(source);
    case GgufValueType::kUint64: {
      const uint64_t value = Load<uint64_t>(source);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    case GgufValueType::kFloat32:
    case GgufValueType::kFloat64:
    case GgufValueType::kBool:
    case GgufValueType::kString:
    case GgufValueType::kArray:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> GgufValue::AsInteger() const { return LoadInteger(type, bytes.data()); }

std::optional<double> GgufValue::AsNumber() const {
  if (type == GgufValueType::kFloat32) return Load<float>(bytes.data());
  if (type == GgufValueType::kFloat64) return Load<double>(bytes.data());
  if (const std::optional<int64_t> integer = AsInteger()) return static_cast<double>(*integer);
  return std::nullopt;
}

std::optional<bool> GgufValue::AsBool() const {
  if (type != GgufValueType::kBool) return std::nullopt;
  return bytes[0] != std::byte{0};
}

std::optional<std::string_view> GgufValue::AsString() const {
  std::string_view text;
  ByteCursor cursor(bytes);
  if (type != GgufValueType::kString || !cursor.ReadString(&text)) return std::nullopt;
  return text;
}

std::optional<std::vector<int64_t>> GgufValue::AsIntegers() const {
  if (type != GgufValueType::kArray) return std::nullopt;
  std::vector<int64_t> integers;
  if (count == 0) return integers;
  const int64_t stride = static_cast<int64_t>(bytes.size()) / count;
  for (int64_t i = 0; i < count; ++i) {
    const std::optional<int64_t> integer = LoadInteger(element_type, bytes.data() + i * stride);
    if (!integer) return std::nullopt;
    integers.push_back(*integer);
  }
  return integers;
}

std::optional<std::vector<std::string_view>> GgufValue::AsStrings() const {
  if (type != GgufValueType::kArray || element_type != GgufValueType::kString) return std::nullopt;
  std::vector<std::string_view> strings;
  ByteCursor cursor(bytes);
  for (int64_t i = 0; i < count; ++i) {
    std::string_view text;
    if (!cursor.ReadString(&text)) return std::nullopt;
    strings.push_back(text);
  }
  return strings;
}

}  // namespace lorc
