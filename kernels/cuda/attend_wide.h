// Decode attention over latents shared by many query heads: up to 32 per tile of heads.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/decode_params.h"
#include "kernels/cuda/latent_units.h"

namespace lorc::cuda {

// Query heads of a tile, 16 or 32, for groups of `rows`.
int WideTileRows(int rows, const LatentUnits& units);

// `params` without units, head tiles and stages, which are filled in here. `anchor` is 0 or a
// multiple of 32. cudaErrorInvalidConfiguration where the latents are too wide for the kernel, or
// for `shared_bytes` of shared memory. Without streams nothing is launched.
cudaError_t LaunchAttendWide(const AttendLatentParams& params, const LatentUnits& units,
                             int num_streams, int shared_bytes, cudaStream_t stream);

// Whether LaunchAttendWide takes groups of `rows` query heads. Needs no device.
bool WideTakes(int rows, const LatentUnits& units, int shared_bytes);

}  // namespace lorc::cuda
