// Codes, scale and minimum of one token's segment, found by one warp: the search of the CPU's
// quantiser (kernels/cpu/quantize-inl.h), so that plans mean the same on both.
#pragma once

#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#include "kernels/ops/segment.h"

namespace lorc::cuda {

// The sum of a warp's values, the same bits in every lane.
__device__ __forceinline__ float WarpSum(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}
__device__ __forceinline__ float WarpMin(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    value = fminf(value, __shfl_xor_sync(0xffffffffu, value, step));
  }
  return value;
}
__device__ __forceinline__ float WarpMax(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
  }
  return value;
}

// Number = minimum + scale * code.
struct Steps {
  __half scale;
  __half minimum;
};

// Lane i holds numbers i, i + 32, ... of the segment, at most kPerLane.
template <int kPerLane>
class SegmentQuantizer {
 public:
  // `load(i)`: number i of the segment.
  template <typename Load>
  __device__ SegmentQuantizer(SegmentType type, int32_t width, int32_t lane, const Load& load)
      : type_(type),
        width_(width),
        lane_(lane),
        max_code_(type == SegmentType::kInt8   ? 255.0f
                  : type == SegmentType::kInt4 ? 15.0f
                  : type == SegmentType::kInt3 ? 7.0f
                                               : 3.0f) {
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) values_[k] = Holds(k) ? load(lane_ + 32 * k) : 0.0f;
  }

  // int8: the smallest range of equal steps that holds the values. Fewer bits: outer values may lie
  // beyond the range where that makes the squared error smaller. `store(i, code)`.
  template <typename Store>
  __device__ Steps Run(const Store& store) {
    if (!FindRange()) {
      // Not finite, or beyond what f16 holds: reading gives values that are not finite either.
#pragma unroll
      for (int k = 0; k < kPerLane; ++k) {
        if (Holds(k)) store(lane_ + 32 * k, 0u);
      }
      const __half nan = __ushort_as_half(0x7e00);
      return {nan, nan};
    }
    const Line line = type_ == SegmentType::kInt8 ? RangeLine(1.0f) : BestLine();
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      if (Holds(k)) store(lane_ + 32 * k, static_cast<uint32_t>(Code(line, values_[k])));
    }
    return {__float2half_rn(line.scale), __float2half_rn(line.minimum)};
  }

 private:
  static constexpr float kLargestF16 = 65504.0f;
  static constexpr float kLeastF16 = 0x1p-24f;
  // Below that of two different codes among as many as a segment has.
  static constexpr float kLeastVariance = 0.5f;

  // Scale and minimum rounded to f16 before codes are taken, so that reading uses what writing
  // used.
  struct Line {
    float scale, minimum, inverse;
  };

  __device__ bool Holds(int k) const { return lane_ + 32 * k < width_; }

  static __device__ Line MakeLine(float scale, float minimum) {
    Line line;
    line.scale = __half2float(__float2half_rn(fmaxf(scale, kLeastF16)));
    line.minimum = __half2float(__float2half_rn(minimum));
    line.inverse = 1.0f / line.scale;
    return line;
  }

  __device__ bool FindRange() {
    float low = INFINITY;
    float high = -INFINITY;
    float sum = 0.0f;
    float poison = 0.0f;  // NaN where a value is not finite; minimum and maximum may lose those
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      if (!Holds(k)) continue;
      low = fminf(low, values_[k]);
      high = fmaxf(high, values_[k]);
      sum += values_[k];
      poison += values_[k] - values_[k];
    }
    smallest_ = WarpMin(low);
    range_ = WarpMax(high) - smallest_;
    mean_ = WarpSum(sum) / static_cast<float>(width_);
    return WarpSum(poison) == 0.0f && fabsf(smallest_) <= kLargestF16 &&
           range_ <= kLargestF16 * max_code_;
  }

  // Over the middle `share` of the range.
  __device__ Line RangeLine(float share) const {
    return MakeLine(share * range_ / max_code_, smallest_ + 0.5f * (1.0f - share) * range_);
  }

  __device__ float Code(const Line& line, float value) const {
    const float code = rintf((value - line.minimum) * line.inverse);
    return fminf(fmaxf(code, 0.0f), max_code_);
  }

  // The line's squared error; the line becomes the one that is best for its codes: regression of
  // values on codes.
  __device__ float TryAndRefit(Line& line) const {
    float error = 0.0f;
    float sum_u = 0.0f;
    float sum_uu = 0.0f;
    float sum_ux = 0.0f;
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      if (!Holds(k)) continue;
      const float x = values_[k];
      const float u = Code(line, x);
      const float off = x - fmaf(line.scale, u, line.minimum);
      error = fmaf(off, off, error);
      sum_u += u;
      sum_uu = fmaf(u, u, sum_uu);
      // About the mean, which changes no covariance and keeps its digits.
      sum_ux = fmaf(u, x - mean_, sum_ux);
    }
    error = WarpSum(error);
    sum_u = WarpSum(sum_u);
    sum_uu = WarpSum(sum_uu);
    sum_ux = WarpSum(sum_ux);
    const float mean_u = sum_u / static_cast<float>(width_);
    const float variance = fmaf(-sum_u, mean_u, sum_uu);
    // Where all codes are the same, any line will do.
    const float slope = sum_ux / fmaxf(variance, kLeastVariance);
    line = MakeLine(slope, fmaf(-slope, mean_u, mean_));
    return error;
  }

  // Two starts, the whole range and the share of it that is right for normal numbers, each improved
  // twice by turns of codes and line (Lloyd's method); the best of all.
  __device__ Line BestLine() const {
    const float share = type_ == SegmentType::kInt2   ? 0.75f
                        : type_ == SegmentType::kInt3 ? 0.9f
                                                      : 0.95f;
    Line lines[2] = {RangeLine(1.0f), RangeLine(share)};
    Line best = lines[0];
    float least = INFINITY;
#pragma unroll 1
    for (int turn = 0; turn < 3; ++turn) {
#pragma unroll
      for (Line& line : lines) {
        const Line tried = line;
        const float error = TryAndRefit(line);
        if (error < least) {
          least = error;
          best = tried;
        }
      }
    }
    return best;
  }

  const SegmentType type_;
  const int32_t width_;
  const int32_t lane_;
  const float max_code_;
  float values_[kPerLane];
  float smallest_ = 0.0f;
  float range_ = 0.0f;
  float mean_ = 0.0f;
};

}  // namespace lorc::cuda
