// Which layers of a cache the CUDA backend can hold and read.
#pragma once

#include "absl/status/status.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {

// INVALID_ARGUMENT says what is expected. Pools, tables and bases need not be there yet.
absl::Status CheckCudaLayer(const CacheLayer& layer);

}  // namespace lorc
