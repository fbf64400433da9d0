#include <algorithm>

#include "kernels/cuda/decode_unit.cuh"
#include "kernels/cuda/gather_cached.h"
#include "kernels/cuda/mma.cuh"

namespace lorc::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

// One CTA per run and group of a tensor; its warps take units in turn.
__global__ void __launch_bounds__(kThreads)
    GatherLatentsKernel(const __grid_constant__ GatherCachedArgs args) {
  const bool is_key = static_cast<int>(blockIdx.y) < args.key.shape.groups;
  const CachedTensor& tensor = is_key ? args.key : args.value;
  const TensorShape& shape = tensor.shape;
  const int group = is_key ? blockIdx.y : blockIdx.y - args.key.shape.groups;
  const CacheRun run = args.runs[blockIdx.x];
  const int block_tokens = args.frame.block_tokens;
  const int64_t stride = static_cast<int64_t>(shape.groups) * shape.rank;
  uint16_t* rows =
      tensor.rows + static_cast<int64_t>(blockIdx.x) * 16 * stride + group * shape.rank;
  if (run.count == 0) {
    const int pairs = shape.rank / 2;
    for (int i = threadIdx.x; i < 16 * pairs; i += kThreads) {
      *reinterpret_cast<uint32_t*>(rows + i / pairs * stride + i % pairs * 2) = 0u;
    }
    return;
  }
  const std::byte* base =
      tensor.part + run.block * args.block_bytes + static_cast<int64_t>(group) * shape.group_bytes;
  const int slot = run.position % block_tokens;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int token = lane / 4;
  int turn = 0;
  for (int i = 0; i < shape.num_segments; ++i) {
    const SegmentShape segment = shape.segments[i];
    const int width = segment.width();
    for (int unit = 0; unit * kUnitWidth < width; ++unit, ++turn) {
      if (turn % kWarps != warp) continue;
      uint16_t* to = rows + segment.column + unit * kUnitWidth + lane % 4 * 2;
      DecodeUnitAt(segment.type, width, block_tokens, is_key, base + segment.offset, unit, slot,
                   lane, [&](int pair, float low, float high) {
                     uint32_t packed = PackBf16(low, high);
                     // Of values a pair is two tokens: turned, it is two columns.
                     if (!is_key) packed = TransposeTile(packed);
                     const int t = token + pair % 2 * 8;
                     *reinterpret_cast<uint32_t*>(to + t * stride + pair / 2 * 8) =
                         t < run.count ? packed : 0u;
                   });
    }
  }
}

// One CTA per run and KV head, for K or V: the head's numbers go through shared memory, where
// keys' pairs meet.
__global__ void __launch_bounds__(kThreads)
    GatherHeadsKernel(const __grid_constant__ GatherCachedArgs args) {
  extern __shared__ float numbers[];  // [16][d + 1]
  const bool is_key = blockIdx.z == 0;
  const CachedTensor& tensor = is_key ? args.key : args.value;
  const TensorShape& shape = tensor.shape;
  if (shape.groups == 0) return;
  const CacheRun run = args.runs[blockIdx.x];
  const int head = blockIdx.y;
  const int d = args.frame.head_dim;
  const int block_tokens = args.frame.block_tokens;
  const int64_t width = static_cast<int64_t>(gridDim.y) * d;
  uint16_t* rows = tensor.rows + static_cast<int64_t>(blockIdx.x) * 16 * width + head * d;
  const int heads_per_group = shape.rank / d;
  const int first_column = head % heads_per_group * d;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  if (run.count > 0) {
    const std::byte* base = tensor.part + run.block * args.block_bytes +
                            static_cast<int64_t>(head / heads_per_group) * shape.group_bytes;
    const int slot = run.position % block_tokens;
    int turn = 0;
    for (int i = 0; i < shape.num_segments; ++i) {
      const SegmentShape segment = shape.segments[i];
      for (int unit = 0; unit * kUnitWidth < segment.width(); ++unit) {
        const int from = segment.column + unit * kUnitWidth - first_column;
        if (from + kUnitWidth <= 0 || from >= d) continue;
        if (turn++ % kWarps != warp) continue;
        DecodeUnitAt(segment.type, segment.width(), block_tokens, is_key, base + segment.offset,
                     unit, slot, lane, [&](int pair, float low, float high) {
#pragma unroll
                       for (int half = 0; half < 2; ++half) {
                         const int t = TokenAt(is_key, lane, pair, half);
                         const int column = from + ColumnAt(is_key, lane, pair, half);
                         if (column >= 0 && column < d) {
                           numbers[t * (d + 1) + column] = half == 0 ? low : high;
                         }
                       }
                     });
      }
    }
  }
  __syncthreads();
  const int half = d / 2;
  for (int i = threadIdx.x; i < 16 * half; i += kThreads) {
    const int t = i / half;
    const int j = i % half;
    uint32_t packed = 0;
    if (t < run.count) {
      const float* row = numbers + t * (d + 1);
      if (is_key) {
        const int64_t turn =
            static_cast<int64_t>(args.frame.ChunkStart(run.position + t)) * half + j;
        const float c = args.frame.rope_cos[turn];
        const float s = args.frame.rope_sin[turn];
        packed = PackBf16(row[j] * c - row[j + half] * s, row[j + half] * c + row[j] * s);
      } else {
        packed = PackBf16(row[2 * j], row[2 * j + 1]);
      }
    }
    *reinterpret_cast<uint32_t*>(rows + t * width + 2 * j) = packed;
  }
}

}  // namespace

void GatherLatents(const GatherCachedArgs& args, cudaStream_t stream) {
  const int groups = args.key.shape.groups + args.value.shape.groups;
  if (args.num_runs == 0 || groups == 0) return;
  const dim3 grid(static_cast<unsigned>(args.num_runs), static_cast<unsigned>(groups));
  GatherLatentsKernel<<<grid, kThreads, 0, stream>>>(args);
}

void GatherHeads(const GatherCachedArgs& args, cudaStream_t stream) {
  const TensorShape& shape = args.key.shape.groups > 0 ? args.key.shape : args.value.shape;
  if (args.num_runs == 0 || shape.groups == 0) return;
  const int d = args.frame.head_dim;
  const dim3 grid(static_cast<unsigned>(args.num_runs),
                  static_cast<unsigned>(shape.groups * shape.rank / d), 2);
  GatherHeadsKernel<<<grid, kThreads, kRunTokens*(d + 1) * sizeof(float), stream>>>(args);
}

}  // namespace lorc::cuda
