// A unit's run of a segment, read and dequantised by a warp (layout: cache_layout.h).
#pragma once

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/cache_layout.h"
#include "kernels/cuda/cache_numbers.h"

namespace lorc::cuda {

// A lane's bytes of one plane.
template <int kBytes>
struct LaneWords {
  uint32_t word[(kBytes + 3) / 4];

  __device__ __forceinline__ void Load(const std::byte* plane, int lane) {
    const std::byte* from = plane + lane * kBytes;
    if constexpr (kBytes == 16) {
      const uint4 v = *reinterpret_cast<const uint4*>(from);
      word[0] = v.x;
      word[1] = v.y;
      word[2] = v.z;
      word[3] = v.w;
    } else if constexpr (kBytes == 8) {
      const uint2 v = *reinterpret_cast<const uint2*>(from);
      word[0] = v.x;
      word[1] = v.y;
    } else if constexpr (kBytes == 4) {
      word[0] = *reinterpret_cast<const uint32_t*>(from);
    } else if constexpr (kBytes == 2) {
      word[0] = *reinterpret_cast<const uint16_t*>(from);
    } else {
      static_assert(kBytes == 1);
      word[0] = *reinterpret_cast<const uint8_t*>(from);
    }
  }
};

template <int kBits, int kUnit>
struct Plane {
  LaneWords<kUnit / 2 * kBits / 8> words;

  __device__ __forceinline__ uint32_t Code(int pair, int half) const {
    NumberPlace place{};
    place.unit_width = kUnit;
    place.pair = pair;
    place.half = half;
    const BitPlace at = PlaceOfBits(kBits, place);
    return words.word[at.byte / 4] >> at.shift & ((1u << kBits) - 1);
  }
};

// Calls body(pair, low, high) with both numbers of each of the lane's pairs. `run`: the unit's run;
// `steps`: scale and minimum of the run's token 0.
template <SegmentType kType, int kUnit, typename Body>
__device__ __forceinline__ void DecodeUnit(bool is_key, const std::byte* run,
                                           const std::byte* steps, int lane, const Body& body) {
  if constexpr (kType == SegmentType::kBf16) {
#pragma unroll
    for (int step = 0; step < kUnit / 16; ++step) {
      LaneWords<16> words;
      words.Load(run + step * 512, lane);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        body(4 * step + i, __uint_as_float(words.word[i] << 16),
             __uint_as_float(words.word[i] & 0xffff0000u));
      }
    }
  } else if constexpr (kType == SegmentType::kFp8) {
    LaneWords<kUnit / 2> words;
    words.Load(run, lane);
#pragma unroll
    for (int pair = 0; pair < kUnit / 4; ++pair) {
      const auto both = static_cast<__nv_fp8x2_storage_t>(words.word[pair / 2] >> pair % 2 * 16);
      const float2 numbers = __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(both, __NV_E4M3)));
      body(pair, numbers.x, numbers.y);
    }
  } else {
    // Steps of the tokens that the lane's pairs have: [pair % 2][half].
    float scale[2][2];
    float minimum[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::byte* at = steps + 4 * TokenAt(is_key, lane, i, half);
        const float2 both = __half22float2(*reinterpret_cast<const __half2*>(at));
        scale[i][half] = both.x;
        minimum[i][half] = both.y;
      }
    }
    constexpr int kLow = kType == SegmentType::kInt8 ? 8 : kType == SegmentType::kInt4 ? 4 : 2;
    Plane<kLow, kUnit> low;
    low.words.Load(run, lane);
    Plane<1, kUnit> high;
    if constexpr (kType == SegmentType::kInt3) {
      high.words.Load(run + 32 * LaneBytes(2, kUnit), lane);
    }
#pragma unroll
    for (int pair = 0; pair < kUnit / 4; ++pair) {
      float number[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint32_t code = low.Code(pair, half);
        if constexpr (kType == SegmentType::kInt3) code |= high.Code(pair, half) << 2;
        number[half] =
            __fmaf_rn(static_cast<float>(code), scale[pair % 2][half], minimum[pair % 2][half]);
      }
      body(pair, number[0], number[1]);
    }
  }
}

template <int kUnit, typename Body>
__device__ __forceinline__ void DecodeUnitOfType(SegmentType type, bool is_key,
                                                 const std::byte* run, const std::byte* steps,
                                                 int lane, const Body& body) {
  switch (type) {
    case SegmentType::kBf16:
      return DecodeUnit<SegmentType::kBf16, kUnit>(is_key, run, steps, lane, body);
    case SegmentType::kFp8:
      return DecodeUnit<SegmentType::kFp8, kUnit>(is_key, run, steps, lane, body);
    case SegmentType::kInt8:
      return DecodeUnit<SegmentType::kInt8, kUnit>(is_key, run, steps, lane, body);
    case SegmentType::kInt4:
      return DecodeUnit<SegmentType::kInt4, kUnit>(is_key, run, steps, lane, body);
    case SegmentType::kInt3:
      return DecodeUnit<SegmentType::kInt3, kUnit>(is_key, run, steps, lane, body);
    case SegmentType::kInt2:
      return DecodeUnit<SegmentType::kInt2, kUnit>(is_key, run, steps, lane, body);
    case SegmentType::kF32:
      return;
  }
}

// Unit `unit` of a segment that begins at `segment`: the 16 tokens from slot `slot` on.
template <typename Body>
__device__ __forceinline__ void DecodeUnitAt(SegmentType type, int width, int block_tokens,
                                             bool is_key, const std::byte* segment, int unit,
                                             int slot, int lane, const Body& body) {
  const std::byte* run = segment + UnitOffset(type, width, block_tokens, unit, slot / kRunTokens);
  const std::byte* steps = segment + ScalesOffset(type, width, block_tokens) + 4 * slot;
  if (width - unit * kUnitWidth >= kUnitWidth) {
    DecodeUnitOfType<32>(type, is_key, run, steps, lane, body);
  } else {
    DecodeUnitOfType<16>(type, is_key, run, steps, lane, body);
  }
}

}  // namespace lorc::cuda
