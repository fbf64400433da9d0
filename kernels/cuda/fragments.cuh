// Tensor-core operands from the numbers of a block (cache_layout.h), and the products with them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>

#include "kernels/cuda/cache_layout.h"
#include "kernels/cuda/decode_params.h"
#include "kernels/cuda/mma.cuh"

namespace lorc::cuda {

// Numbers of integer types and fp8 become f16, which holds them within 2^-11; bf16 stays.
__device__ __forceinline__ bool IsBf16(SegmentType type) { return type == SegmentType::kBf16; }

__device__ __forceinline__ __half2 AsHalf2(uint32_t bits) {
  return *reinterpret_cast<const __half2*>(&bits);
}
__device__ __forceinline__ uint32_t AsBits(__half2 value) {
  return *reinterpret_cast<const uint32_t*>(&value);
}
__device__ __forceinline__ uint32_t Half2Of(float value) { return AsBits(__float2half2_rn(value)); }

template <bool kBf16>
__device__ __forceinline__ uint32_t Pack(float low, float high) {
  return kBf16 ? PackBf16(low, high) : AsBits(__floats2half2_rn(low, high));
}

// 2^x within 2 ulp; 0 for -inf.
__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Below every score's maximum, and far from -inf, so that differences are defined.
inline constexpr float kNoMaximum = -1e30f;

// Scales and minima of a run's 16 tokens for a lane's pairs: [t / 8], both numbers of a pair.
struct LaneScales {
  uint32_t scale[2];
  uint32_t minimum[2];
};

// `words` in shared memory: f16 scale, f16 minimum of 16 tokens.
template <bool kKey>
__device__ __forceinline__ LaneScales LoadScales(const std::byte* words, int lane) {
  LaneScales scales;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if constexpr (kKey) {
      const uint32_t word = reinterpret_cast<const uint32_t*>(words)[h * 8 + lane / 4];
      scales.scale[h] = __byte_perm(word, word, 0x1010);
      scales.minimum[h] = __byte_perm(word, word, 0x3232);
    } else {
      const uint2 word = reinterpret_cast<const uint2*>(words)[h * 4 + lane % 4];
      scales.scale[h] = __byte_perm(word.x, word.y, 0x5410);
      scales.minimum[h] = __byte_perm(word.x, word.y, 0x7632);
    }
  }
  return scales;
}

// (word & mask) | 1024 in both halves: two f16 numbers 1024 + the masked bits.
template <uint32_t kMask>
__device__ __forceinline__ __half2 Biased(uint32_t word) {
  uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(out) : "r"(word), "n"(kMask), "n"(0x64006400));
  return AsHalf2(out);
}

// Numbers from 1024 + kStep * code, exactly before the line.
template <int kStep>
__device__ __forceinline__ uint32_t OnLine(__half2 biased, const LaneScales& scales, int half) {
  __half2 code;
  if constexpr (kStep == 1) {
    code = __hsub2(biased, __float2half2_rn(1024.0f));
  } else {
    code = __hfma2(biased, __float2half2_rn(1.0f / kStep), __float2half2_rn(-1024.0f / kStep));
  }
  return AsBits(__hfma2(code, AsHalf2(scales.scale[half]), AsHalf2(scales.minimum[half])));
}

// What a kernel knows of its units at compile time: kMixed nothing, kMixedF16 that none is bf16;
// else all are 32 wide, of that type, and there are as many as the kernel has places for.
inline constexpr int kMixed = -1;
inline constexpr int kMixedF16 = -2;
template <int kType>
__device__ __forceinline__ SegmentType TypeOf(SegmentType type) {
  return kType < 0 ? type : static_cast<SegmentType>(kType);
}
template <int kType>
__device__ __forceinline__ int WidthOf(int width) {
  return kType < 0 ? width : 32;
}

// Pair p at bits 2 p and 16 + 2 p, of int2's codes or the lower bits of int3's.
__device__ __forceinline__ uint32_t LowBits(const std::byte* unit, bool wide, int lane) {
  if (wide) return reinterpret_cast<const uint32_t*>(unit)[lane];
  const uint32_t bits = reinterpret_cast<const uint16_t*>(unit)[lane];
  return (bits & 0xffu) | (bits & 0xff00u) << 8;
}

// A lane's pairs of one unit's run, from its codes and the scales of its 16 tokens in shared
// memory. Pairs beyond the unit's width are 0.
template <bool kKey, bool kMayBeBf16>
__device__ __forceinline__ void DecodeUnit(SegmentType type, int unit_width, const std::byte* unit,
                                           const std::byte* scale_words, int lane,
                                           uint32_t (&pairs)[8]) {
  const bool wide = unit_width == 32;
  if (kMayBeBf16 && type == SegmentType::kBf16) {
    const uint4 first = reinterpret_cast<const uint4*>(unit)[lane];
    const uint4 second =
        wide ? reinterpret_cast<const uint4*>(unit)[32 + lane] : make_uint4(0, 0, 0, 0);
    pairs[0] = first.x, pairs[1] = first.y, pairs[2] = first.z, pairs[3] = first.w;
    pairs[4] = second.x, pairs[5] = second.y, pairs[6] = second.z, pairs[7] = second.w;
    return;
  }
  if (type == SegmentType::kFp8) {
    uint4 words = make_uint4(0, 0, 0, 0);
    if (wide) {
      words = reinterpret_cast<const uint4*>(unit)[lane];
    } else {
      const uint2 half = reinterpret_cast<const uint2*>(unit)[lane];
      words.x = half.x, words.y = half.y;
    }
    const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int p = 0; p < 8; ++p) {
      const __half2_raw pair = __nv_cvt_fp8x2_to_halfraw2(
          static_cast<__nv_fp8x2_storage_t>(word[p / 2] >> (p % 2 * 16)), __NV_E4M3);
      pairs[p] = static_cast<uint32_t>(pair.y) << 16 | pair.x;
    }
    return;
  }
  const LaneScales scales = LoadScales<kKey>(scale_words, lane);
  switch (type) {
    case SegmentType::kInt8: {
      uint4 words;
      if (wide) {
        words = reinterpret_cast<const uint4*>(unit)[lane];
      } else {
        const uint2 half = reinterpret_cast<const uint2*>(unit)[lane];
        words = make_uint4(half.x, half.y, 0, 0);
      }
      const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        pairs[2 * i] = OnLine<1>(AsHalf2(__byte_perm(word[i], 0x64646464, 0x4240)), scales, 0);
        pairs[2 * i + 1] = OnLine<1>(AsHalf2(__byte_perm(word[i], 0x64646464, 0x4341)), scales, 1);
      }
      break;
    }
    case SegmentType::kInt4: {
      uint2 words;
      if (wide) {
        words = reinterpret_cast<const uint2*>(unit)[lane];
      } else {
        words = make_uint2(reinterpret_cast<const uint32_t*>(unit)[lane], 0);
      }
      const uint32_t word[2] = {words.x, words.y};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint32_t upper = word[i] >> 8;
        pairs[4 * i] = OnLine<1>(Biased<0x000f000f>(word[i]), scales, 0);
        pairs[4 * i + 1] = OnLine<16>(Biased<0x00f000f0>(word[i]), scales, 1);
        pairs[4 * i + 2] = OnLine<1>(Biased<0x000f000f>(upper), scales, 0);
        pairs[4 * i + 3] = OnLine<16>(Biased<0x00f000f0>(upper), scales, 1);
      }
      break;
    }
    case SegmentType::kInt2: {
      const uint32_t low = LowBits(unit, wide, lane);
      const uint32_t upper = low >> 10;
      pairs[0] = OnLine<1>(Biased<0x00030003>(low), scales, 0);
      pairs[1] = OnLine<4>(Biased<0x000c000c>(low), scales, 1);
      pairs[2] = OnLine<16>(Biased<0x00300030>(low), scales, 0);
      pairs[3] = OnLine<64>(Biased<0x00c000c0>(low), scales, 1);
      pairs[4] = OnLine<256>(Biased<0x03000300>(low), scales, 0);
      pairs[5] = OnLine<1>(Biased<0x00030003>(upper), scales, 1);
      pairs[6] = OnLine<4>(Biased<0x000c000c>(upper), scales, 0);
      pairs[7] = OnLine<16>(Biased<0x00300030>(upper), scales, 1);
      break;
    }
    default: {
      const uint32_t low = LowBits(unit, wide, lane);
      uint32_t high;  // pair p at bits 2 + p and 18 + p
      if (wide) {
        const uint32_t bits = reinterpret_cast<const uint16_t*>(unit + 128)[lane];
        high = (bits & 0xffu) << 2 | (bits & 0xff00u) << 10;
      } else {
        const uint32_t bits = reinterpret_cast<const uint8_t*>(unit + 64)[lane];
        high = (bits & 0xfu) << 2 | (bits & 0xf0u) << 14;
      }
#pragma unroll
      for (int p = 0; p < 8; ++p) {
        const uint32_t code = (low >> (2 * p) & 0x00030003u) | (high >> p & 0x00040004u);
        pairs[p] = OnLine<1>(AsHalf2(code | 0x64006400u), scales, p % 2);
      }
    }
  }
  if (!wide) pairs[4] = pairs[5] = pairs[6] = pairs[7] = 0;
}

// A staged unit; absent ones have width 0.
template <int kType>
struct UnitView {
  uint32_t bits;
  __device__ __forceinline__ explicit UnitView(StagedUnit unit) : bits(unit.bits) {}
  __device__ __forceinline__ SegmentType type() const {
    return TypeOf<kType>(static_cast<SegmentType>(bits >> 24 & 7));
  }
  __device__ __forceinline__ int width() const { return WidthOf<kType>(bits >> 27 << 4); }
  __device__ __forceinline__ bool bf16() const { return kType != kMixedF16 && IsBf16(type()); }
  template <bool kKey>
  __device__ __forceinline__ void Decode(const std::byte* run, int lane,
                                         uint32_t (&pairs)[8]) const {
    DecodeUnit<kKey, kType != kMixedF16>(type(), width(), run + (bits & 0xfff) * 16,
                                         run + (bits >> 12 & 0xfff) * 16, lane, pairs);
  }
};

}  // namespace lorc::cuda
