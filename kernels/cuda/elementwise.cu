#include "kernels/cuda/elementwise.h"

#include <cuda_bf16.h>

#include <cmath>

#include "kernels/cuda/reduce.cuh"

namespace lorc {
namespace {

constexpr int kThreads = 256;        // of most kernels
constexpr int kStatsThreads = 1024;  // a row of logits is long

__device__ __forceinline__ void Store(float value, float* to) { *to = value; }
__device__ __forceinline__ void Store(float value, bf16_t* to) {
  *to = __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

__device__ __forceinline__ float Load(bf16_t value) {
  return __uint_as_float(static_cast<uint32_t>(value) << 16);
}

__device__ __forceinline__ float Sum(float a, float b) { return a + b; }

// One block per token.
__global__ void __launch_bounds__(kThreads)
    EmbedKernel(const bf16_t* table, int64_t width, const int32_t* tokens, float* out) {
  const bf16_t* from = table + tokens[blockIdx.x] * width;
  float* to = out + blockIdx.x * width;
  for (int64_t k = threadIdx.x; k < width; k += kThreads) to[k] = Load(from[k]);
}

// One block per row; the row is read twice, the second time from the cache.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    RmsNormKernel(const float* x, const int32_t* rows, const float* gain, int64_t width,
                  float epsilon, T* out) {
  const int64_t from = rows == nullptr ? blockIdx.x : rows[blockIdx.x];
  x += from * width;
  out += blockIdx.x * width;
  float squares = 0;
  for (int64_t k = threadIdx.x; k < width; k += kThreads) squares += x[k] * x[k];
  const float sum = cuda::BlockReduce<kThreads>(squares, 0.0f, Sum);
  const float factor = 1.0f / sqrtf(sum / static_cast<float>(width) + epsilon);
  for (int64_t k = threadIdx.x; k < width; k += kThreads) Store(x[k] * factor * gain[k], out + k);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    GatedSiluKernel(const float* pairs, int64_t width, T* out, int64_t out_stride) {
  const float* gate = pairs + blockIdx.x * 2 * width;
  const float* up = gate + width;
  const int64_t i = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (i >= width) return;
  const float z = gate[i];
  Store(z / (1.0f + expf(-z)) * up[i], out + blockIdx.x * out_stride + i);
}

// A value and where it stands; NaN is never the largest.
struct Place {
  float value;
  int32_t index;
};

// One block per row, which is read twice.
__global__ void __launch_bounds__(kStatsThreads)
    RowStatsKernel(const float* logits, int32_t width, int64_t stride, DeviceRowStats* stats) {
  logits += blockIdx.x * stride;
  Place best = {-HUGE_VALF, INT32_MAX};
  for (int32_t v = threadIdx.x; v < width; v += kStatsThreads) {
    if (logits[v] > best.value) best = {logits[v], v};
  }
  const float top = cuda::BlockReduce<kStatsThreads>(best.value, -HUGE_VALF,
                                                     [](float a, float b) { return fmaxf(a, b); });
  const int32_t index =
      cuda::BlockReduce<kStatsThreads>(best.value == top ? best.index : INT32_MAX, INT32_MAX,
                                       [](int32_t a, int32_t b) { return a < b ? a : b; });
  // NaN stays in the sum, and infinity minus infinity becomes one.
  float part = 0;
  for (int32_t v = threadIdx.x; v < width; v += kStatsThreads) part += expf(logits[v] - top);
  const float sum = cuda::BlockReduce<kStatsThreads>(part, 0.0f, Sum);
  if (threadIdx.x == 0) {
    stats[blockIdx.x] = {index == INT32_MAX ? 0 : index, top, top + logf(sum)};
  }
}

template <typename T>
void RmsNorm(const float* x, const int32_t* rows, const float* gain, int64_t num_rows,
             int64_t width, float epsilon, T* out, cudaStream_t stream) {
  if (num_rows == 0) return;
  RmsNormKernel<<<static_cast<unsigned>(num_rows), kThreads, 0, stream>>>(x, rows, gain, width,
                                                                          epsilon, out);
}

template <typename T>
void GatedSilu(const float* pairs, int64_t num_rows, int64_t width, T* out, int64_t out_stride,
               cudaStream_t stream) {
  if (num_rows == 0) return;
  const dim3 grid(static_cast<unsigned>(num_rows),
                  static_cast<unsigned>((width + kThreads - 1) / kThreads));
  GatedSiluKernel<<<grid, kThreads, 0, stream>>>(pairs, width, out, out_stride);
}

}  // namespace

cudaError_t CheckDeviceCode() {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, EmbedKernel);
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error;
}

void LaunchEmbed(const bf16_t* table, int64_t width, const int32_t* tokens, int64_t num_tokens,
                 float* out, cudaStream_t stream) {
  if (num_tokens == 0) return;
  EmbedKernel<<<static_cast<unsigned>(num_tokens), kThreads, 0, stream>>>(table, width, tokens,
                                                                          out);
}

void LaunchRmsNorm(const float* x, const int32_t* rows, const float* gain, int64_t num_rows,
                   int64_t width, float epsilon, bf16_t* out, cudaStream_t stream) {
  RmsNorm(x, rows, gain, num_rows, width, epsilon, out, stream);
}

void LaunchRmsNorm(const float* x, const int32_t* rows, const float* gain, int64_t num_rows,
                   int64_t width, float epsilon, float* out, cudaStream_t stream) {
  RmsNorm(x, rows, gain, num_rows, width, epsilon, out, stream);
}

void LaunchGatedSilu(const float* pairs, int64_t num_rows, int64_t width, bf16_t* out,
                     int64_t out_stride, cudaStream_t stream) {
  GatedSilu(pairs, num_rows, width, out, out_stride, stream);
}

void LaunchGatedSilu(const float* pairs, int64_t num_rows, int64_t width, float* out,
                     int64_t out_stride, cudaStream_t stream) {
  GatedSilu(pairs, num_rows, width, out, out_stride, stream);
}

void LaunchRowStats(const float* logits, int64_t num_rows, int64_t width, int64_t stride,
                    DeviceRowStats* stats, cudaStream_t stream) {
  if (num_rows == 0) return;
  RowStatsKernel<<<static_cast<unsigned>(num_rows), kStatsThreads, 0, stream>>>(
      logits, static_cast<int32_t>(width), stride, stats);
}

}  // namespace lorc
