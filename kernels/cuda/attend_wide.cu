// Decode attention over wide latents: one latent per token for all heads of a group, scores and
// weighted sums on tensor cores.
//
// A CTA of 8 warps walks its stream tile by tile (32 tokens). The latent's width is split over the
// warps, so that every number is loaded by one lane and decoded once for all 16 MT query heads:
//   scores   warp (k, t): the key units of share k (of 4) for run t (of 2) of the tile; the shares'
//            partial sums meet in shared memory
//   softmax  each warp 2 MT heads, a lane per token
//   sums     each warp its share (of 8) of the value units, for the whole tile
// Loads are a warp's own affair (warp_copy.cuh), so one barrier per tile is all that the warps share:
// scores of tile i | barrier | softmax of tile i, sums of tile i - 1.
//
// Absorbed queries stay in registers for a chunk: [unit][step of 16 columns][tile of 16 heads], with
// the words of a lane in the order a0 a2 a1 a3. They are f16, or bf16 for bf16 units, scaled per
// head to at most 2^14 so that no f16 overflows; query_scale undoes it and has log2(e) / sqrt(d).
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
  uint64_t key_full[kWarps][kMaxStages];
  uint64_t value_full[kWarps][kMaxStages + 1];
  int changed[2];  // the last tile of this parity that has a rescale other than 1
};

// The tile that a warp loads next, and the item it belongs to.
struct Cursor {
  int tile;
  int item;
  DecodeItem at;
  int next_begin;  // first tile of the next item

  __device__ void Load(const DecodePass& pass, int new_item) {
    item = new_item;
    at = pass.items[item];
    next_begin = pass.items[item + 1].tile_begin;
  }
  // Position of the tile's first token.
  __device__ int Position() const {
    return (at.begin / kTileTokens + tile - at.tile_begin) * kTileTokens;
  }
  __device__ void Advance(const DecodePass& pass, int end) {
    if (++tile == next_begin && tile < end) Load(pass, item + 1);
  }
};

template <int MT, int KU, int VU, int kType>
__global__ void __launch_bounds__(kWarps * 32, 1)
    AttendWideKernel(const __grid_constant__ AttendLatentParams p) {
  extern __shared__ __align__(128) std::byte memory[];
  auto& shared = *reinterpret_cast<Shared<MT>*>(memory);
  std::byte* const ring = memory + (sizeof(Shared<MT>) + 127) / 128 * 128;
  constexpr int kRows = 16 * MT;
  constexpr int kRowsPerWarp = kRows / kWarps;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int key_share = warp % kKeyShares;
  const int run = warp / kKeyShares;
  const int group = blockIdx.y / p.head_tiles;
  const int head_tile = blockIdx.y % p.head_tiles;
  const int rows = min(kRows, p.rows - head_tile * kRows);
  const int begin = p.pass.stream_begin[blockIdx.x];
  const int end = p.pass.stream_begin[blockIdx.x + 1];
  if (begin == end) return;
  const std::byte* const key_pool = p.pool + p.key_offset + group * p.key_group_bytes;
  const std::byte* const value_pool = p.pool + p.value_offset + group * p.value_group_bytes;
  const int block_mask = (1 << p.block_shift) - 1;
  const WarpShare& key_units = p.key[key_share];
  const WarpShare& value_units = p.value[warp];
  const int value_stages = p.stages + 1;
  std::byte* const key_ring = ring + warp * p.stages * p.key_stage_bytes;
  std::byte* const value_ring = ring + kWarps * p.stages * p.key_stage_bytes +
                                warp * value_stages * p.value_stage_bytes;

  if (threadIdx.x < 2) shared.changed[threadIdx.x] = -1;
  if (lane == 0) {
    for (int s = 0; s < p.stages; ++s) InitBarrier(&shared.key_full[warp][s]);
    for (int s = 0; s < value_stages; ++s) InitBarrier(&shared.value_full[warp][s]);
    FenceBarriers();
  }
  __syncwarp();

  // This lane's spans.
  const Span key_span = lane < kMaxSpans ? key_units.span[lane] : Span{};
  const Span value_span = lane < kMaxSpans ? value_units.span[lane] : Span{};
  Cursor next;
  RingPlace key_load, value_load;
  int next_block[2];  // of the tile at the cursor, -1: nothing to read
  const auto look_up = [&]() {
    const int position = next.Position();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int at = position + 16 * r;
      const bool there = next.tile < end && at >= next.at.begin && at < next.at.end;
      next_block[r] = there ? __ldg(p.pass.table + next.at.table + (at >> p.block_shift)) : -1;
    }
  };
  next.tile = begin;
  next.Load(p.pass, p.pass.stream_item[blockIdx.x]);
  look_up();
  const auto load_keys = [&]() {
    if (next.tile >= end) return;
    const int block = run == 0 ? next_block[0] : next_block[1];
    const int in_block = (next.Position() + 16 * run & block_mask) / 16;
    CopySpans(key_pool + max(block, 0) * p.block_bytes + key_span.offset +
                  in_block * key_span.run_stride,
              key_ring + key_load.stage * p.key_stage_bytes + key_span.stage,
              block < 0 ? 0 : key_span.bytes, block < 0 ? 0 : key_units.run_bytes,
              &shared.key_full[warp][key_load.stage], lane);
    key_load.Advance(p.stages);
  };
  // After load_keys: goes on to the next tile.
  const auto load_values = [&]() {
    if (next.tile >= end) return;
    uint64_t* const full = &shared.value_full[warp][value_load.stage];
    std::byte* const stage = value_ring + value_load.stage * p.value_stage_bytes;
    const int position = next.Position();
    ExpectRuns(full, ((next_block[0] >= 0) + (next_block[1] >= 0)) * value_units.run_bytes, lane);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int block = next_block[r];
      const int in_block = (position + 16 * r & block_mask) / 16;
      CopyRun(value_pool + max(block, 0) * p.block_bytes + value_span.offset +
                  in_block * value_span.run_stride,
              stage + r * value_units.run_bytes + value_span.stage,
              block < 0 ? 0 : value_span.bytes, full, lane);
    }
    FinishRuns(full);
    value_load.Advance(value_stages);
    next.Advance(p.pass, end);
    look_up();
  };
  for (int s = 0; s < p.stages; ++s) {
    load_keys();
    load_values();
  }

  StagedUnit key_unit[KU], value_unit[VU];
#pragma unroll
  for (int u = 0; u < KU; ++u) key_unit[u] = key_units.unit[u];
#pragma unroll
  for (int u = 0; u < VU; ++u) value_unit[u] = value_units.unit[u];
  uint4 query[KU][2][MT];
  float query_scale[kRowsPerWarp];
  float maximum[kRowsPerWarp], sum[kRowsPerWarp];
  float out[MT][VU * 4][4];
  int chunk = -1;

  RingPlace key_use, value_use;

  // Sums of the tile: weights [heads, tokens] times values [tokens, columns].
  const auto add_values = [&](int tile, int item_begin, int item_end, int position) {
    const int parity = (tile - begin) & 1;
    const std::byte* const stage = value_ring + value_use.stage * p.value_stage_bytes;
    WaitForStage(&shared.value_full[warp][value_use.stage], value_use.parity);
    value_use.Advance(value_stages);
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
            LoadMatrix4(weight[m], &shared.weights[parity][loaded][16 * m + lane % 16]
                                                  [16 * r + lane / 16 * 8]);
          }
        }
        uint32_t pairs[8];
        unit.template Decode<false>(stage + r * value_units.run_bytes, lane, pairs);
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
          if (n >= 2 && unit.width() == 16) break;
#pragma unroll
          for (int m = 0; m < MT; ++m) {
            if (bf16) {
              Mma<true>(out[m][4 * u + n], weight[m], pairs[2 * n], pairs[2 * n + 1]);
            } else {
              Mma<false>(out[m][4 * u + n], weight[m], pairs[2 * n], pairs[2 * n + 1]);
            }
          }
        }
      }
    }
  };

  int tile = begin;
  int item_index = p.pass.stream_item[blockIdx.x];
  int slot = p.pass.stream_slot[blockIdx.x];
  while (tile < end) {
    const DecodeItem item = p.pass.items[item_index];
    const int item_tiles_end = min(end, p.pass.items[item_index + 1].tile_begin);
    const int first_position =
        (item.begin / kTileTokens + tile - item.tile_begin) * kTileTokens - tile * kTileTokens;
#pragma unroll
    for (int i = 0; i < kRowsPerWarp; ++i) maximum[i] = -INFINITY, sum[i] = 0;
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
        const int64_t part = (static_cast<int64_t>(chunk) * p.groups + group) * p.head_tiles +
                             head_tile;
        const uint4* from = p.query + part * p.key_units * 2 * MT * 32 + lane;
#pragma unroll
        for (int u = 0; u < KU; ++u) {
          if (UnitView<kType>(key_unit[u]).width() == 0) break;
#pragma unroll
          for (int s = 0; s < 2; ++s) {
#pragma unroll
            for (int m = 0; m < MT; ++m) {
              query[u][s][m] = __ldg(from + ((key_units.unit_index[u] * 2 + s) * MT + m) * 32);
            }
          }
        }
#pragma unroll
        for (int i = 0; i < kRowsPerWarp; ++i) {
          query_scale[i] = __ldg(p.query_scale + part * kRows + warp * kRowsPerWarp + i);
        }
      }
      WaitForStage(&shared.key_full[warp][key_use.stage], key_use.parity);
      const std::byte* const stage = key_ring + key_use.stage * p.key_stage_bytes;
      key_use.Advance(p.stages);
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
            if (s == 1 && unit.width() == 16) break;
#pragma unroll
            for (int m = 0; m < MT; ++m) {
              const uint32_t a[4] = {query[u][s][m].x, query[u][s][m].z, query[u][s][m].y,
                                     query[u][s][m].w};
#pragma unroll
              for (int n = 0; n < 2; ++n) {
                if (bf16) {
                  Mma<true>(score[m][n], a, pairs[4 * s + n], pairs[4 * s + 2 + n]);
                } else {
                  Mma<false>(score[m][n], a, pairs[4 * s + n], pairs[4 * s + 2 + n]);
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
      load_keys();
      __syncthreads();
      {
        const int token = position + lane;
        const bool there = token >= item.begin && token < item.end;
        bool changed = false;
#pragma unroll
        for (int i = 0; i < kRowsPerWarp; ++i) {
          const int row = warp * kRowsPerWarp + i;
          float score = 0;
#pragma unroll
          for (int k = 0; k < kKeyShares; ++k) score += shared.scores[parity][k][row][lane];
          score = there && row < rows ? score * query_scale[i] : -INFINITY;
          float largest = score;
#pragma unroll
          for (int d = 16; d > 0; d /= 2) {
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, d));
          }
          float rescale = 1.0f;
          if (largest > maximum[i] + kSlack) {
            rescale = exp2f(maximum[i] - largest);
            maximum[i] = largest;
            changed = true;
          }
          const float weight = score == -INFINITY ? 0.0f : exp2f(score - maximum[i]);
          sum[i] = sum[i] * rescale + weight;
          shared.weights[parity][0][row][lane] = __half_as_ushort(__float2half_rn(weight));
          shared.weights[parity][1][row][lane] = __bfloat16_as_ushort(__float2bfloat16_rn(weight));
          if (lane == 0) shared.rescale[parity][row] = rescale;
        }
        if (changed && lane == 0) shared.changed[parity] = tile;
      }
      if (tile > first_tile) {
        add_values(tile - 1, item.begin, item.end, position - kTileTokens);
        __syncwarp();
      }
      load_values();
    }
    __syncthreads();
    add_values(tile - 1, item.begin, item.end, first_position + (tile - 1) * kTileTokens);
    __syncwarp();

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
          float* to = p.partials.out + (part * kRows + row) * p.partials.width + value_units.column[u] +
                      8 * n + 2 * (lane % 4);
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

template <int MT, int KU, int VU, int kType>
cudaError_t Launch(AttendLatentParams params, const LatentUnits& units, int num_streams,
                   int shared_bytes, cudaStream_t stream) {
  constexpr int kFixed = static_cast<int>((sizeof(Shared<MT>) + 127) / 128 * 128);
  params.head_tiles = (params.rows + 16 * MT - 1) / (16 * MT);
  params.key_units = units.key_count;
  const bool single_run = params.block_shift == 4;
  if (!DealUnits(units.key, units.key_count, single_run, kKeyShares, KU, params.key) ||
      !DealUnits(units.value, units.value_count, single_run, kWarps, VU, params.value)) {
    return cudaErrorInvalidConfiguration;
  }
  params.key_stage_bytes = params.value_stage_bytes = 0;
  for (int w = 0; w < kWarps; ++w) {
    params.key_stage_bytes =
        std::max(params.key_stage_bytes, params.key[w % kKeyShares].run_bytes);
    params.value_stage_bytes = std::max(params.value_stage_bytes, 2 * params.value[w].run_bytes);
  }
  const int key_bytes = kWarps * params.key_stage_bytes;
  const int value_bytes = kWarps * params.value_stage_bytes;
  params.stages =
      std::min(kMaxStages, (shared_bytes - kFixed - value_bytes) / (key_bytes + value_bytes));
  if (params.stages < 2) return cudaErrorInvalidConfiguration;
  if (num_streams == 0) return cudaSuccess;
  const int bytes = kFixed + params.stages * key_bytes + (params.stages + 1) * value_bytes;
  const auto kernel = AttendWideKernel<MT, KU, VU, kType>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const dim3 grid(num_streams, params.groups * params.head_tiles);
  kernel<<<grid, kWarps * 32, bytes, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace

int WideTileRows(int rows) { return rows <= 16 ? 16 : 32; }

cudaError_t LaunchAttendWide(const AttendLatentParams& params, const LatentUnits& units,
                             int num_streams, int shared_bytes, cudaStream_t stream) {
  const int key_most = (units.key_count + kKeyShares - 1) / kKeyShares;
  const int value_most = (units.value_count + kWarps - 1) / kWarps;
  const auto launch = [&](auto run) { return run(params, units, num_streams, shared_bytes, stream); };
  const int type = UniformType(units);
  const bool even = units.key_count % kKeyShares == 0 && units.value_count % kWarps == 0;
  if (WideTileRows(params.rows) == 32) {
    if (even && key_most == 4 && value_most == 2) {
      if (type == kBf16Units) return launch(Launch<2, 4, 2, kBf16Units>);
      if (type == kInt8Units) return launch(Launch<2, 4, 2, kInt8Units>);
    }
    if (key_most <= 2 && value_most <= 2) return launch(Launch<2, 2, 2, kMixed>);
    if (key_most <= 4 && value_most <= 2) return launch(Launch<2, 4, 2, kMixed>);
    return cudaErrorInvalidConfiguration;
  }
  if (key_most <= 2 && value_most <= 1) return launch(Launch<1, 2, 1, kMixed>);
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
