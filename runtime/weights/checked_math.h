// 64-bit arithmetic on sizes that a file claims.
#pragma once

#include <cstdint>
#include <optional>

namespace lorc {

// a * b, or nothing where that leaves int64. Both must be >= 0.
inline std::optional<int64_t> CheckedMultiply(int64_t a, int64_t b) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

}  // namespace lorc
