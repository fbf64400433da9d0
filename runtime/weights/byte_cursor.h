// Reads little-endian values out of untrusted bytes, front to back, never past their end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace lorc {

class ByteCursor {
 public:
  explicit ByteCursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  int64_t position() const { return static_cast<int64_t>(position_); }
  uint64_t remaining() const { return bytes_.size() - position_; }

  // Each returns false, and moves nothing, where fewer bytes are left.
  template <typename T>
  [[nodiscard]] bool Read(T* value) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (remaining() < sizeof(T)) return false;
    std::memcpy(value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return true;
  }

  [[nodiscard]] bool ReadBytes(uint64_t count, std::span<const std::byte>* value) {
    if (remaining() < count) return false;
    *value = bytes_.subspan(position_, count);
    position_ += count;
    return true;
  }

  // A 64-bit length and that many bytes.
  [[nodiscard]] bool ReadString(std::string_view* value) {
    const size_t start = position_;
    uint64_t length = 0;
    std::span<const std::byte> text;
    if (!Read(&length) || !ReadBytes(length, &text)) {
      position_ = start;
      return false;
    }
    *value = {reinterpret_cast<const char*>(text.data()), text.size()};
    return true;
  }

 private:
  std::span<const std::byte> bytes_;
  size_t position_ = 0;
};

}  // namespace lorc
