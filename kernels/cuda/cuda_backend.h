// The CUDA backend: one NVIDIA GPU of compute capability 8.0 or later.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace lorc {

// `device` counts the devices that CUDA shows (CUDA_VISIBLE_DEVICES). `num_threads`, of the
// program: they read weights and draw tokens; 0: one per available core. FAILED_PRECONDITION says
// what is missing: a GPU, a driver that is new enough, code for this GPU.
absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(int device, int num_threads);

}  // namespace lorc
