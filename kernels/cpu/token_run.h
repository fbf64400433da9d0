// A run of cached tokens as the kernels of absorbed attention read it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lorc {

inline constexpr int64_t kRunTokens = 64;
inline constexpr int kRunBlocks = kRunTokens / 16;

// Consecutive tokens of one kind, at most kRunTokens, in whole blocks but for the last.
struct TokenRun {
  const std::byte* parts[kRunBlocks];  // K or V part of each block
  int64_t num_tokens;
  int64_t block_tokens;
};

}  // namespace lorc
