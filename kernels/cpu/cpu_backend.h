// The CPU backend: the embedded default.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace lorc {

// `num_threads` 0: one per available core. UNIMPLEMENTED on a machine without AVX2.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(int num_threads);

}  // namespace lorc
