// Writing the cache on a CUDA device (contract: ops/kv_cache.h).
#pragma once

#include "absl/status/status.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {

// INVALID_ARGUMENT where this backend does not run the layer; names what does not fit.
absl::Status CheckCudaLayer(const CacheLayer& layer);

CudaScratch WriteCacheCudaScratch(const BackendLimits& limits, const cudaDeviceProp& device);

// `args.sequences` are those of context.step().
void CudaWriteCache(const WriteCacheArgs& args, CudaContext& context);

}  // namespace lorc
