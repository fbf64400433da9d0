// CUDA's and cuBLASLt's answers as absl::Status.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "absl/status/status.h"

namespace lorc {

// OK for cudaSuccess; RESOURCE_EXHAUSTED where memory ran out, FAILED_PRECONDITION where there is
// no device or its driver is too old, else INTERNAL. `what`: what was tried, for the message.
absl::Status CudaStatus(cudaError_t error, const char* what);

absl::Status CublasStatus(cublasStatus_t error, const char* what);

}  // namespace lorc

// Returns from a function of absl::Status or absl::StatusOr where the call fails.
#define LORC_CUDA_RETURN_IF_ERROR(call)                                                  \
  do {                                                                                   \
    if (const cudaError_t lorc_error_ = (call); lorc_error_ != cudaSuccess) [[unlikely]] \
      return ::lorc::CudaStatus(lorc_error_, #call);                                     \
  } while (false)
