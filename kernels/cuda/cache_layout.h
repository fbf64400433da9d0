// How values lie inside a block on a CUDA device: in the order of the tensor cores' fragments.
//
// A block of one layer: K, then V; each its groups one after the other; each group its segments, of
// widths that are multiples of 16. A segment of width w: units of up to 32 columns (the last may
// have 16); each unit its runs of 16 tokens (B / 16 of them); then, for types with scales, scale
// and minimum (f16, f16) of each of the B tokens.
//
// A unit's run is a B operand of mma.m16n8k16 for the 32 lanes of a warp, so that a lane's numbers
// come as one load and each number is read by one lane only. For keys tokens are the operand's
// columns (n) and numbers its rows (k); for values numbers are its columns and tokens its rows.
// With t the token in the run and c the column in the unit:
//   pair  p = 2 * (c / 8) + t / 8           of its lane's `uw / 4` pairs, uw the unit's width
//   K     lane = 4 * (t % 8) + (c % 8) / 2    number c % 2 of the pair
//   V     lane = 4 * (c % 8) + (t % 8) / 2    number t % 2 of the pair
// Pairs 4 i .. 4 i + 3 are the operand of 16 columns (K: both tiles of 8 tokens of one step of 16
// columns; V: two tiles of 8 columns of the one step of 16 tokens).
//
// A lane's pairs in memory:
//   bf16     [uw / 16][lane] 16 bytes: four pairs of two bf16 each
//   fp8      [lane] uw / 2 bytes: pair p is bytes 2 p and 2 p + 1
//   int8     [lane] uw / 2 bytes; words of 32 bits with two pairs each: bits 8 p and 16 + 8 p
//   int4     [lane] uw / 4 bytes; words of 32 bits with four pairs each: bits 4 p and 16 + 4 p
//   int2     [lane] uw / 8 bytes: bits 2 p and h + 2 p of a word of 2 h bits, h = uw / 2
//   int3     the lower two bits as int2, then [lane] uw / 16 bytes of the highest: bits p and
//            h + p of 2 h bits, h = uw / 4
#pragma once

#include <cstdint>

#include "kernels/ops/segment.h"

#ifdef __CUDACC__
#define LORC_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define LORC_HOST_DEVICE inline
#endif

namespace lorc::cuda {

inline constexpr int32_t kUnitWidth = 32;  // columns of a unit
inline constexpr int32_t kRunTokens = 16;  // tokens of a run
inline constexpr int32_t kSegmentAlign = 16;

// Bits of a number, without scale and minimum; as BitsPerNumber, for device code.
LORC_HOST_DEVICE constexpr int32_t NumberBits(SegmentType type) {
  return type == SegmentType::kBf16   ? 16
         : type == SegmentType::kInt4 ? 4
         : type == SegmentType::kInt3 ? 3
         : type == SegmentType::kInt2 ? 2
         : type == SegmentType::kF32  ? 32
                                      : 8;
}

LORC_HOST_DEVICE constexpr bool HasScales(SegmentType type) {
  return type == SegmentType::kInt8 || type == SegmentType::kInt4 || type == SegmentType::kInt3 ||
         type == SegmentType::kInt2;
}

// Where token t (of the block) and column c (of the segment) lie.
struct NumberPlace {
  int32_t unit;        // c / 32
  int32_t unit_width;  // 32 or 16
  int32_t run;         // t / 16
  int32_t lane;        // 0..31
  int32_t pair;        // 0..unit_width / 4 - 1
  int32_t half;        // 0 or 1
};

LORC_HOST_DEVICE constexpr NumberPlace PlaceOf(bool is_key, int32_t segment_width, int32_t token,
                                               int32_t column) {
  NumberPlace place{};
  place.unit = column / kUnitWidth;
  const int32_t left = segment_width - place.unit * kUnitWidth;
  place.unit_width = left < kUnitWidth ? left : kUnitWidth;
  place.run = token / kRunTokens;
  const int32_t t = token % kRunTokens;
  const int32_t c = column % kUnitWidth;
  place.pair = 2 * (c / 8) + t / 8;
  place.lane = is_key ? 4 * (t % 8) + c % 8 / 2 : 4 * (c % 8) + t % 8 / 2;
  place.half = is_key ? c % 2 : t % 2;
  return place;
}

// Bytes from the segment's start to unit `unit`'s run `run`.
LORC_HOST_DEVICE constexpr int64_t UnitOffset(SegmentType type, int32_t segment_width,
                                              int32_t block_tokens, int32_t unit, int32_t run) {
  const int32_t left = segment_width - unit * kUnitWidth;
  const int32_t unit_width = left < kUnitWidth ? left : kUnitWidth;
  return static_cast<int64_t>(unit) * kUnitWidth * block_tokens * NumberBits(type) / 8 +
         static_cast<int64_t>(run) * kRunTokens * unit_width * NumberBits(type) / 8;
}

// Bytes from the segment's start to its scales and minima: f16 pairs, one per token.
LORC_HOST_DEVICE constexpr int64_t ScalesOffset(SegmentType type, int32_t segment_width,
                                                int32_t block_tokens) {
  return static_cast<int64_t>(segment_width) * block_tokens * NumberBits(type) / 8;
}

LORC_HOST_DEVICE constexpr int64_t SegmentBytes(SegmentType type, int32_t segment_width,
                                                int32_t block_tokens) {
  return ScalesOffset(type, segment_width, block_tokens) +
         (HasScales(type) ? 4 * static_cast<int64_t>(block_tokens) : 0);
}

// Bits of `bits`-bit plane number in its lane's container. The container (of a unit's run) has
// 2 * unit_width / 4 * bits bits; from 32 bits on it consists of words of 32.
struct BitPlace {
  int32_t byte;   // of the lane's container: a multiple of 4, or 0 where it has fewer than 32 bits
  int32_t shift;  // from there
};

LORC_HOST_DEVICE constexpr BitPlace PlaceOfBits(int32_t bits, const NumberPlace& place) {
  const int32_t pairs = place.unit_width / 4;
  const int32_t container = 2 * pairs * bits;
  const int32_t word = container < 32 ? container : 32;
  const int32_t pairs_per_word = word / 2 / bits;
  return {place.pair / pairs_per_word * 4,
          bits * (place.pair % pairs_per_word) + place.half * (word / 2)};
}

// Bytes of a lane's container of a plane of `bits` bits.
LORC_HOST_DEVICE constexpr int32_t LaneBytes(int32_t bits, int32_t unit_width) {
  return unit_width / 2 * bits / 8;
}

}  // namespace lorc::cuda
