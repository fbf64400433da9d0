// One number of a block on a CUDA device (layout: cache_layout.h), for the host and the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#endif

#include "kernels/base/dtype.h"
#include "kernels/cuda/cache_layout.h"

namespace lorc::cuda {

// The inverse of PlaceOf within a unit's run: token 0..15 and column 0..31.
LORC_HOST_DEVICE constexpr int32_t TokenAt(bool is_key, int32_t lane, int32_t pair, int32_t half) {
  return pair % 2 * 8 + (is_key ? lane / 4 : lane % 4 * 2 + half);
}
LORC_HOST_DEVICE constexpr int32_t ColumnAt(bool is_key, int32_t lane, int32_t pair, int32_t half) {
  return pair / 2 * 8 + (is_key ? lane % 4 * 2 + half : lane / 4);
}

LORC_HOST_DEVICE float FloatFromBf16(const std::byte* from) {
  uint16_t bits;
  memcpy(&bits, from, sizeof(bits));
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  memcpy(&value, &wide, sizeof(value));
  return value;
}

LORC_HOST_DEVICE float FloatFromF16(const std::byte* from) {
  uint16_t bits;
  memcpy(&bits, from, sizeof(bits));
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(bits));
#else
  return F16ToF32(bits);
#endif
}

LORC_HOST_DEVICE float FloatFromFp8(const std::byte* from) {
  const auto bits = static_cast<uint8_t>(*from);
#ifdef __CUDA_ARCH__
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(bits, __NV_E4M3)));
#else
  return Fp8ToF32(bits);
#endif
}

// Codes of 1, 2, 4 or 8 bits never lie across bytes.
LORC_HOST_DEVICE uint32_t ReadPlane(int32_t bits, const std::byte* plane,
                                    const NumberPlace& place) {
  const BitPlace at = PlaceOfBits(bits, place);
  const std::byte* container = plane + place.lane * LaneBytes(bits, place.unit_width);
  const auto byte = static_cast<uint32_t>(container[at.byte + at.shift / 8]);
  return byte >> at.shift % 8 & ((1u << bits) - 1);
}

// The number of one token and column of a segment that begins at `segment`.
LORC_HOST_DEVICE float ReadNumber(SegmentType type, bool is_key, int32_t segment_width,
                                  int32_t block_tokens, const std::byte* segment, int32_t token,
                                  int32_t column) {
  const NumberPlace place = PlaceOf(is_key, segment_width, token, column);
  const std::byte* run =
      segment + UnitOffset(type, segment_width, block_tokens, place.unit, place.run);
  if (type == SegmentType::kBf16) {
    return FloatFromBf16(run + place.pair / 4 * 512 + place.lane * 16 + place.pair % 4 * 4 +
                         place.half * 2);
  }
  if (type == SegmentType::kFp8) {
    return FloatFromFp8(run + place.lane * (place.unit_width / 2) + place.pair * 2 + place.half);
  }
  uint32_t code;
  if (type == SegmentType::kInt3) {
    code = ReadPlane(2, run, place) | ReadPlane(1, run + 32 * LaneBytes(2, place.unit_width), place)
                                          << 2;
  } else {
    code = ReadPlane(NumberBits(type), run, place);
  }
  const std::byte* steps = segment + ScalesOffset(type, segment_width, block_tokens) + token * 4;
  const float scale = FloatFromF16(steps);
  const float minimum = FloatFromF16(steps + 2);
#ifdef __CUDA_ARCH__
  return __fmaf_rn(static_cast<float>(code), scale, minimum);
#else
  return minimum + scale * static_cast<float>(code);
#endif
}

}  // namespace lorc::cuda
