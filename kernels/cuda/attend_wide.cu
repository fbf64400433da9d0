// Decode attention over wide latents: one latent per token for all heads of a group, scores and
// weighted sums on tensor cores.
//
// A CTA of 8 warps walks its stream tile by tile (32 tokens). The latent's width is split over the
// warps, so that every number is loaded by one lane and decoded once for all 16 MT query heads:
//   scores   warp (k, t): the key units of share k (of 4) for run t (of 2) of the tile; the shares'
//            partial sums meet in shared memory
//   softmax  each warp 2 MT heads, a lane per token
//   sums     each warp its share (of 8) of the value units, for the whole tile
// A ninth warp copies: K and V of a tile into rings of stages (warp_copy.cuh), which the others
// give back. One barrier per tile is all that those share beside: scores of tile i | barrier |
// softmax of tile i, sums of tile i - 1.
//
// Absorbed queries stay in registers for a chunk: [unit][step of 16 columns][tile of 16 heads], a0
// and a2 of all lanes before a1 and a3. They are f16, or bf16 for bf16 units, scaled per head to at
// most 2^14 so that no f16 overflows; query_scale undoes it and has log2(e) / sqrt(d).
//
// A maximum that grows by less than 8 (log2) is not followed: weights stay below 2^8, sums are f32.

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/cuda/attend_wide.h"
#include "kernels/cuda/fragments.cuh"
#include "kernels/cuda/warp_copy.cuh"

namespace lorc::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kKeyShares = 4;
constexpr int kTileTokens = 32;
constexpr int kScoreStride = 40;   // floats: 8 rows of pairs meet different banks
constexpr int kWeightStride = 40;  // 16-bit numbers: rows 80 bytes apart
constexpr float kSlack = 8.0f;
constexpr int kMaxStages = 8;  // and one more of values

template <int MT>
struct alignas(16) Shared {
  float scores[2][kKeyShares][16 * MT][kScoreStride];
  uint16_t weights[2][2][16 * MT][kWeightStride];  // [parity][f16, bf16]
  float rescale[2][16 * MT];
  uint64_t key_full[kMaxStages], key_free[kMaxStages];
  uint64_t value_full[kMaxStages + 1], value_free[kMaxStages + 1];
  int changed[2];  // the last tile of this parity that has a rescale other than 1
};

template <int MT>
constexpr int kSharedBytes = static_cast<int>((sizeof(Shared<MT>) + 127) / 128 * 128);

__device__ __forceinline__ void SyncReaders() {
  asm volatile("bar.sync 1, %0;" ::"n"(kWarps * 32) : "memory");
}

// Copies tile after tile of the stream into the rings.
template <int MT>
__device__ __forceinline__ void Copy(const AttendLatentParams& p, Shared<MT>& shared,
                                     std::byte* key_ring, std::byte* value_ring, int begin,
                                     int end) {
  if (begin == end) return;
  const int lane = threadIdx.x % 32;
  const int group = blockIdx.y / p.head_tiles;
  const std::byte* const key_pool = p.pool + p.key_offset + group * p.key_group_bytes;
  const std::byte* const value_pool = p.pool + p.value_offset + group * p.value_group_bytes;
  const int block_mask = (1 << p.block_shift) - 1;
  int item_index = p.pass.stream_item[blockIdx.x];
  DecodeItem item = p.pass.items[item_index];
  int item_end = p.pass.items[item_index + 1].tile_begin;
  RingPlace key, value;
  key.parity = value.parity = 1;  // every stage is free at first
  for (int tile = begin; tile < end; ++tile) {
    if (tile == item_end) {
      item = p.pass.items[++item_index];
      item_end = p.pass.items[item_index + 1].tile_begin;
    }
    const int position = (item.begin / kTileTokens + tile - item.tile_begin) * kTileTokens;
    bool there[2];
    int64_t block[2];
    int in_block[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int at = position + 16 * r;
      there[r] = at >= item.begin && at < item.end;
      in_block[r] = (at & block_mask) / 16;
      block[r] =
          there[r] ? __ldg(p.pass.table + item.table + (at >> p.block_shift)) * p.block_bytes : 0;
    }
    const auto copy = [&](const StagedGroup& units, const std::byte* pool, std::byte* stage,
                          uint64_t* full) {
      ExpectRuns(full, (there[0] + there[1]) * units.run_bytes, lane);
      // Lanes 0..15 copy the first run, the others the second.
      const int r = lane / 16;
      const std::byte* const from = pool + (r == 0 ? block[0] : block[1]);
      for (int i = lane % 16; i < (units.num_spans + 15) / 16 * 16; i += 16) {
        const bool copies = i < units.num_spans && (r == 0 ? there[0] : there[1]);
        const Span span = copies ? units.span[i] : Span{};
        CopyRun(from + span.offset + (r == 0 ? in_block[0] : in_block[1]) * span.run_stride,
                stage + r * units.run_bytes + span.stage, span.bytes, full, lane);
      }
      FinishRuns(full);
    };
    WaitForStage(&shared.key_free[key.stage], key.parity);
    copy(p.key, key_pool, key_ring + key.stage * 2 * p.key.run_bytes, &shared.key_full[key.stage]);
    key.Advance(p.stages);
    WaitForStage(&shared.value_free[value.stage], value.parity);
    copy(p.value, value_pool, value_ring + value.stage * 2 * p.value.run_bytes,
         &shared.value_full[value.stage]);
    value.Advance(p.stages + 1);
  }
}

template <int MT, int KU, int VU, int kType>
__device__ __forceinline__ void Compute(const AttendLatentParams& p, Shared<MT>& shared,
                                        const std::byte* key_ring, const std::byte* value_ring,
                                        int begin, int end) {
  constexpr int kRows = 16 * MT;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int group = blockIdx.y / p.head_tiles;
  const int head_tile = blockIdx.y % p.head_tiles;
  constexpr int kRowsPerWarp = kRows / kWarps;
  const int key_share = warp % kKeyShares;
  const int run = warp / kKeyShares;
  const int rows = min(kRows, p.rows - head_tile * kRows);
  // This warp's units.
  const int key_first = p.key.num_units * key_share / kKeyShares;
  const int key_count = p.key.num_units * (key_share + 1) / kKeyShares - key_first;
  const int value_first = p.value.num_units * warp / kWarps;
  const int value_count = p.value.num_units * (warp + 1) / kWarps - value_first;
  StagedUnit key_unit[KU], value_unit[VU];
#pragma unroll
  for (int u = 0; u < KU; ++u) {
    key_unit[u] = u < key_count ? p.key.unit[key_first + u] : StagedUnit{};
  }
#pragma unroll
  for (int u = 0; u < VU; ++u) {
    value_unit[u] = u < value_count ? p.value.unit[value_first + u] : StagedUnit{};
  }
  uint32_t query[KU][2][MT][4] = {};
  float query_scale[kRowsPerWarp];
  float maximum[kRowsPerWarp], sum[kRowsPerWarp];
  float out[MT][VU * 4][4];
  int chunk = -1;

  RingPlace key_use, value_use;

  // Sums of the tile: weights [heads, tokens] times values [tokens, columns].
  const auto add_values = [&](int tile, int item_begin, int item_end, int position) {
    const int parity = (tile - begin) & 1;
    const std::byte* const stage = value_ring + value_use.stage * 2 * p.value.run_bytes;
    WaitForStage(&shared.value_full[value_use.stage], value_use.parity);
    if (shared.changed[parity] == tile) {
#pragma unroll
      for (int m = 0; m < MT; ++m) {
        const float low = shared.rescale[parity][16 * m + lane / 4];
        const float high = shared.rescale[parity][16 * m + 8 + lane / 4];
#pragma unroll
        for (int n = 0; n < VU * 4; ++n) {
          out[m][n][0] *= low;
          out[m][n][1] *= low;
          out[m][n][2] *= high;
          out[m][n][3] *= high;
        }
      }
    }
    const bool whole = position >= item_begin && position + kTileTokens <= item_end;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      uint32_t weight[MT][4];
      int loaded = -1;
#pragma unroll
      for (int u = 0; u < VU; ++u) {
        const UnitView<kType> unit(value_unit[u]);
        if (unit.width() == 0) break;
        const bool bf16 = unit.bf16();
        if (loaded != bf16) {
          loaded = bf16;
#pragma unroll
          for (int m = 0; m < MT; ++m) {
            LoadTiles(
                SharedAddress(
                    &shared.weights[parity][loaded][16 * m + lane % 16][16 * r + lane / 16 * 8]),
                weight[m]);
          }
        }
        uint32_t pairs[8];
        unit.template Decode<false>(stage + r * p.value.run_bytes, lane, pairs);
        if (!whole) {
          // Weights of tokens that are not there are 0, but what lies there may be anything.
          uint32_t mask[2];
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            const int token = position + 16 * r + 8 * h + 2 * (lane % 4);
            mask[h] = (token >= item_begin && token < item_end ? 0xffffu : 0u) |
                      (token + 1 >= item_begin && token + 1 < item_end ? 0xffff0000u : 0u);
          }
#pragma unroll
          for (int i = 0; i < 8; ++i) pairs[i] &= mask[i % 2];
        }
#pragma unroll
        for (int n = 0; n < 4; ++n) {
#pragma unroll
          for (int m = 0; m < MT; ++m) {
            if (bf16) {
              MultiplyAdd<true>(out[m][4 * u + n], weight[m], pairs[2 * n], pairs[2 * n + 1]);
            } else {
              MultiplyAdd<false>(out[m][4 * u + n], weight[m], pairs[2 * n], pairs[2 * n + 1]);
            }
          }
        }
      }
    }
    __syncwarp();
    if (lane == 0) Arrive(&shared.value_free[value_use.stage]);
    value_use.Advance(p.stages + 1);
  };

  int tile = begin;
  int item_index = begin == end ? 0 : p.pass.stream_item[blockIdx.x];
  int slot = p.pass.stream_slot[blockIdx.x];
  while (tile < end) {
    const DecodeItem item = p.pass.items[item_index];
    const int item_tiles_end = min(end, p.pass.items[item_index + 1].tile_begin);
    const int first_position =
        (item.begin / kTileTokens + tile - item.tile_begin) * kTileTokens - tile * kTileTokens;
#pragma unroll
    for (int i = 0; i < kRowsPerWarp; ++i) maximum[i] = kNoMaximum, sum[i] = 0;
#pragma unroll
    for (int m = 0; m < MT; ++m) {
#pragma unroll
      for (int n = 0; n < VU * 4; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) out[m][n][i] = 0;
      }
    }
    const int first_tile = tile;
    chunk = -1;
    for (; tile < item_tiles_end; ++tile) {
      const int position = first_position + tile * kTileTokens;
      const int parity = (tile - begin) & 1;
      const int tile_chunk = item.chunk_base + (p.anchor == 0 ? 0 : position / p.anchor);
      if (tile_chunk != chunk) {
        chunk = tile_chunk;
        const int64_t part =
            (static_cast<int64_t>(chunk) * p.groups + group) * p.head_tiles + head_tile;
        const uint2* from = p.query + part * p.key_units * 2 * MT * 64 + lane;
#pragma unroll
        for (int u = 0; u < KU; ++u) {
          if (UnitView<kType>(key_unit[u]).width() == 0) break;
#pragma unroll
          for (int s = 0; s < 2; ++s) {
            if (s == 1 && UnitView<kType>(key_unit[u]).width() == 16) break;
#pragma unroll
            for (int m = 0; m < MT; ++m) {
#pragma unroll
              for (int r = 0; r < 2; ++r) {
                const uint2 words =
                    __ldg(from + (((p.key.index[key_first + u] * 2 + s) * MT + m) * 2 + r) * 32);
                query[u][s][m][r] = words.x;
                query[u][s][m][r + 2] = words.y;
              }
            }
          }
        }
#pragma unroll
        for (int i = 0; i < kRowsPerWarp; ++i) {
          query_scale[i] = __ldg(p.query_scale + part * kRows + warp * kRowsPerWarp + i);
        }
      }
      WaitForStage(&shared.key_full[key_use.stage], key_use.parity);
      const std::byte* const stage = key_ring + (key_use.stage * 2 + run) * p.key.run_bytes;
      {
        float score[MT][2][4];
#pragma unroll
        for (int m = 0; m < MT; ++m) {
#pragma unroll
          for (int n = 0; n < 2; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) score[m][n][i] = 0;
          }
        }
#pragma unroll
        for (int u = 0; u < KU; ++u) {
          const UnitView<kType> unit(key_unit[u]);
          if (unit.width() == 0) break;
          uint32_t pairs[8];
          unit.template Decode<true>(stage, lane, pairs);
          const bool bf16 = unit.bf16();
#pragma unroll
          for (int s = 0; s < 2; ++s) {
#pragma unroll
            for (int m = 0; m < MT; ++m) {
#pragma unroll
              for (int n = 0; n < 2; ++n) {
                if (bf16) {
                  MultiplyAdd<true>(score[m][n], query[u][s][m], pairs[4 * s + n],
                                    pairs[4 * s + 2 + n]);
                } else {
                  MultiplyAdd<false>(score[m][n], query[u][s][m], pairs[4 * s + n],
                                     pairs[4 * s + 2 + n]);
                }
              }
            }
          }
        }
#pragma unroll
        for (int m = 0; m < MT; ++m) {
#pragma unroll
          for (int n = 0; n < 2; ++n) {
            const int column = 16 * run + 8 * n + 2 * (lane % 4);
            float* row = shared.scores[parity][key_share][16 * m + lane / 4] + column;
            *reinterpret_cast<float2*>(row) = make_float2(score[m][n][0], score[m][n][1]);
            *reinterpret_cast<float2*>(row + 8 * kScoreStride) =
                make_float2(score[m][n][2], score[m][n][3]);
          }
        }
      }
      __syncwarp();
      if (lane == 0) Arrive(&shared.key_free[key_use.stage]);
      key_use.Advance(p.stages);
      SyncReaders();
      {
        const int token = position + lane;
        const bool there = token >= item.begin && token < item.end;
        float score[kRowsPerWarp];
        uint32_t grows = 0;
#pragma unroll
        for (int i = 0; i < kRowsPerWarp; ++i) {
          const int row = warp * kRowsPerWarp + i;
          score[i] = 0;
#pragma unroll
          for (int k = 0; k < kKeyShares; ++k) score[i] += shared.scores[parity][k][row][lane];
        }
#pragma unroll
        for (int i = 0; i < kRowsPerWarp; ++i) {
          const bool counts = there && warp * kRowsPerWarp + i < rows;
          score[i] = counts ? score[i] * query_scale[i] : -INFINITY;
          if (__any_sync(0xffffffffu, score[i] > maximum[i] + kSlack)) grows |= 1u << i;
        }
        float rescale[kRowsPerWarp];
#pragma unroll
        for (int i = 0; i < kRowsPerWarp; ++i) rescale[i] = 1.0f;
        if (grows != 0) {
#pragma unroll
          for (int i = 0; i < kRowsPerWarp; ++i) {
            if (grows >> i & 1) {
              float largest = score[i];
#pragma unroll
              for (int d = 16; d > 0; d /= 2) {
                largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, d));
              }
              rescale[i] = Exp2(maximum[i] - largest);
              maximum[i] = largest;
              sum[i] *= rescale[i];
            }
          }
          if (lane == 0) shared.changed[parity] = tile;
        }
        float own_rescale = rescale[0];
#pragma unroll
        for (int i = 1; i < kRowsPerWarp; ++i) own_rescale = lane == i ? rescale[i] : own_rescale;
        if (lane < kRowsPerWarp) {
          shared.rescale[parity][warp * kRowsPerWarp + lane] = own_rescale;
        }
#pragma unroll
        for (int i = 0; i < kRowsPerWarp; ++i) {
          const int row = warp * kRowsPerWarp + i;
          const float weight = Exp2(score[i] - maximum[i]);
          sum[i] += weight;
          if constexpr (kType != kBf16Units) {
            shared.weights[parity][0][row][lane] = __half_as_ushort(__float2half_rn(weight));
          }
          if constexpr (kType == kBf16Units || kType == kMixed) {
            shared.weights[parity][1][row][lane] =
                __bfloat16_as_ushort(__float2bfloat16_rn(weight));
          }
        }
      }
      if (tile > first_tile) {
        add_values(tile - 1, item.begin, item.end, position - kTileTokens);
      }
    }
    SyncReaders();
    add_values(tile - 1, item.begin, item.end, first_position + (tile - 1) * kTileTokens);

    const int64_t part = static_cast<int64_t>(slot) * gridDim.y + blockIdx.y;
#pragma unroll
    for (int i = 0; i < kRowsPerWarp; ++i) {
      float total = sum[i];
#pragma unroll
      for (int d = 16; d > 0; d /= 2) total += __shfl_xor_sync(0xffffffffu, total, d);
      if (lane == 0) {
        p.partials.state[part * kRows + warp * kRowsPerWarp + i] = make_float2(maximum[i], total);
      }
    }
#pragma unroll
    for (int u = 0; u < VU; ++u) {
      const UnitView<kType> unit(value_unit[u]);
      if (unit.width() == 0) break;
#pragma unroll
      for (int m = 0; m < MT; ++m) {
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          if (n >= 2 && unit.width() == 16) break;
          const int row = 16 * m + lane / 4;
          float* to = p.partials.out + (part * kRows + row) * p.partials.width +
                      p.value.column[value_first + u] + 8 * n + 2 * (lane % 4);
          const float(&o)[4] = out[m][4 * u + n];
          if (row < rows) *reinterpret_cast<float2*>(to) = make_float2(o[0], o[1]);
          if (row + 8 < rows) {
            *reinterpret_cast<float2*>(to + 8 * p.partials.width) = make_float2(o[2], o[3]);
          }
        }
      }
    }
    ++slot;
    ++item_index;
  }
}

// 128 threads that copy, of which one warp does, and 256 that compute.
constexpr int kThreads = (kWarps + 4) * 32;

template <int MT, int KU, int VU, int kType>
__global__ void __launch_bounds__(kThreads, 1)
    AttendWideKernel(const __grid_constant__ AttendLatentParams p) {
  extern __shared__ __align__(128) std::byte memory[];
  auto& shared = *reinterpret_cast<Shared<MT>*>(memory);
  std::byte* const key_ring = memory + kSharedBytes<MT>;
  std::byte* const value_ring = key_ring + p.stages * 2 * p.key.run_bytes;
  const int begin = p.pass.stream_begin[blockIdx.x];
  const int end = p.pass.stream_begin[blockIdx.x + 1];
  if (threadIdx.x < 2) shared.changed[threadIdx.x] = -1;
  if (threadIdx.x < kMaxStages) {
    InitBarrier(&shared.key_full[threadIdx.x], kCopyArrivals);
    InitBarrier(&shared.key_free[threadIdx.x], kWarps);
  }
  if (threadIdx.x <= kMaxStages) {
    InitBarrier(&shared.value_full[threadIdx.x], kCopyArrivals);
    InitBarrier(&shared.value_free[threadIdx.x], kWarps);
  }
  FenceBarriers();
  __syncthreads();
  if (threadIdx.x >= kWarps * 32) {
    GiveRegisters<40>();
    if (threadIdx.x < (kWarps + 1) * 32) {
      Copy<MT>(p, shared, key_ring, value_ring, begin, end);
    }
  } else {
    TakeRegisters<232>();
    Compute<MT, KU, VU, kType>(p, shared, key_ring, value_ring, begin, end);
  }
}

template <int MT, int KU, int VU, int kType>
cudaError_t Launch(AttendLatentParams params, const LatentUnits& units, int num_streams,
                   int shared_bytes, cudaStream_t stream) {
  params.head_tiles = (params.rows + 16 * MT - 1) / (16 * MT);
  params.key_units = units.key_count;
  const bool single_run = params.block_shift == 4;
  params.key = StageUnits(units.key, units.key_count, single_run);
  params.value = StageUnits(units.value, units.value_count, single_run);
  const int key_bytes = 2 * params.key.run_bytes;
  const int value_bytes = 2 * params.value.run_bytes;
  params.stages = std::min(
      kMaxStages, (shared_bytes - kSharedBytes<MT> - value_bytes) / (key_bytes + value_bytes));
  if (params.stages < 2) return cudaErrorInvalidConfiguration;
  if (num_streams == 0) return cudaSuccess;
  const int bytes =
      kSharedBytes<MT> + params.stages * key_bytes + (params.stages + 1) * value_bytes;
  const auto kernel = AttendWideKernel<MT, KU, VU, kType>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const dim3 grid(num_streams, params.groups * params.head_tiles);
  kernel<<<grid, kThreads, bytes, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace

int WideTileRows(int rows, const LatentUnits& units) {
  return rows <= 16 || units.key_count > 4 * kKeyShares || units.value_count > 2 * kWarps ? 16 : 32;
}

cudaError_t LaunchAttendWide(const AttendLatentParams& params, const LatentUnits& units,
                             int num_streams, int shared_bytes, cudaStream_t stream) {
  const int key_most = (units.key_count + kKeyShares - 1) / kKeyShares;
  const int value_most = (units.value_count + kWarps - 1) / kWarps;
  const auto launch = [&](auto run) {
    return run(params, units, num_streams, shared_bytes, stream);
  };
  const int type = UniformType(units);
  const bool even = units.key_count % kKeyShares == 0 && units.value_count % kWarps == 0;
  if (WideTileRows(params.rows, units) == 32) {
    if (even && key_most == 4 && value_most == 2) {
      if (type == kBf16Units) return launch(Launch<2, 4, 2, kBf16Units>);
      if (type == kInt8Units) return launch(Launch<2, 4, 2, kInt8Units>);
    }
    if (!HasBf16(units) && key_most <= 4 && value_most <= 2) {
      return key_most <= 2 ? launch(Launch<2, 2, 2, kMixedF16>)
                           : launch(Launch<2, 4, 2, kMixedF16>);
    }
    if (key_most <= 4 && value_most <= 2) return launch(Launch<2, 4, 2, kMixed>);
    return cudaErrorInvalidConfiguration;
  }
  if (!HasBf16(units) && key_most <= 4 && value_most <= 2) {
    return key_most <= 2 && value_most <= 1 ? launch(Launch<1, 2, 1, kMixedF16>)
                                            : launch(Launch<1, 4, 2, kMixedF16>);
  }
  if (key_most <= 4 && value_most <= 2) return launch(Launch<1, 4, 2, kMixed>);
  if (key_most <= 8 && value_most <= 4) return launch(Launch<1, 8, 4, kMixed>);
  return cudaErrorInvalidConfiguration;
}

bool WideTakes(int rows, const LatentUnits& units, int shared_bytes) {
  if (units.key_count <= 0 || units.value_count <= 0) return false;
  AttendLatentParams params;
  params.groups = 1;
  params.rows = rows;
  return LaunchAttendWide(params, units, 0, shared_bytes, nullptr) == cudaSuccess;
}

}  // namespace lorc::cuda
