// Memory of the current CUDA device, and pinned memory of the program.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/base/memory.h"

namespace lorc {

// Zeroed device memory, 256-byte aligned, counted in `account` (may be nullptr) under `use`.
// RESOURCE_EXHAUSTED says how much was asked for and how much is free.
absl::StatusOr<Buffer> AllocateDevice(int64_t size_bytes, MemoryUse use, MemoryAccount* account);

// Zeroed pinned memory: copies to and from the device run beside the program.
absl::StatusOr<Buffer> AllocatePinned(int64_t size_bytes);

}  // namespace lorc
