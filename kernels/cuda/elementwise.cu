#include "kernels/cuda/elementwise.h"

#include <cuda_bf16.h>

#include <cmath>
#include <type_traits>

#include "kernels/cuda/reduce.cuh"

namespace lorc {
namespace {

constexpr int kThreads = 256;        // of most kernels
constexpr int kStatsThreads = 1024;  // a row of logits is long

// N numbers that are loaded or stored at once.
template <typename T, int N>
struct alignas(N * sizeof(T)) Pack {
  T values[N];
};

template <int N, typename T>
__device__ __forceinline__ Pack<T, N> Load(const T* from, int64_t index) {
  return reinterpret_cast<const Pack<T, N>*>(from)[index];
}

template <int N, typename T>
__device__ __forceinline__ void Store(T* to, int64_t index, const Pack<T, N>& pack) {
  reinterpret_cast<Pack<T, N>*>(to)[index] = pack;
}

template <typename T>
__device__ __forceinline__ T Rounded(float value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return value;
  } else {
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
  }
}

__device__ __forceinline__ float Sum(float a, float b) { return a + b; }

// One block per token.
template <int N>
__global__ void __launch_bounds__(kThreads)
    EmbedKernel(const bf16_t* table, int64_t width, const int32_t* tokens, float* out) {
  table += tokens[blockIdx.x] * width;
  out += blockIdx.x * width;
  for (int64_t k = threadIdx.x; k < width / N; k += kThreads) {
    const auto from = Load<N>(table, k);
    Pack<float, N> to;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      to.values[i] = __uint_as_float(static_cast<uint32_t>(from.values[i]) << 16);
    }
    Store(out, k, to);
  }
}

// One block per row; the row is read twice, the second time from the cache.
template <int N, typename T>
__global__ void __launch_bounds__(kThreads)
    RmsNormKernel(const float* x, const int32_t* rows, const float* gain, int64_t width,
                  float epsilon, T* out) {
  const int64_t row = rows == nullptr ? blockIdx.x : rows[blockIdx.x];
  x += row * width;
  out += blockIdx.x * width;
  float squares = 0;
  for (int64_t k = threadIdx.x; k < width / N; k += kThreads) {
    const auto from = Load<N>(x, k);
#pragma unroll
    for (int i = 0; i < N; ++i) squares += from.values[i] * from.values[i];
  }
  const float sum = cuda::BlockReduce<kThreads>(squares, 0.0f, Sum);
  const float factor = 1.0f / sqrtf(sum / static_cast<float>(width) + epsilon);
  for (int64_t k = threadIdx.x; k < width / N; k += kThreads) {
    const auto from = Load<N>(x, k);
    const auto gains = Load<N>(gain, k);
    Pack<T, N> to;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      to.values[i] = Rounded<T>(from.values[i] * factor * gains.values[i]);
    }
    Store(out, k, to);
  }
}

// Blocks of a row: blockIdx.y.
template <int N, typename T>
__global__ void __launch_bounds__(kThreads)
    GatedSiluKernel(const float* pairs, int64_t width, T* out, int64_t out_stride) {
  const float* gate = pairs + blockIdx.x * 2 * width;
  const int64_t k = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (k >= width / N) return;
  const auto gates = Load<N>(gate, k);
  const auto ups = Load<N>(gate + width, k);
  Pack<T, N> to;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float z = gates.values[i];
    to.values[i] = Rounded<T>(z / (1.0f + expf(-z)) * ups.values[i]);
  }
  Store(out + blockIdx.x * out_stride, k, to);
}

// One block per row, which is read twice. NaN is never the largest.
template <int N>
__global__ void __launch_bounds__(kStatsThreads)
    RowStatsKernel(const float* logits, int32_t width, int64_t stride, DeviceRowStats* stats) {
  logits += blockIdx.x * stride;
  float largest = -HUGE_VALF;
  int32_t index = INT32_MAX;  // of the first of the thread's largest
  for (int32_t k = threadIdx.x; k < width / N; k += kStatsThreads) {
    const auto from = Load<N>(logits, k);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (from.values[i] > largest) {
        largest = from.values[i];
        index = k * N + i;
      }
    }
  }
  const float top = cuda::BlockReduce<kStatsThreads>(
      largest, -HUGE_VALF, [](float a, float b) { return a > b ? a : b; });
  const int32_t first =
      cuda::BlockReduce<kStatsThreads>(largest == top ? index : INT32_MAX, INT32_MAX,
                                       [](int32_t a, int32_t b) { return a < b ? a : b; });
  // NaN stays in the sum, and infinity minus infinity becomes one.
  float part = 0;
  for (int32_t k = threadIdx.x; k < width / N; k += kStatsThreads) {
    const auto from = Load<N>(logits, k);
#pragma unroll
    for (int i = 0; i < N; ++i) part += expf(from.values[i] - top);
  }
  const float sum = cuda::BlockReduce<kStatsThreads>(part, 0.0f, Sum);
  if (threadIdx.x == 0) {
    stats[blockIdx.x] = {first == INT32_MAX ? 0 : first, top, top + logf(sum)};
  }
}

constexpr int kVector = 4;

// Calls launch(std::integral_constant<int, N>) with the N that rows of these widths and strides
// allow; all arrays start at multiples of 16 bytes.
template <typename Launch>
void WithVectors(int64_t width, int64_t stride, const Launch& launch) {
  if (width % kVector == 0 && stride % kVector == 0) {
    launch(std::integral_constant<int, kVector>());
  } else {
    launch(std::integral_constant<int, 1>());
  }
}

constexpr unsigned Grid(int64_t count) { return static_cast<unsigned>(count); }

template <typename T>
void RmsNorm(const float* x, const int32_t* rows, const float* gain, int64_t num_rows,
             int64_t width, float epsilon, T* out, cudaStream_t stream) {
  if (num_rows == 0) return;
  WithVectors(width, width, [&](auto n) {
    RmsNormKernel<n><<<Grid(num_rows), kThreads, 0, stream>>>(x, rows, gain, width, epsilon, out);
  });
}

template <typename T>
void GatedSilu(const float* pairs, int64_t num_rows, int64_t width, T* out, int64_t out_stride,
               cudaStream_t stream) {
  if (num_rows == 0) return;
  WithVectors(width, out_stride, [&](auto n) {
    const dim3 grid(Grid(num_rows), Grid((width / n + kThreads - 1) / kThreads));
    GatedSiluKernel<n><<<grid, kThreads, 0, stream>>>(pairs, width, out, out_stride);
  });
}

}  // namespace

cudaError_t CheckDeviceCode() {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, EmbedKernel<1>);
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error;
}

void LaunchEmbed(const bf16_t* table, int64_t width, const int32_t* tokens, int64_t num_tokens,
                 float* out, cudaStream_t stream) {
  if (num_tokens == 0) return;
  WithVectors(width, width, [&](auto n) {
    EmbedKernel<n><<<Grid(num_tokens), kThreads, 0, stream>>>(table, width, tokens, out);
  });
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
  WithVectors(width, stride, [&](auto n) {
    RowStatsKernel<n><<<Grid(num_rows), kStatsThreads, 0, stream>>>(
        logits, static_cast<int32_t>(width), stride, stats);
  });
}

}  // namespace lorc
