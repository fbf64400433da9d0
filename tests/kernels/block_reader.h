// Reads blocks of a backend's cache, copied to the program's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/backend.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {

// Number = minimum + scale * code.
struct ReadSteps {
  double scale = 0;
  double minimum = 0;
};

class BlockReader {
 public:
  virtual ~BlockReader() = default;

  // The token's numbers of one group. `part`: K or V part of a block.
  virtual std::vector<float> Token(const CacheTensor& tensor, KeyOrValue which,
                                   int64_t block_tokens, int32_t group, int64_t token,
                                   const std::byte* part) const = 0;
  // Of the token's segment, of a type with scales.
  virtual ReadSteps Steps(const CacheTensor& tensor, int64_t block_tokens, int32_t group,
                          int64_t segment, int64_t token, const std::byte* part) const = 0;
};

const BlockReader& ReaderOf(const Backend& backend);

}  // namespace lorc
