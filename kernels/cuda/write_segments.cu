#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <algorithm>

#include "kernels/cuda/quantize.cuh"
#include "kernels/cuda/write_segments.h"

namespace lorc::cuda {
namespace {

constexpr int kWriteThreads = 128;
constexpr int kWriteWarps = kWriteThreads / 32;

__device__ __forceinline__ uint32_t Bf16Bits(float value) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

// As the CPU's F32ToFp8: saturates, but what is not finite becomes NaN.
__device__ __forceinline__ uint32_t Fp8Bits(float value) {
  if (!isfinite(value)) return 0x7fu;
  return __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
}

// How a plane's bits lie in the words of a unit's run, as one list of words: word i belongs to lane
// i / words (bf16: 128 words per 16 columns).
struct PlaneForm {
  int bits;
  int word_bits;  // 8, 16 or 32
  int words;      // of a lane
  int pairs_per_word;
  int pair_shift;
  int half_shift;
};

__device__ __forceinline__ PlaneForm FormOf(SegmentType type, int bits, int unit_width) {
  if (type == SegmentType::kBf16) return {16, 32, unit_width / 4, 1, 0, 16};
  if (type == SegmentType::kFp8) return {8, 32, unit_width / 8, 2, 16, 8};
  const int container = unit_width / 2 * bits;
  const int word = container < 32 ? container : 32;
  return {bits, word, container / word, word / 2 / bits, bits, word / 2};
}

// Bits [from, from + form.bits) of the unit's numbers [token][stride] into a unit's run.
__device__ void PackPlane(const PlaneForm& form, bool is_bf16, bool is_key, int from,
                          const uint16_t* numbers, int stride, int begin, int end,
                          std::byte* plane) {
  const uint32_t number_mask = (1u << form.bits) - 1;
  for (int i = threadIdx.x; i < 32 * form.words; i += kWriteThreads) {
    const int lane = is_bf16 ? i % 128 / 4 : i / form.words;
    const int word_index = is_bf16 ? i / 128 * 4 + i % 4 : i % form.words;
    uint32_t word = 0;
    uint32_t mask = 0;
    for (int q = 0; q < form.pairs_per_word; ++q) {
      const int pair = word_index * form.pairs_per_word + q;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int t = TokenAt(is_key, lane, pair, half);
        if (t < begin || t >= end) continue;
        const uint32_t number = numbers[t * stride + ColumnAt(is_key, lane, pair, half)];
        const int shift = q * form.pair_shift + half * form.half_shift;
        word |= (number >> from & number_mask) << shift;
        mask |= number_mask << shift;
      }
    }
    if (mask == 0) continue;
    // Other tokens' bits stay, whatever they are.
    if (form.word_bits == 32) {
      auto* at = reinterpret_cast<uint32_t*>(plane) + i;
      *at = mask == 0xffffffffu ? word : (*at & ~mask) | word;
    } else if (form.word_bits == 16) {
      auto* at = reinterpret_cast<uint16_t*>(plane) + i;
      *at = static_cast<uint16_t>((*at & ~mask) | word);
    } else {
      auto* at = reinterpret_cast<uint8_t*>(plane) + i;
      *at = static_cast<uint8_t>((*at & ~mask) | word);
    }
  }
}

template <int kPerLane, typename Load>
__device__ void QuantizeToken(SegmentType type, int width, int lane, const Load& load,
                              uint16_t* numbers, std::byte* steps_at) {
  SegmentQuantizer<kPerLane> quantizer(type, width, lane, load);
  const Steps steps =
      quantizer.Run([&](int i, uint32_t code) { numbers[i] = static_cast<uint16_t>(code); });
  if (lane == 0) {
    // Scale in the lower half.
    *reinterpret_cast<uint32_t*>(steps_at) = static_cast<uint32_t>(__half_as_ushort(steps.scale)) |
                                             static_cast<uint32_t>(__half_as_ushort(steps.minimum))
                                                 << 16;
  }
}

// One CTA per run and segment of a group.
__global__ void __launch_bounds__(kWriteThreads)
    WriteSegmentsKernel(const __grid_constant__ WriteSegmentsArgs args) {
  extern __shared__ __align__(16) uint16_t numbers[];  // [16][width]: bits of bf16, fp8 or codes
  const WriteRun run = args.runs[blockIdx.x];
  const int key_segments = args.key.shape.groups * args.key.shape.num_segments;
  const bool is_key = static_cast<int>(blockIdx.y) < key_segments;
  const SegmentWrite& write = is_key ? args.key : args.value;
  const int item = is_key ? blockIdx.y : blockIdx.y - key_segments;
  const int group = item / write.shape.num_segments;
  const SegmentShape segment = write.shape.segments[item % write.shape.num_segments];
  const int width = segment.width();
  const int block_tokens = args.frame.block_tokens;
  std::byte* base = write.part + run.block * args.block_bytes +
                    static_cast<int64_t>(group) * write.shape.group_bytes + segment.offset;
  const int first_column = group * write.shape.rank + segment.column;
  const int lane = threadIdx.x % 32;

  for (int t = run.begin + threadIdx.x / 32; t < run.end; t += kWriteWarps) {
    uint16_t* row = numbers + t * width;
    const auto load = [&](int i) {
      return LoadNumber(write.source, args.frame, run, blockIdx.x, t, first_column + i);
    };
    if (segment.type == SegmentType::kBf16) {
      for (int i = lane; i < width; i += 32) row[i] = static_cast<uint16_t>(Bf16Bits(load(i)));
    } else if (segment.type == SegmentType::kFp8) {
      for (int i = lane; i < width; i += 32) row[i] = static_cast<uint16_t>(Fp8Bits(load(i)));
    } else {
      std::byte* steps =
          base + ScalesOffset(segment.type, width, block_tokens) + (run.slot + t) * 4;
      if (width <= 32) {
        QuantizeToken<1>(segment.type, width, lane, load, row, steps);
      } else if (width <= 64) {
        QuantizeToken<2>(segment.type, width, lane, load, row, steps);
      } else if (width <= 128) {
        QuantizeToken<4>(segment.type, width, lane, load, row, steps);
      } else if (width <= 256) {
        QuantizeToken<8>(segment.type, width, lane, load, row, steps);
      } else {
        QuantizeToken<kMaxSegmentWidth / 32>(segment.type, width, lane, load, row, steps);
      }
    }
  }
  __syncthreads();

  for (int unit = 0; unit * kUnitWidth < width; ++unit) {
    const int unit_width = min(kUnitWidth, width - unit * kUnitWidth);
    std::byte* plane =
        base + UnitOffset(segment.type, width, block_tokens, unit, run.slot / kRunTokens);
    const uint16_t* from = numbers + unit * kUnitWidth;
    const auto pack = [&](int bits, int first_bit, std::byte* to) {
      PackPlane(FormOf(segment.type, bits, unit_width), segment.type == SegmentType::kBf16, is_key,
                first_bit, from, width, run.begin, run.end, to);
    };
    if (segment.type == SegmentType::kInt3) {
      pack(2, 0, plane);
      pack(1, 2, plane + 32 * LaneBytes(2, unit_width));
    } else {
      pack(NumberBits(segment.type), 0, plane);
    }
  }
}

// One CTA per run, for K or V; a thread makes two neighbouring numbers of a token.
__global__ void __launch_bounds__(256)
    GatherRowsKernel(const __grid_constant__ GatherRowsArgs args) {
  const bool is_key = blockIdx.y == 0;
  uint16_t* rows = is_key ? args.key_rows : args.value_rows;
  if (rows == nullptr) return;
  const TokenSource& source = is_key ? args.key : args.value;
  const WriteRun run = args.runs[blockIdx.x];
  const int pairs = args.width / 2;
  auto* out = reinterpret_cast<uint32_t*>(rows) + static_cast<int64_t>(blockIdx.x) * 16 * pairs;
  for (int i = threadIdx.x; i < 16 * pairs; i += 256) {
    const int t = i / pairs;
    const int column = i % pairs * 2;
    uint32_t pair = 0;
    if (t >= run.begin && t < run.end) {
      pair = Bf16Bits(LoadNumber(source, args.frame, run, blockIdx.x, t, column)) |
             Bf16Bits(LoadNumber(source, args.frame, run, blockIdx.x, t, column + 1)) << 16;
    }
    out[i] = pair;
  }
}

int MaxWidth(const TensorShape& shape) {
  int width = 0;
  for (int i = 0; i < shape.num_segments; ++i) width = std::max(width, shape.segments[i].width());
  return width;
}

}  // namespace

void WriteSegments(const WriteSegmentsArgs& args, cudaStream_t stream) {
  const int segments = args.key.shape.groups * args.key.shape.num_segments +
                       args.value.shape.groups * args.value.shape.num_segments;
  if (args.num_runs == 0 || segments == 0) return;
  const int width = std::max(MaxWidth(args.key.shape), MaxWidth(args.value.shape));
  const dim3 grid(static_cast<unsigned>(args.num_runs), static_cast<unsigned>(segments));
  WriteSegmentsKernel<<<grid, kWriteThreads, kRunTokens * width * sizeof(uint16_t), stream>>>(args);
}

void GatherRows(const GatherRowsArgs& args, cudaStream_t stream) {
  if (args.num_runs == 0 || (args.key_rows == nullptr && args.value_rows == nullptr)) return;
  const dim3 grid(static_cast<unsigned>(args.num_runs), 2);
  GatherRowsKernel<<<grid, 256, 0, stream>>>(args);
}

}  // namespace lorc::cuda
