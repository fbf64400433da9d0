// Queries that meet latents: rotated to their chunk, times the key's decoder.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/decode_params.h"

namespace lorc::cuda {

// out[chunk, head] = scale (R(distance) q_head) D_head, the scale chosen per chunk and head so that
// no number exceeds 2^14; out_scale = softmax_scale / scale.
cudaError_t LaunchAbsorb(const AbsorbParams& params, cudaStream_t stream);

}  // namespace lorc::cuda
