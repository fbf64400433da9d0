// Decode attention over numbers that few query heads share: full keys and values (exact tokens,
// uncompressed caches), and latents of one or few KV heads.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/decode_params.h"
#include "kernels/cuda/latent_units.h"

namespace lorc::cuda {

// A group has at most 16 query heads here (head_tiles is 1); tiles have 16 tokens. With
// `params.raw_query` the queries are rotated here, else they come absorbed.
// cudaErrorInvalidConfiguration where a group is too wide for the kernel.
cudaError_t LaunchAttendNarrow(const AttendLatentParams& params, const LatentUnits& units,
                               int num_streams, int shared_bytes, cudaStream_t stream);

// Whether LaunchAttendNarrow takes it.
bool NarrowTakes(int rows, const LatentUnits& units);

}  // namespace lorc::cuda
