#include "kernels/cuda/device_memory.h"

#include <cuda_runtime_api.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cuda/cuda_check.h"

namespace lorc {
namespace {

// A device that has failed says so here too; whoever uses it has seen it by then.
void FreeDevice(std::byte* data, int64_t) { (void)cudaFree(data); }
void FreePinned(std::byte* data, int64_t) { (void)cudaFreeHost(data); }

}  // namespace

absl::StatusOr<Buffer> AllocateDevice(int64_t size_bytes, MemoryUse use, MemoryAccount* account) {
  LORC_CHECK_GE(size_bytes, 0);
  if (size_bytes == 0) return Buffer();
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, size_bytes);
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // the device is sound
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    (void)cudaMemGetInfo(&free_bytes, &total_bytes);
    return absl::ResourceExhaustedError(absl::StrCat("no device memory for ", size_bytes,
                                                     " bytes of ", Name(use), "; ", free_bytes,
                                                     " of ", total_bytes, " bytes are free"));
  }
  LORC_CUDA_RETURN_IF_ERROR(error);
  Buffer buffer(static_cast<std::byte*>(data), size_bytes, use, account, FreeDevice);
  // The default stream: streams that wait for nobody would not see it done without the wait.
  LORC_CUDA_RETURN_IF_ERROR(cudaMemset(data, 0, size_bytes));
  LORC_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(cudaStreamLegacy));
  return buffer;
}

absl::StatusOr<Buffer> AllocatePinned(int64_t size_bytes) {
  LORC_CHECK_GE(size_bytes, 0);
  if (size_bytes == 0) return Buffer();
  void* data = nullptr;
  const cudaError_t error = cudaHostAlloc(&data, size_bytes, cudaHostAllocDefault);
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    return absl::ResourceExhaustedError(
        absl::StrCat("no pinned memory for ", size_bytes, " bytes"));
  }
  LORC_CUDA_RETURN_IF_ERROR(error);
  std::memset(data, 0, size_bytes);
  return Buffer(static_cast<std::byte*>(data), size_bytes, MemoryUse::kWorkspace, nullptr,
                FreePinned);
}

}  // namespace lorc
