// From partial results to the attention's output.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/decode_params.h"

namespace lorc::cuda {

// Partial results of every row and head put together: the latents' weighted sum as bf16 for
// LaunchDecodeValues and the exact tokens' share beside it, both divided by the sum of all weights;
// or, without a value basis, the output itself.
cudaError_t LaunchCombine(const CombineParams& params, cudaStream_t stream);

// out = latents D^T + exact_out, per head.
cudaError_t LaunchDecodeValues(const DecodeValuesParams& params, cudaStream_t stream);

}  // namespace lorc::cuda
