#include "kernels/cuda/decode_out.h"

#include "kernels/cuda/fragments.cuh"

namespace lorc::cuda {
namespace {

constexpr int kCombineThreads = 128;
constexpr int kMaxRowSlots = 1024;

// A CTA per row and head. Bound: the partial results, once.
__global__ void __launch_bounds__(kCombineThreads)
    CombineKernel(const __grid_constant__ CombineParams p) {
  const RowSlots slots = p.rows[blockIdx.x];
  const int head = blockIdx.y;
  // Where this head's partial results of a slot are.
  int64_t latent_row = 0, latent_step = 0, exact_row = 0, exact_step = 0;
  if (p.latent.state != nullptr) {
    const int tiles = (p.latent_heads + p.latent_tile_rows - 1) / p.latent_tile_rows;
    const int in_group = head % p.latent_heads;
    const int tile = head / p.latent_heads * tiles + in_group / p.latent_tile_rows;
    latent_row = static_cast<int64_t>(tile) * p.latent_tile_rows + in_group % p.latent_tile_rows;
    latent_step = static_cast<int64_t>(p.latent_tiles) * p.latent_tile_rows;
  }
  if (p.exact.state != nullptr) {
    exact_row = static_cast<int64_t>(head / p.heads_per_kv) * 16 + head % p.heads_per_kv;
    exact_step = static_cast<int64_t>(p.num_heads / p.heads_per_kv) * 16;
  }
  // Each slot's weight among all of the row's, every warp for itself.
  __shared__ float weights[kMaxRowSlots];
  const int num_latent = slots.latent_end - slots.latent_begin;
  const int num_slots = num_latent + slots.exact_end - slots.exact_begin;
  const int lane = threadIdx.x % 32;
  const auto state_of = [&](int i) {
    return i < num_latent
               ? p.latent.state[(slots.latent_begin + i) * latent_step + latent_row]
               : p.exact.state[(slots.exact_begin + i - num_latent) * exact_step + exact_row];
  };
  float maximum = kNoMaximum;
  for (int i = lane; i < num_slots; i += 32) maximum = fmaxf(maximum, state_of(i).x);
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, d));
  }
  float sum = 0;
  for (int i = lane; i < num_slots; i += 32) {
    const float2 state = state_of(i);
    sum += state.y * Exp2(state.x - maximum);
  }
#pragma unroll
  for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  const float inverse = 1.0f / sum;
  for (int i = threadIdx.x; i < num_slots; i += kCombineThreads) {
    weights[i] = Exp2(state_of(i).x - maximum) * inverse;
  }
  __syncthreads();
  // Four columns of slots [begin, end), the row's slots from `first` on.
  const auto gather = [&](const Partials& from, int begin, int end, int first, int64_t row,
                          int64_t step, int column) {
    float4 total = make_float4(0, 0, 0, 0);
    for (int s = begin; s < end; ++s) {
      const float weight = weights[first + s - begin];
      const float4 value =
          *reinterpret_cast<const float4*>(from.out + (s * step + row) * from.width + column);
      total.x += weight * value.x;
      total.y += weight * value.y;
      total.z += weight * value.z;
      total.w += weight * value.w;
    }
    return total;
  };
  const auto latent = [&](int column) {
    return gather(p.latent, slots.latent_begin, slots.latent_end, 0, latent_row, latent_step,
                  column);
  };
  const auto exact = [&](int column) {
    return gather(p.exact, slots.exact_begin, slots.exact_end, num_latent, exact_row, exact_step,
                  column);
  };
  const int64_t own = static_cast<int64_t>(blockIdx.x) * p.num_heads + head;
  if (p.latents != nullptr) {
    auto* const to = static_cast<uint32_t*>(p.latents) + own * p.latent.width / 2;
    for (int i = 4 * threadIdx.x; i < p.latent.width; i += 4 * kCombineThreads) {
      const float4 total = latent(i);
      *reinterpret_cast<uint2*>(to + i / 2) =
          make_uint2(Pack<true>(total.x, total.y), Pack<true>(total.z, total.w));
    }
    float* const exact_to = p.exact_out + own * p.head_dim;
    for (int i = 4 * threadIdx.x; i < p.head_dim; i += 4 * kCombineThreads) {
      *reinterpret_cast<float4*>(exact_to + i) = exact(i);
    }
    return;
  }
  const int64_t to = (static_cast<int64_t>(slots.row) * p.num_heads + head) * p.head_dim;
  // A group's columns are its heads' values, one after the other.
  const int kv_in_group = p.latent.state == nullptr ? 0 : head % p.latent_heads / p.heads_per_kv;
  for (int i = 4 * threadIdx.x; i < p.head_dim; i += 4 * kCombineThreads) {
    float4 total = latent(kv_in_group * p.head_dim + i);
    const float4 more = exact(i);
    total.x += more.x, total.y += more.y, total.z += more.z, total.w += more.w;
    if (p.out_bf16) {
      *reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(p.out) + to + i) =
          make_uint2(Pack<true>(total.x, total.y), Pack<true>(total.z, total.w));
    } else {
      *reinterpret_cast<float4*>(static_cast<float*>(p.out) + to + i) = total;
    }
  }
}

constexpr int kTileRows = 32;

// A CTA: 32 pairs (row, head of one KV head), 16 columns per warp.
__global__ void __launch_bounds__(256)
    DecodeValuesKernel(const __grid_constant__ DecodeValuesParams p) {
  extern __shared__ __align__(128) std::byte memory[];
  auto* const latents = reinterpret_cast<__nv_bfloat16*>(memory);  // [32][rank + 8]
  const int stride = p.rank + 8;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int kv_head = blockIdx.y;
  const int first = blockIdx.x * kTileRows;
  const int num_rows = p.num_rows * p.heads_per_kv;
  const int pieces = p.rank / 8;
  for (int i = threadIdx.x; i < kTileRows * pieces; i += blockDim.x) {
    const int index = first + i / pieces;
    const bool there = index < num_rows;
    const int64_t row = there ? static_cast<int64_t>(index / p.heads_per_kv) * p.num_heads +
                                    kv_head * p.heads_per_kv + index % p.heads_per_kv
                              : 0;
    CopyAsync16(SharedAddress(latents + i / pieces * stride + i % pieces * 8),
                static_cast<const __nv_bfloat16*>(p.latents) + row * p.rank + i % pieces * 8,
                there);
  }
  CommitCopies();
  WaitForCopies<0>();
  __syncthreads();
  float out[2][2][4] = {};
  const int tiles = p.head_dim / 16;
  for (int tile = warp; tile < tiles; tile += blockDim.x / 32) {
    const uint4* from =
        p.decoder + (static_cast<int64_t>(kv_head) * (p.rank / 16) * tiles + tile) * 32 + lane;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) out[m][n][i] = 0;
      }
    }
#pragma unroll 4
    for (int k = 0; k < p.rank / 16; ++k) {
      const uint4 b = __ldg(from + static_cast<int64_t>(k) * tiles * 32);
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        uint32_t a[4];
        LoadTiles(SharedAddress(latents + (16 * m + lane % 16) * stride + 16 * k + lane / 16 * 8),
                  a);
        MultiplyAdd<true>(out[m][0], a, b.x, b.y);
        MultiplyAdd<true>(out[m][1], a, b.z, b.w);
      }
    }
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        const int index = first + 16 * m + 8 * upper + lane / 4;
        if (index >= num_rows) continue;
        const int row = index / p.heads_per_kv;
        const int head = kv_head * p.heads_per_kv + index % p.heads_per_kv;
        const int64_t own = (static_cast<int64_t>(row) * p.num_heads + head) * p.head_dim;
        const int64_t to =
            (static_cast<int64_t>(p.rows[row].row) * p.num_heads + head) * p.head_dim;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const int column = 16 * tile + 8 * n + 2 * (lane % 4);
          const float2 exact = *reinterpret_cast<const float2*>(p.exact_out + own + column);
          const float low = out[m][n][2 * upper] + exact.x;
          const float high = out[m][n][2 * upper + 1] + exact.y;
          if (p.out_bf16) {
            static_cast<uint32_t*>(p.out)[(to + column) / 2] = Pack<true>(low, high);
          } else {
            *reinterpret_cast<float2*>(static_cast<float*>(p.out) + to + column) =
                make_float2(low, high);
          }
        }
      }
    }
  }
}

}  // namespace

cudaError_t LaunchCombine(const CombineParams& params, cudaStream_t stream) {
  if (params.num_rows == 0) return cudaSuccess;
  CombineKernel<<<dim3(params.num_rows, params.num_heads), kCombineThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

cudaError_t LaunchDecodeValues(const DecodeValuesParams& params, cudaStream_t stream) {
  const int rows = params.num_rows * params.heads_per_kv;
  if (rows == 0) return cudaSuccess;
  const int warps = params.head_dim / 16 < 8 ? params.head_dim / 16 : 8;
  const int bytes = kTileRows * (params.rank + 8) * 2;
  const cudaError_t error =
      cudaFuncSetAttribute(DecodeValuesKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const dim3 grid((rows + kTileRows - 1) / kTileRows, params.num_heads / params.heads_per_kv);
  DecodeValuesKernel<<<grid, warps * 32, bytes, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace lorc::cuda
