// The small ops of a layer on a CUDA device (contracts: ops/elementwise.h). All pointers are to
// device memory, arrays start at multiples of 16 bytes. A row's result does not depend on the
// others.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/base/dtype.h"

namespace lorc {

// An error where this program has no code for the current device.
cudaError_t CheckDeviceCode();

// out[t] = table[tokens[t]]: table [V, width] bf16, out [num_tokens, width] f32.
void LaunchEmbed(const bf16_t* table, int64_t width, const int32_t* tokens, int64_t num_tokens,
                 float* out, cudaStream_t stream);

// As RmsNormArgs; `rows` may be nullptr.
void LaunchRmsNorm(const float* x, const int32_t* rows, const float* gain, int64_t num_rows,
                   int64_t width, float epsilon, bf16_t* out, cudaStream_t stream);
void LaunchRmsNorm(const float* x, const int32_t* rows, const float* gain, int64_t num_rows,
                   int64_t width, float epsilon, float* out, cudaStream_t stream);

// out[t, i] = silu(pairs[t, i]) * pairs[t, width + i]: pairs [num_rows, 2 * width], rows of out
// `out_stride` apart.
void LaunchGatedSilu(const float* pairs, int64_t num_rows, int64_t width, bf16_t* out,
                     int64_t out_stride, cudaStream_t stream);
void LaunchGatedSilu(const float* pairs, int64_t num_rows, int64_t width, float* out,
                     int64_t out_stride, cudaStream_t stream);

// Of one row of logits.
struct DeviceRowStats {
  int32_t argmax;
  float max;
  float log_sum_exp;
};

// As RowStatsArgs: stats [num_rows].
void LaunchRowStats(const float* logits, int64_t num_rows, int64_t width, int64_t stride,
                    DeviceRowStats* stats, cudaStream_t stream);

}  // namespace lorc
