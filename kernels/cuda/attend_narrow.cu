// Decode attention where a group of few heads has numbers of its own: a warp per group.
//
// Bound: bytes. The heads of a group fill part of the 16 rows of a tensor-core tile; that costs
// nothing, since a warp has time for some hundred instructions while 16 tokens arrive.
//
// Warps share nothing but the list of tiles. Each keeps its own ring of stages (warp_copy.cuh) and
// its own running softmax; scores become weights in registers, since the layout of a product's
// result is that of the next one's first operand.

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/cuda/attend_narrow.h"
#include "kernels/cuda/fragments.cuh"
#include "kernels/cuda/warp_copy.cuh"

namespace lorc::cuda {
namespace {

constexpr int kMostWarps = 8;
constexpr int kTileTokens = 16;
constexpr int kMaxStages = 12;
constexpr float kSlack = 8.0f;
constexpr float kLargest = 16384.0f;

// R(distance) q at column c of a head of width d.
__device__ __forceinline__ float Rotated(const float* q, const float* cosines, const float* sines,
                                         int d, int c) {
  const int half = d / 2;
  return c < half ? q[c] * cosines[c] - q[c + half] * sines[c]
                  : q[c] * cosines[c - half] + q[c - half] * sines[c - half];
}

// What a row of four lanes' sums of squares says: queries are scaled to a norm of 2^14.
__device__ __forceinline__ float QueryScale(float squares) {
  squares += __shfl_xor_sync(0xffffffffu, squares, 1);
  squares += __shfl_xor_sync(0xffffffffu, squares, 2);
  return squares > 0 ? kLargest * rsqrtf(squares) : 1.0f;
}

// Rotated queries of a head width of 32 KU, whose halves are half of the units each. bf16 needs no
// scale.
template <int KU, int kType>
__device__ __forceinline__ void RotateQueries(const float* const (&q)[2], const float* cosines,
                                              const float* sines, int lane, float softmax_scale,
                                              uint32_t (&query)[KU][2][4],
                                              float (&query_scale)[2]) {
  constexpr bool kBf16 = kType == kBf16Units;
  constexpr int kHalf = 16 * KU;
  float scale[2] = {1.0f, 1.0f};
  const auto load = [](const float* from) { return __ldg(reinterpret_cast<const float2*>(from)); };
  if constexpr (!kBf16) {
    float squares[2] = {0, 0};
#pragma unroll
    for (int c = 0; c < 2 * kHalf; c += 8) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float2 x = load(q[r] + c + 2 * (lane % 4));
        squares[r] += x.x * x.x + x.y * x.y;
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) scale[r] = QueryScale(squares[r]);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) query_scale[r] = softmax_scale / scale[r];
#pragma unroll
  for (int u = 0; u < KU / 2; ++u) {
#pragma unroll
    for (int s = 0; s < 2; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int r = i % 2;
        const int c = 32 * u + 16 * s + 8 * (i / 2) + 2 * (lane % 4);
        const float2 x = load(q[r] + c);
        const float2 y = load(q[r] + c + kHalf);
        const float2 cosine = load(cosines + c);
        const float2 sine = load(sines + c);
        query[u][s][i] = Pack<kBf16>(scale[r] * (x.x * cosine.x - y.x * sine.x),
                                     scale[r] * (x.y * cosine.y - y.y * sine.y));
        query[u + KU / 2][s][i] = Pack<kBf16>(scale[r] * (y.x * cosine.x + x.x * sine.x),
                                              scale[r] * (y.y * cosine.y + x.y * sine.y));
      }
    }
  }
}

template <int KU, int VU, int kType>
__global__ void __launch_bounds__(kMostWarps * 32, 1)
    AttendNarrowKernel(const __grid_constant__ AttendLatentParams p) {
  extern __shared__ __align__(128) std::byte memory[];
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int group = blockIdx.y * (blockDim.x / 32) + warp;
  if (group >= p.groups) return;
  const int begin = p.pass.stream_begin[blockIdx.x];
  const int end = p.pass.stream_begin[blockIdx.x + 1];
  const StagedGroup& key_units = p.key;
  const StagedGroup& value_units = p.value;
  const int stage_bytes = key_units.run_bytes + value_units.run_bytes;
  auto* const full = reinterpret_cast<uint64_t*>(memory) + warp * kMaxStages;
  std::byte* const ring =
      memory + kMostWarps * kMaxStages * sizeof(uint64_t) + warp * p.stages * stage_bytes;
  const std::byte* const key_pool = p.pool + p.key_offset + group * p.key_group_bytes;
  const std::byte* const value_pool = p.pool + p.value_offset + group * p.value_group_bytes;
  const int block_mask = (1 << p.block_shift) - 1;

  if (lane == 0) {
    for (int s = 0; s < p.stages; ++s) InitBarrier(full + s, kCopyArrivals);
    FenceBarriers();
  }
  __syncwarp();

  // Half of the lanes copy spans of K, the others of V: at most 8 units have at most 16 spans.
  const Span span = lane < 16 ? key_units.span[lane] : value_units.span[lane - 16];
  const std::byte* const pool = (lane < 16 ? key_pool : value_pool) + span.offset;
  std::byte* const to = ring + (lane < 16 ? 0 : key_units.run_bytes) + span.stage;
  RingPlace load;
  int load_tile = begin;
  int load_item = p.pass.stream_item[blockIdx.x];
  int load_position = 0, load_table = 0, load_item_end = 0;
  int next_block = 0;
  const auto enter_item = [&]() {
    const DecodeItem& item = p.pass.items[load_item];
    load_position = item.begin + (load_tile - item.tile_begin) * kTileTokens;
    load_table = item.table;
    load_item_end = p.pass.items[load_item + 1].tile_begin;
  };
  const auto look_up = [&]() {
    next_block = __ldg(p.pass.table + load_table + (load_position >> p.block_shift));
  };
  if (begin < end) {
    enter_item();
    look_up();
  }
  const auto issue = [&]() {
    if (load_tile >= end) return;
    const int in_block = (load_position & block_mask) / 16;
    CopySpans(pool + next_block * p.block_bytes + in_block * span.run_stride,
              to + load.stage * stage_bytes, span.bytes, stage_bytes, full + load.stage, lane);
    load.Advance(p.stages);
    load_position += kTileTokens;
    if (++load_tile == end) return;
    if (load_tile == load_item_end) {
      ++load_item;
      enter_item();
    }
    look_up();
  };
  for (int s = 0; s + 1 < p.stages; ++s) issue();

  StagedUnit key_unit[KU], value_unit[VU];
#pragma unroll
  for (int u = 0; u < KU; ++u) key_unit[u] = key_units.unit[u];
#pragma unroll
  for (int u = 0; u < VU; ++u) value_unit[u] = value_units.unit[u];
  RingPlace use;
  uint32_t query[KU][2][4] = {};
  float query_scale[2] = {0, 0};
  int tile = begin;
  int item_index = p.pass.stream_item[blockIdx.x];
  int slot = p.pass.stream_slot[blockIdx.x];
  while (tile < end) {
    const DecodeItem item = p.pass.items[item_index];
    const int item_end = min(end, p.pass.items[item_index + 1].tile_begin);
    float maximum[2] = {kNoMaximum, kNoMaximum};
    float sum[2] = {0, 0};
    float out[VU * 4][4];
#pragma unroll
    for (int n = 0; n < VU * 4; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out[n][i] = 0;
    }
    int chunk = -1;
    for (; tile < item_end; ++tile) {
      const int position = item.begin + (tile - item.tile_begin) * kTileTokens;
      const int in_row = p.anchor == 0 ? 0 : position / p.anchor;
      if (in_row != chunk) {
        chunk = in_row;
        if (p.raw_query == nullptr) {
          const int64_t part = static_cast<int64_t>(item.chunk_base + chunk) * p.groups + group;
          const uint2* from = p.query + part * p.key_units * 2 * 64 + lane;
#pragma unroll
          for (int u = 0; u < KU; ++u) {
            if (UnitView<kType>(key_unit[u]).width() == 0) break;
#pragma unroll
            for (int s = 0; s < 2; ++s) {
              if (s == 1 && UnitView<kType>(key_unit[u]).width() == 16) break;
#pragma unroll
              for (int r = 0; r < 2; ++r) {
                const uint2 words = __ldg(from + ((key_units.index[u] * 2 + s) * 2 + r) * 32);
                query[u][s][r] = words.x;
                query[u][s][r + 2] = words.y;
              }
            }
          }
          query_scale[0] = __ldg(p.query_scale + part * 16 + lane / 4);
          query_scale[1] = __ldg(p.query_scale + part * 16 + lane / 4 + 8);
        } else {
          const int d = p.head_dim;
          const int distance = item.position - chunk * p.anchor;
          const float* const cosines = p.rope_cos + static_cast<int64_t>(distance) * (d / 2);
          const float* const sines = p.rope_sin + static_cast<int64_t>(distance) * (d / 2);
          const float* q[2];
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            q[r] = p.raw_query + item.row * p.raw_stride +
                   static_cast<int64_t>(group * p.rows + min(lane / 4 + 8 * r, p.rows - 1)) * d;
          }
          if (kType >= 0 && d == 32 * KU) {
            RotateQueries<KU, kType>(q, cosines, sines, lane, p.softmax_scale, query, query_scale);
          } else {
            float scale[2];
#pragma unroll
            for (int r = 0; r < 2; ++r) {
              float squares = 0;
              for (int c = lane % 4; c < d; c += 4) squares += q[r][c] * q[r][c];
              scale[r] = QueryScale(squares);
              query_scale[r] = p.softmax_scale / scale[r];
            }
#pragma unroll
            for (int u = 0; u < KU; ++u) {
              const UnitView<kType> unit(key_unit[u]);
              if (unit.width() == 0) break;
              const bool bf16 = unit.bf16();
#pragma unroll
              for (int s = 0; s < 2; ++s) {
                if (s == 1 && unit.width() == 16) break;
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                  const int r = i % 2;
                  const int c = key_units.column[u] + 16 * s + 8 * (i / 2) + 2 * (lane % 4);
                  const float low = scale[r] * Rotated(q[r], cosines, sines, d, c);
                  const float high = scale[r] * Rotated(q[r], cosines, sines, d, c + 1);
                  query[u][s][i] = bf16 ? Pack<true>(low, high) : Pack<false>(low, high);
                }
              }
            }
          }
        }
      }
      WaitForStage(full + use.stage, use.parity);
      __syncwarp();
      issue();
      const std::byte* const stage = ring + use.stage * stage_bytes;
      use.Advance(p.stages);

      float score[2][4] = {};
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
          for (int n = 0; n < 2; ++n) {
            if (bf16) {
              MultiplyAdd<true>(score[n], query[u][s], pairs[4 * s + n], pairs[4 * s + 2 + n]);
            } else {
              MultiplyAdd<false>(score[n], query[u][s], pairs[4 * s + n], pairs[4 * s + 2 + n]);
            }
          }
        }
      }
      const bool whole = position + kTileTokens <= item.end;
      float largest[2] = {-INFINITY, -INFINITY};
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int token = position + 8 * n + 2 * (lane % 4) + i % 2;
          score[n][i] = whole || token < item.end ? score[n][i] * query_scale[i / 2] : -INFINITY;
          largest[i / 2] = fmaxf(largest[i / 2], score[n][i]);
        }
      }
      bool grows = false;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        largest[r] = fmaxf(largest[r], __shfl_xor_sync(0xffffffffu, largest[r], 1));
        largest[r] = fmaxf(largest[r], __shfl_xor_sync(0xffffffffu, largest[r], 2));
        grows = grows || largest[r] > maximum[r] + kSlack;
      }
      if (__any_sync(0xffffffffu, grows)) {
        float rescale[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const float next = fmaxf(maximum[r], largest[r]);
          rescale[r] = Exp2(maximum[r] - next);
          maximum[r] = next;
          sum[r] *= rescale[r];
        }
#pragma unroll
        for (int n = 0; n < VU * 4; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) out[n][i] *= rescale[i / 2];
        }
      }
      float weight[2][4];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          weight[n][i] = Exp2(score[n][i] - maximum[i / 2]);
          sum[i / 2] += weight[n][i];
        }
      }
      uint32_t packed[4];
      int packed_bf16 = -1;
#pragma unroll
      for (int u = 0; u < VU; ++u) {
        const UnitView<kType> unit(value_unit[u]);
        if (unit.width() == 0) break;
        const bool bf16 = unit.bf16();
        if (packed_bf16 != bf16) {
          packed_bf16 = bf16;
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const float low = weight[i / 2][i % 2 * 2];
            const float high = weight[i / 2][i % 2 * 2 + 1];
            packed[i] = bf16 ? Pack<true>(low, high) : Pack<false>(low, high);
          }
        }
        uint32_t pairs[8];
        unit.template Decode<false>(stage + key_units.run_bytes, lane, pairs);
        if (!whole) {
          // Weights of tokens that are not there are 0, but what lies there may be anything.
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            const int token = position + 8 * h + 2 * (lane % 4);
            const uint32_t mask =
                (token < item.end ? 0xffffu : 0u) | (token + 1 < item.end ? 0xffff0000u : 0u);
#pragma unroll
            for (int i = h; i < 8; i += 2) pairs[i] &= mask;
          }
        }
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          if (bf16) {
            MultiplyAdd<true>(out[4 * u + n], packed, pairs[2 * n], pairs[2 * n + 1]);
          } else {
            MultiplyAdd<false>(out[4 * u + n], packed, pairs[2 * n], pairs[2 * n + 1]);
          }
        }
      }
    }

    const int64_t part = static_cast<int64_t>(slot) * p.groups + group;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
      sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
      const int row = lane / 4 + 8 * r;
      if (row < p.rows) {
        if (lane % 4 == 0) p.partials.state[part * 16 + row] = make_float2(maximum[r], sum[r]);
        float* const out_row =
            p.partials.out + (part * 16 + row) * p.partials.width + 2 * (lane % 4);
#pragma unroll
        for (int u = 0; u < VU; ++u) {
          const UnitView<kType> unit(value_unit[u]);
          if (unit.width() == 0) break;
#pragma unroll
          for (int n = 0; n < 4; ++n) {
            if (n >= 2 && unit.width() == 16) break;
            *reinterpret_cast<float2*>(out_row + value_units.column[u] + 8 * n) =
                make_float2(out[4 * u + n][2 * r], out[4 * u + n][2 * r + 1]);
          }
        }
      }
    }
    ++slot;
    ++item_index;
  }
}

template <int KU, int VU, int kType>
cudaError_t Launch(AttendLatentParams params, const LatentUnits& units, int num_streams,
                   int shared_bytes, cudaStream_t stream) {
  params.head_tiles = 1;
  params.key_units = units.key_count;
  const bool single_run = params.block_shift == 4;
  params.key = StageUnits(units.key, units.key_count, single_run);
  params.value = StageUnits(units.value, units.value_count, single_run);
  const int stage_bytes = params.key.run_bytes + params.value.run_bytes;
  constexpr int kFixed = kMostWarps * kMaxStages * sizeof(uint64_t);
  const int warps = std::min(kMostWarps, params.groups);
  params.stages = std::min(kMaxStages, (shared_bytes - kFixed) / (warps * stage_bytes));
  if (params.stages < 2) return cudaErrorInvalidConfiguration;
  if (num_streams == 0) return cudaSuccess;
  const int bytes = kFixed + warps * params.stages * stage_bytes;
  const auto kernel = AttendNarrowKernel<KU, VU, kType>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const dim3 grid(num_streams, (params.groups + warps - 1) / warps);
  kernel<<<grid, warps * 32, bytes, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace

bool NarrowTakes(int rows, const LatentUnits& units) {
  return rows <= 16 && units.key_count > 0 && units.key_count <= 8 && units.value_count > 0 &&
         units.value_count <= 8;
}

bool NarrowTakes(int rows, int groups, const LatentUnits& units, int shared_bytes) {
  AttendLatentParams params;
  params.groups = groups;
  params.rows = rows;
  return LaunchAttendNarrow(params, units, 0, shared_bytes, nullptr) == cudaSuccess;
}

cudaError_t LaunchAttendNarrow(const AttendLatentParams& params, const LatentUnits& units,
                               int num_streams, int shared_bytes, cudaStream_t stream) {
  if (!NarrowTakes(params.rows, units)) return cudaErrorInvalidConfiguration;
  const auto launch = [&](auto run) {
    return run(params, units, num_streams, shared_bytes, stream);
  };
  const int type = UniformType(units);
  if (units.key_count == 4 && units.value_count == 4) {
    if (type == kBf16Units) return launch(Launch<4, 4, kBf16Units>);
    if (type == kInt8Units) return launch(Launch<4, 4, kInt8Units>);
  }
  if (units.key_count == 2 && units.value_count == 2) {
    if (type == kBf16Units) return launch(Launch<2, 2, kBf16Units>);
    if (type == kInt8Units) return launch(Launch<2, 2, kInt8Units>);
  }
  const int most = std::max(units.key_count, units.value_count);
  if (most <= 2) return launch(Launch<2, 2, kMixed>);
  if (most <= 4) return launch(Launch<4, 4, kMixed>);
  return launch(Launch<8, 8, kMixed>);
}

}  // namespace lorc::cuda
