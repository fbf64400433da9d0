// Segments of a latent: runs of numbers that share a type.
//
// Types without scales hold the numbers themselves: f32, bf16, and fp8 (OCP e4m3fn: at most +-448,
// beyond which numbers saturate; steps of 1/16 to 1/8 of the number down to 2^-6, below of 2^-9).
// The others hold codes u of 0..MaxCode with one scale and one minimum (both f16) per token and
// segment: number = minimum + scale * u.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/base/dtype.h"

namespace lorc {

inline constexpr int32_t kMaxSegmentWidth = 1024;

enum class SegmentType : uint8_t { kF32, kBf16, kFp8, kInt8, kInt4, kInt3, kInt2 };

// In falling precision.
inline constexpr SegmentType kSegmentTypes[] = {
    SegmentType::kF32,  SegmentType::kBf16, SegmentType::kInt8, SegmentType::kFp8,
    SegmentType::kInt4, SegmentType::kInt3, SegmentType::kInt2};
inline constexpr char kSegmentTypeNames[] = "f32, bf16, int8, fp8, int4, int3 or int2";

constexpr const char* Name(SegmentType type) {
  switch (type) {
    case SegmentType::kF32:
      return "f32";
    case SegmentType::kBf16:
      return "bf16";
    case SegmentType::kFp8:
      return "fp8";
    case SegmentType::kInt8:
      return "int8";
    case SegmentType::kInt4:
      return "int4";
    case SegmentType::kInt3:
      return "int3";
    case SegmentType::kInt2:
      return "int2";
  }
  return "";
}

constexpr std::optional<SegmentType> SegmentTypeFromName(std::string_view name) {
  for (const SegmentType type : kSegmentTypes) {
    if (name == Name(type)) return type;
  }
  return std::nullopt;
}

// Of the uncompressed cache and of exact tokens, which are f32 or bf16.
constexpr SegmentType SegmentTypeOf(DType exact_type) {
  return exact_type == DType::kF32 ? SegmentType::kF32 : SegmentType::kBf16;
}

// Without the scale and the minimum.
constexpr int32_t BitsPerNumber(SegmentType type) {
  switch (type) {
    case SegmentType::kF32:
      return 32;
    case SegmentType::kBf16:
      return 16;
    case SegmentType::kFp8:
    case SegmentType::kInt8:
      return 8;
    case SegmentType::kInt4:
      return 4;
    case SegmentType::kInt3:
      return 3;
    case SegmentType::kInt2:
      return 2;
  }
  return 0;
}

// Whether it holds codes, with a scale and a minimum per token and segment.
constexpr bool HasScale(SegmentType type) {
  return type == SegmentType::kInt8 || type == SegmentType::kInt4 || type == SegmentType::kInt3 ||
         type == SegmentType::kInt2;
}

// Of types that have scales.
constexpr int32_t MaxCode(SegmentType type) { return (1 << BitsPerNumber(type)) - 1; }

struct CacheSegment {
  SegmentType type = SegmentType::kBf16;
  int32_t width = 0;  // a multiple of 8, at most kMaxSegmentWidth

  friend bool operator==(const CacheSegment&, const CacheSegment&) = default;

  constexpr int64_t BytesPerToken() const {
    return int64_t{width} * BitsPerNumber(type) / 8 + (HasScale(type) ? 4 : 0);
  }
};

// Mean squared error of what is read, relative to the variance of what was written, for independent
// standard normal numbers in segments of 32: measured on the CPU backend's quantiser
// (tests/kernels/segment_test.cc repeats it). Plain minimum and maximum would give 0.154 (int2),
// 0.0281 (int3) and 0.00611 (int4).
constexpr double QuantiserDistortion(SegmentType type) {
  switch (type) {
    case SegmentType::kF32:
      return 0;
    case SegmentType::kBf16:
      return 2.76e-6;
    case SegmentType::kFp8:
      return 7.05e-4;
    case SegmentType::kInt8:
      return 2.12e-5;
    case SegmentType::kInt4:
      return 0.00519;
    case SegmentType::kInt3:
      return 0.0222;
    case SegmentType::kInt2:
      return 0.0922;
  }
  return 0;
}

}  // namespace lorc
