// Sums and maxima over a block of threads, in an order that is always the same.
#pragma once

#include <cstdint>

namespace lorc::cuda {

inline constexpr int kWarp = 32;

// Combines the threads' values pairwise; every thread of the warp gets the result.
template <typename T, typename Combine>
__device__ __forceinline__ T WarpReduce(T value, Combine combine) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

// For blocks of kThreads threads, a multiple of 32; every thread gets the result. `neutral` changes
// nothing. `combine` must be symmetric.
template <int kThreads, typename T, typename Combine>
__device__ __forceinline__ T BlockReduce(T value, T neutral, Combine combine) {
  constexpr int kWarps = kThreads / kWarp;
  static_assert(kThreads % kWarp == 0 && kWarps <= kWarp);
  __shared__ T parts[kWarps];
  value = WarpReduce(value, combine);
  __syncthreads();  // the parts of a reduction before this one have been read
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
  __syncthreads();
  const int lane = threadIdx.x % kWarp;
  return WarpReduce(lane < kWarps ? parts[lane] : neutral, combine);
}

}  // namespace lorc::cuda
