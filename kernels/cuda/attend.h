// Attention on a CUDA device (contract: ops/kv_cache.h).
#pragma once

#include "kernels/cuda/cuda_context.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {

CudaScratch AttendCudaScratch(const BackendLimits& limits, const cudaDeviceProp& device);

// `args.sequences` are those of context.step().
void CudaAttend(const AttendArgs& args, CudaContext& context);

}  // namespace lorc
