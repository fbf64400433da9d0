// Decode attention over numbers that few query heads share: full keys and values (exact tokens,
// uncompressed caches), and latents of one or few KV heads.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/decode_params.h"
#include "kernels/cuda/latent_units.h"

namespace lorc::cuda {

// A group has at most 16 query heads here (head_tiles is 1); tiles have 16 tokens. With
// `params.raw_query` the queries are rotated here, else they come absorbed.
// cudaErrorInvalidConfiguration where a group is too wide for the kernel, or its numbers for
// `shared_bytes` of shared memory. Without streams nothing is launched.
cudaError_t LaunchAttendNarrow(const AttendLatentParams& params, const LatentUnits& units,
                               int num_streams, int shared_bytes, cudaStream_t stream);

// Whether a group of that width suits the kernel.
bool NarrowTakes(int rows, const LatentUnits& units);

// Whether LaunchAttendNarrow takes so many of them. Needs no device.
bool NarrowTakes(int rows, int groups, const LatentUnits& units, int shared_bytes);

}  // namespace lorc::cuda
