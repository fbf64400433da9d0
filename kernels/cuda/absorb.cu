// Absorbed queries, in the order in which the attention kernels keep them in registers.
//
// Bound per chunk of a row: h d r multiply-adds and 2 h r bytes written; D (2 d r bytes per KV
// head) comes from the L2 cache once per 64 rows.
//
// A CTA: 64 pairs (chunk, head of one KV head), 32 columns per warp at a time. The scale
// comes from |q' _i| <= |q| max_i |D_i|, so no second pass is needed.

#include "kernels/cuda/absorb.h"
#include "kernels/cuda/fragments.cuh"

namespace lorc::cuda {
namespace {

constexpr int kRows = 64;
constexpr int kColumns = 256;
constexpr int kThreads = 256;
constexpr float kLargest = 16384.0f;

__global__ void __launch_bounds__(kThreads) AbsorbKernel(const __grid_constant__ AbsorbParams p) {
  extern __shared__ __align__(128) std::byte memory[];
  auto* const queries = reinterpret_cast<__nv_bfloat16*>(memory);  // [64][d + 8]
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int d = p.head_dim;
  const int half = d / 2;
  const int stride = d + 8;
  const int kv_head = blockIdx.y;
  const int group = kv_head / p.heads_per_group;
  const int first = blockIdx.x * kRows;
  const int num_rows = p.num_chunks * p.heads_per_kv;
  const int groups = p.num_kv_heads / p.heads_per_group;
  const int first_head = kv_head % p.heads_per_group * p.heads_per_kv;  // in the group

  {
    // Four neighbours a row, two numbers of each half at a time.
    const int row = threadIdx.x / 4;
    const int part = threadIdx.x % 4;
    const int index = min(first + row, num_rows - 1);
    const int chunk = index / p.heads_per_kv;
    const int head = index % p.heads_per_kv;
    const DecodeChunk info = p.chunks[chunk];
    const float* const q =
        p.query + info.row * p.query_stride + (kv_head * p.heads_per_kv + head) * d;
    const float* const cosines = p.rope_cos + static_cast<int64_t>(info.distance) * half;
    const float* const sines = p.rope_sin + static_cast<int64_t>(info.distance) * half;
    const auto load = [](const float* from) {
      return __ldg(reinterpret_cast<const float2*>(from));
    };
    float squares = 0;
#pragma unroll 8
    for (int i = 2 * part; i < d; i += 8) {
      const float2 x = load(q + i);
      squares += x.x * x.x + x.y * x.y;
    }
    squares += __shfl_xor_sync(0xffffffffu, squares, 1);
    squares += __shfl_xor_sync(0xffffffffu, squares, 2);
    const float most = sqrtf(squares) * p.column_norm[kv_head];
    const float scale = most > 0 ? kLargest / most : 1.0f;
    __nv_bfloat16* const to = queries + row * stride;
#pragma unroll 4
    for (int i = 2 * part; i < half; i += 8) {
      const float2 x = load(q + i);
      const float2 y = load(q + i + half);
      const float2 c = load(cosines + i);
      const float2 s = load(sines + i);
      *reinterpret_cast<uint32_t*>(to + i) =
          Pack<true>(scale * (x.x * c.x - y.x * s.x), scale * (x.y * c.y - y.y * s.y));
      *reinterpret_cast<uint32_t*>(to + i + half) =
          Pack<true>(scale * (y.x * c.x + x.x * s.x), scale * (y.y * c.y + x.y * s.y));
    }
    if (part == 0 && first + row < num_rows) {
      const int in_group = first_head + head;
      const int64_t tile =
          (static_cast<int64_t>(chunk) * groups + group) * p.head_tiles + in_group / p.tile_rows;
      p.out_scale[tile * p.tile_rows + in_group % p.tile_rows] = p.softmax_scale / scale;
    }
  }
  __syncthreads();

  for (int first_column = warp * 32; first_column < p.rank; first_column += kColumns) {
    const bool both = first_column + 16 < p.rank;
    float out[4][4][4] = {};
    const int pairs = p.rank / 16;
    const uint4* from =
        p.decoder + (static_cast<int64_t>(kv_head) * (d / 16) * pairs + first_column / 16) * 32 +
        lane;
#pragma unroll 2
    for (int k = 0; k < d / 16; ++k, from += pairs * 32) {
      const uint4 b0 = __ldg(from);
      const uint4 b1 = both ? __ldg(from + 32) : make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        uint32_t a[4];
        LoadTiles(SharedAddress(queries + (16 * m + lane % 16) * stride + 16 * k + lane / 16 * 8),
                  a);
        MultiplyAdd<true>(out[m][0], a, b0.x, b0.y);
        MultiplyAdd<true>(out[m][1], a, b0.z, b0.w);
        MultiplyAdd<true>(out[m][2], a, b1.x, b1.y);
        MultiplyAdd<true>(out[m][3], a, b1.z, b1.w);
      }
    }
#pragma unroll
    for (int m = 0; m < 4; ++m) {
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        const int index = first + 16 * m + 8 * upper + lane / 4;
        if (index >= num_rows) continue;
        const int chunk = index / p.heads_per_kv;
        const int head = first_head + index % p.heads_per_kv;
        const int row = head % p.tile_rows;
        const int64_t tile =
            (static_cast<int64_t>(chunk) * groups + group) * p.head_tiles + head / p.tile_rows;
        const int tile_parts = p.tile_rows / 16;
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          if (c == 1 && !both) break;
          const int column = first_column / 16 + c;
          const float(&low)[4] = out[m][2 * c];
          const float(&high)[4] = out[m][2 * c + 1];
          uint2 words;
          if (p.bf16_columns >> column & 1) {
            words = {Pack<true>(low[2 * upper], low[2 * upper + 1]),
                     Pack<true>(high[2 * upper], high[2 * upper + 1])};
          } else {
            words = {Pack<false>(low[2 * upper], low[2 * upper + 1]),
                     Pack<false>(high[2 * upper], high[2 * upper + 1])};
          }
          const int64_t fragment =
              (tile * p.key_units * 2 + p.place[column]) * tile_parts + row / 16;
          const int word = row % 16 / 8 * 64 + (row % 8 * 4 + lane % 4) * 2;
          *reinterpret_cast<uint2*>(p.out + fragment * 128 + word) = words;
        }
      }
    }
  }
}

}  // namespace

cudaError_t LaunchAbsorb(const AbsorbParams& params, cudaStream_t stream) {
  const int rows = params.num_chunks * params.heads_per_kv;
  if (rows == 0) return cudaSuccess;
  const dim3 grid((rows + kRows - 1) / kRows, params.num_kv_heads);
  const int bytes = kRows * (params.head_dim + 8) * 2;
  // At most 512 numbers per head: 65 KiB.
  const cudaError_t error =
      cudaFuncSetAttribute(AbsorbKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  AbsorbKernel<<<grid, kThreads, bytes, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace lorc::cuda
