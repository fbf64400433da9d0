// One token of a block that has been copied to the program's memory: for tests and tools.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops/kv_cache.h"

namespace lorc {

// out[0, rank) = the token's numbers of one group; `part`: K or V part of the block.
void ReadCudaToken(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens, int32_t group,
                   int64_t token, const std::byte* part, float* out);

// Scale and minimum of the token's segment, of a type that has them.
struct CudaSteps {
  float scale = 0;
  float minimum = 0;
};
CudaSteps ReadCudaSteps(const CacheTensor& tensor, int64_t block_tokens, int32_t group,
                        int64_t segment, int64_t token, const std::byte* part);

}  // namespace lorc
