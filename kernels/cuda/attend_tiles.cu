// A warp holds 16 or 32 queries; the CTA's warps share tiles of 64 keys and values, of which the
// next is on its way while one is computed. A tile that has both exact and latent blocks is visited
// once per version, exact first; queries for which a tile's version is not the one to read see
// nothing of it, which changes none of their bits. So a query's result depends on its position
// alone.
//
// Bound by the tensor cores (mma.sync, about half of what wgmma reaches on Hopper) for long
// contexts and many queries: T N h 4 d operations. With few queries per sequence most rows of the
// products are empty and the reads of keys and values bound it.
#include <cmath>

#include "kernels/cuda/attend_tiles.h"
#include "kernels/cuda/mma.cuh"

namespace lorc::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr float kLog2E = 1.4426950408889634f;

__device__ __forceinline__ float Exp2(float value) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(value));
  return out;
}

// Of the four lanes that share a row.
__device__ __forceinline__ float RowMax(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
__device__ __forceinline__ float RowSum(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

template <int kDim_, int kRowTiles_>
struct Config {
  static constexpr int kDim = kDim_;            // of a head in shared memory, padded with zeros
  static constexpr int kRowTiles = kRowTiles_;  // of 16 queries, per warp
  static constexpr int kRows = kWarps * 16 * kRowTiles;
  static constexpr int kPieces = kDim / 8;
  static constexpr int kTileBytes = kKeyTile * kDim * 2;
  static constexpr int kQueryBytes = kRows * kDim * 2;
  static constexpr int kSharedBytes = kQueryBytes + 4 * kTileBytes;
};
using Dim64 = Config<64, 2>;
using Dim128 = Config<128, 2>;
using Dim256 = Config<256, 1>;

// One version of one tile. Order: exact, latent, next tile.
struct Visit {
  int tile;
  bool latent;
};

// Which tiles a CTA's queries, of blocks [first_block, last_block], read.
struct TileRule {
  int block_tokens;
  int prefix_blocks;
  int window_blocks;
  int first_block;
  int last_block;

  __device__ int FirstBlock(int tile) const { return tile * kKeyTile / block_tokens; }
  __device__ int LastBlock(int tile) const {
    return (tile * kKeyTile + kKeyTile - 1) / block_tokens;
  }
  __device__ bool Reads(const Visit& visit) const {
    const int first = FirstBlock(visit.tile);
    const int last = LastBlock(visit.tile);
    if (visit.latent) {
      return last >= prefix_blocks && last_block - max(first, prefix_blocks) >= window_blocks;
    }
    return first < prefix_blocks || (window_blocks > 0 && first_block - last < window_blocks);
  }
  // Whether all queries read all blocks of the tile in this version; causal order aside.
  __device__ bool ReadsAll(const Visit& visit) const {
    const int first = FirstBlock(visit.tile);
    const int last = LastBlock(visit.tile);
    if (visit.latent) return first >= prefix_blocks && first_block - last >= window_blocks;
    return last < prefix_blocks || last_block - first < window_blocks;
  }
};

template <class C>
__global__ void __launch_bounds__(kThreads)
    AttendTilesKernel(const __grid_constant__ AttendTilesArgs args) {
  constexpr int kRowTiles = C::kRowTiles;
  constexpr int kPieces = C::kPieces;
  extern __shared__ __align__(128) unsigned char shared[];
  const uint32_t query_tile = SharedAddress(shared);
  const uint32_t stages = query_tile + C::kQueryBytes;

  const AttendItem item = args.items[blockIdx.x];
  const AttendSegment segment = args.segments[item.segment];
  const int kv_head = blockIdx.y;
  const int d = args.frame.head_dim;
  const int half_dim = d / 2;
  const int heads = args.num_heads / args.num_kv_heads;  // of the KV head
  const int num_queries = min(C::kRows, segment.count * heads - item.first);
  const int first_position = segment.first + item.first / heads;
  const int last_position = segment.first + (item.first + num_queries - 1) / heads;
  const int64_t width = static_cast<int64_t>(args.num_kv_heads) * d;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;

  const TileRule rule = {args.frame.block_tokens, args.prefix_blocks, args.window_blocks,
                         first_position / args.frame.block_tokens,
                         last_position / args.frame.block_tokens};
  const int tile_end = min(segment.tile_end, last_position / kKeyTile + 1);
  const auto find = [&](Visit visit) {
    while (visit.tile < tile_end && !rule.Reads(visit)) {
      visit = {visit.tile + visit.latent, !visit.latent};
    }
    return visit;
  };

  const auto load = [&](const Visit& visit, int stage) {
    const TileSlots slots = args.slots[segment.slots + visit.tile - segment.tile_begin];
    const int64_t row0 = static_cast<int64_t>(visit.latent ? slots.latent : slots.exact) * kKeyTile;
    const uint32_t to = stages + stage * 2 * C::kTileBytes;
#pragma unroll 4
    for (int i = threadIdx.x; i < kKeyTile * kPieces; i += kThreads) {
      const int row = i / kPieces;
      const int piece = i % kPieces;
      const bool valid = piece * 8 < d;
      const int64_t from = (row0 + row) * width + kv_head * d + (valid ? piece * 8 : 0);
      const uint32_t at = to + Swizzled<kPieces>(row, piece);
      CopyAsync16(at, args.keys + from, valid);
      CopyAsync16(at + C::kTileBytes, args.values + from, valid);
    }
  };

  Visit visit = find({segment.tile_begin, false});
  if (visit.tile < tile_end) load(visit, 0);
  CommitCopies();

  // Queries, rotated to their positions, their numbers in the order of the keys'.
  for (int i = threadIdx.x; i < C::kRows * (C::kDim / 2); i += kThreads) {
    const int row = i / (C::kDim / 2);
    const int j = i % (C::kDim / 2);
    uint32_t packed = 0;
    if (row < num_queries && j < half_dim) {
      const int t = (item.first + row) / heads;
      const int head = kv_head * heads + (item.first + row) % heads;
      const float* from = args.query + (segment.row + t) * args.query_stride + head * d + j;
      const int64_t turn = static_cast<int64_t>(segment.first + t) * half_dim + j;
      const float c = args.frame.rope_cos[turn];
      const float s = args.frame.rope_sin[turn];
      const float low = from[0];
      const float high = from[half_dim];
      packed = PackBf16(low * c - high * s, high * c + low * s);
    }
    *reinterpret_cast<uint32_t*>(shared + Swizzled<kPieces>(row, j / 4) + j % 4 * 4) = packed;
  }

  // A lane's rows: [i][half] is row 16 i + 8 half + lane / 4 of the warp.
  int position[kRowTiles][2];
  float maximum[kRowTiles][2];
  float sum[kRowTiles][2];
  float out[kRowTiles][C::kDim / 8][4];
  const auto row_of = [&](int i, int half) {
    return warp * 16 * kRowTiles + 16 * i + 8 * half + lane / 4;
  };
  // Where the row and head lie in the output and in the state.
  const auto place_of = [&](int i, int half) {
    const int query = item.first + row_of(i, half);
    return static_cast<int64_t>(segment.row + query / heads) * args.num_heads + kv_head * heads +
           query % heads;
  };
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      // Rows beyond the last query do as it does.
      position[i][half] =
          segment.first + (item.first + min(row_of(i, half), num_queries - 1)) / heads;
      maximum[i][half] = -INFINITY;
      sum[i][half] = 0.0f;
    }
#pragma unroll
    for (auto& o : out[i]) o[0] = o[1] = o[2] = o[3] = 0.0f;
  }
  if (segment.tile_begin > 0) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (row_of(i, half) >= num_queries) continue;
        const int64_t at = place_of(i, half);
        maximum[i][half] = args.state_maximum[at];
        sum[i][half] = args.state_sum[at];
#pragma unroll
        for (int j = 0; j < C::kDim / 8; ++j) {
          const int column = 8 * j + lane % 4 * 2;
          if (column >= d) continue;
          const float2 both = *reinterpret_cast<const float2*>(args.state_out + at * d + column);
          out[i][j][2 * half] = both.x;
          out[i][j][2 * half + 1] = both.y;
        }
      }
    }
  }

  const float scale = kLog2E / sqrtf(static_cast<float>(d));
  int stage = 0;
  while (visit.tile < tile_end) {
    const Visit next = find({visit.tile + visit.latent, !visit.latent});
    if (next.tile < tile_end) load(next, stage ^ 1);
    CommitCopies();
    WaitForCopies<1>();
    __syncthreads();
    const uint32_t key_tile = stages + stage * 2 * C::kTileBytes;
    const uint32_t value_tile = key_tile + C::kTileBytes;

    // A warp without queries only helps to load.
    if (warp * 16 * kRowTiles < num_queries) {
      float scores[kRowTiles][kKeyTile / 8][4];
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (auto& score : scores[i]) score[0] = score[1] = score[2] = score[3] = 0.0f;
      }
#pragma unroll
      for (int kk = 0; kk < C::kDim / 16; ++kk) {
        uint32_t a[kRowTiles][4];
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
          LoadTiles(query_tile + Swizzled<kPieces>(warp * 16 * kRowTiles + 16 * i + lane % 16,
                                                   kk * 2 + lane / 16),
                    a[i]);
        }
#pragma unroll
        for (int j = 0; j < kKeyTile / 16; ++j) {
          uint32_t b[4];
          LoadTiles(key_tile +
                        Swizzled<kPieces>(16 * j + lane / 16 * 8 + lane % 8, kk * 2 + lane / 8 % 2),
                    b);
#pragma unroll
          for (int i = 0; i < kRowTiles; ++i) {
            MultiplyAdd(scores[i][2 * j], a[i], b[0], b[1]);
            MultiplyAdd(scores[i][2 * j + 1], a[i], b[2], b[3]);
          }
        }
      }

      const int first_key = visit.tile * kKeyTile;
      if (first_key + kKeyTile - 1 > first_position || !rule.ReadsAll(visit)) {
#pragma unroll
        for (int j = 0; j < kKeyTile / 8; ++j) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int key = first_key + 8 * j + lane % 4 * 2 + e;
            const int key_block = key / args.frame.block_tokens;
#pragma unroll
            for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
              for (int half = 0; half < 2; ++half) {
                const int block = position[i][half] / args.frame.block_tokens;
                const bool exact =
                    key_block < args.prefix_blocks || block - key_block < args.window_blocks;
                if (key > position[i][half] || exact == visit.latent) {
                  scores[i][j][2 * half + e] = -INFINITY;
                }
              }
            }
          }
        }
      }

#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float top = -INFINITY;
#pragma unroll
          for (const auto& score : scores[i]) {
            top = fmaxf(top, fmaxf(score[2 * half], score[2 * half + 1]));
          }
          top = fmaxf(maximum[i][half], RowMax(top));
          // The difference, not that of the products: it is 0 where nothing new is larger.
          const float keep = top == -INFINITY ? 1.0f : Exp2((maximum[i][half] - top) * scale);
          const float base = top == -INFINITY ? 0.0f : top * scale;
          maximum[i][half] = top;
          float added = 0.0f;
#pragma unroll
          for (auto& score : scores[i]) {
            score[2 * half] = Exp2(fmaf(score[2 * half], scale, -base));
            score[2 * half + 1] = Exp2(fmaf(score[2 * half + 1], scale, -base));
            added += score[2 * half] + score[2 * half + 1];
          }
          sum[i][half] = sum[i][half] * keep + RowSum(added);
#pragma unroll
          for (auto& o : out[i]) {
            o[2 * half] *= keep;
            o[2 * half + 1] *= keep;
          }
        }
      }

#pragma unroll
      for (int kk = 0; kk < kKeyTile / 16; ++kk) {
        uint32_t a[kRowTiles][4];
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const float* from = &scores[i][2 * kk + e / 2][e % 2 * 2];
            a[i][e] = PackBf16(from[0], from[1]);
          }
        }
#pragma unroll
        for (int j = 0; j < C::kDim / 16; ++j) {
          uint32_t b[4];
          LoadTilesTransposed(
              value_tile + Swizzled<kPieces>(16 * kk + lane % 16, 2 * j + lane / 16), b);
#pragma unroll
          for (int i = 0; i < kRowTiles; ++i) {
            MultiplyAdd(out[i][2 * j], a[i], b[0], b[1]);
            MultiplyAdd(out[i][2 * j + 1], a[i], b[2], b[3]);
          }
        }
      }
    }
    __syncthreads();  // before the tile is overwritten
    visit = next;
    stage ^= 1;
  }

  const bool done = last_position < segment.tile_end * kKeyTile;
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (row_of(i, half) >= num_queries) continue;
      const int64_t at = place_of(i, half);
      if (!done && lane % 4 == 0) {
        args.state_maximum[at] = maximum[i][half];
        args.state_sum[at] = sum[i][half];
      }
      const float factor = 1.0f / sum[i][half];
#pragma unroll
      for (int j = 0; j < C::kDim / 8; ++j) {
        const int column = 8 * j + lane % 4 * 2;
        if (column >= d) continue;
        const float low = out[i][j][2 * half];
        const float high = out[i][j][2 * half + 1];
        if (!done) {
          *reinterpret_cast<float2*>(args.state_out + at * d + column) = make_float2(low, high);
        } else if (args.out_is_bf16) {
          *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(args.out) + at * d + column) =
              PackBf16(low * factor, high * factor);
        } else {
          *reinterpret_cast<float2*>(static_cast<float*>(args.out) + at * d + column) =
              make_float2(low * factor, high * factor);
        }
      }
    }
  }
}

// Calls body(Config) with the one for heads of that width.
template <typename Body>
auto WithConfig(int32_t head_dim, const Body& body) {
  if (head_dim <= Dim64::kDim) return body(Dim64());
  if (head_dim <= Dim128::kDim) return body(Dim128());
  return body(Dim256());
}

}  // namespace

int32_t AttendItemRows(int32_t head_dim) {
  return WithConfig(head_dim, [](auto config) { return decltype(config)::kRows; });
}

void AttendTiles(const AttendTilesArgs& args, cudaStream_t stream) {
  if (args.num_items == 0) return;
  const dim3 grid(static_cast<unsigned>(args.num_items), static_cast<unsigned>(args.num_kv_heads));
  WithConfig(args.frame.head_dim, [&](auto config) {
    using C = decltype(config);
    AttendTilesKernel<C><<<grid, kThreads, C::kSharedBytes, stream>>>(args);
  });
}

cudaError_t PrepareAttendTiles(int32_t head_dim) {
  return WithConfig(head_dim, [](auto config) {
    using C = decltype(config);
    return cudaFuncSetAttribute(AttendTilesKernel<C>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                C::kSharedBytes);
  });
}

}  // namespace lorc::cuda
