// Codes, scale and minimum of one token's segment. Include inside a foreach_target file, after
// hwy/highway.h.

// clang-format off
#if defined(LORC_KERNELS_CPU_QUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LORC_KERNELS_CPU_QUANTIZE_INL_H_
#undef LORC_KERNELS_CPU_QUANTIZE_INL_H_
#else
#define LORC_KERNELS_CPU_QUANTIZE_INL_H_
#endif
// clang-format on

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/cpu/simd-inl.h"
#include "kernels/ops/segment.h"

HWY_BEFORE_NAMESPACE();
namespace lorc::HWY_NAMESPACE {

// Number = minimum + scale * code, both rounded to f16 before codes are taken, so that reading uses
// what writing used.
struct Steps {
  Steps() = default;
  Steps(float scale_before, float minimum_before)
      : scale_half(F32ToF16(scale_before)),
        minimum_half(F32ToF16(minimum_before)),
        scale(F16ToF32(scale_half)),
        minimum(F16ToF32(minimum_half)) {}

  f16_t scale_half = 0;
  f16_t minimum_half = 0;
  float scale = 0;
  float minimum = 0;
};

// What one pass over the values with some steps finds.
struct Fit {
  Steps steps;
  float error = INFINITY;  // sum of squares
  float sum_u = 0;         // of the codes
  float sum_uu = 0;
  float sum_ux = 0;  // codes times values
};

class SegmentQuantizer {
 public:
  SegmentQuantizer(SegmentType type, const float* HWY_RESTRICT values, int64_t width)
      : type_(type), max_code_(static_cast<float>(MaxCode(type))), values_(values), width_(width) {}

  // int8: the smallest range of equal steps that holds the values. Fewer bits: outer values may lie
  // beyond the range where that makes the squared error smaller.
  Steps Run(uint8_t* HWY_RESTRICT codes) {
    if (!FindRange()) {
      // Not finite, or beyond what f16 holds: reading gives values that are not finite either.
      std::fill_n(codes, width_, uint8_t{0});
      return {NAN, NAN};
    }
    const Steps steps =
        type_ == SegmentType::kInt8 ? StepsOf(smallest_, largest_ - smallest_) : BestSteps();
    Encode(steps, codes);
    return steps;
  }

 private:
  using D = hn::CappedTag<float, 8>;  // widths are multiples of 8
  using V = hn::Vec<D>;
  static constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));
  static constexpr float kLargestF16 = 65504.0f;

  static float Sum(V v) { return hn::GetLane(hn::SumOfLanes(D(), v)); }

  bool FindRange() {
    const D d;
    V low = hn::LoadU(d, values_);
    V high = low;
    V sum = hn::Zero(d);
    V poison = hn::Zero(d);  // NaN where a value is not finite; minimum and maximum may lose those
    for (int64_t i = 0; i < width_; i += kLanes) {
      const V v = hn::LoadU(d, values_ + i);
      low = hn::Min(low, v);
      high = hn::Max(high, v);
      sum = hn::Add(sum, v);
      poison = hn::Add(poison, hn::Sub(v, v));
    }
    smallest_ = hn::GetLane(hn::MinOfLanes(d, low));
    largest_ = hn::GetLane(hn::MaxOfLanes(d, high));
    mean_ = Sum(sum) / static_cast<float>(width_);
    return Sum(poison) == 0.0f && std::abs(smallest_) <= kLargestF16 &&
           largest_ - smallest_ <= kLargestF16 * max_code_;
  }

  Steps StepsOf(float minimum, float range) const {
    constexpr float kLeastF16 = 0x1p-24f;
    return {std::max(range / max_code_, kLeastF16), minimum};
  }

  V Codes(const Steps& steps, float inverse, int64_t i) const {
    const D d;
    const V offset = hn::Sub(hn::LoadU(d, values_ + i), hn::Set(d, steps.minimum));
    const V code = hn::Round(hn::Mul(offset, hn::Set(d, inverse)));
    return hn::Min(hn::Max(code, hn::Zero(d)), hn::Set(d, max_code_));
  }

  void Encode(const Steps& steps, uint8_t* HWY_RESTRICT codes) const {
    const hn::Rebind<uint8_t, D> d8;
    const hn::RebindToSigned<D> di;
    const float inverse = 1.0f / steps.scale;
    for (int64_t i = 0; i < width_; i += kLanes) {
      hn::StoreU(hn::DemoteTo(d8, hn::ConvertTo(di, Codes(steps, inverse, i))), d8, codes + i);
    }
  }

  Fit Try(const Steps& steps) const {
    const D d;
    const float inverse = 1.0f / steps.scale;
    const V scale = hn::Set(d, steps.scale);
    const V minimum = hn::Set(d, steps.minimum);
    V error = hn::Zero(d);
    V sum_u = hn::Zero(d);
    V sum_uu = hn::Zero(d);
    V sum_ux = hn::Zero(d);
    for (int64_t i = 0; i < width_; i += kLanes) {
      const V x = hn::LoadU(d, values_ + i);
      const V u = Codes(steps, inverse, i);
      const V off = hn::Sub(x, hn::MulAdd(scale, u, minimum));
      error = hn::MulAdd(off, off, error);
      sum_u = hn::Add(sum_u, u);
      sum_uu = hn::MulAdd(u, u, sum_uu);
      // About the mean, which changes no covariance and keeps its digits.
      sum_ux = hn::MulAdd(u, hn::Sub(x, hn::Set(d, mean_)), sum_ux);
    }
    return {steps, Sum(error), Sum(sum_u), Sum(sum_uu), Sum(sum_ux)};
  }

  // The steps that are best for the codes that `fit` found: a line through values over codes.
  Steps Refit(const Fit& fit) const {
    const float n = static_cast<float>(width_);
    const float mean_u = fit.sum_u / n;
    const float variance = fit.sum_uu - fit.sum_u * mean_u;
    if (!(variance > 0) || !(fit.sum_ux > 0)) return fit.steps;  // all codes are the same
    const float slope = fit.sum_ux / variance;
    return StepsOf(mean_ - slope * mean_u, slope * max_code_);
  }

  // Two starts, the whole range and the share of it that is right for normal numbers, each improved
  // twice by turns of codes and steps (Lloyd's method); the best of all. The whole range is among
  // them, so no segment gets worse by it.
  Steps BestSteps() const {
    const float range = largest_ - smallest_;
    const float share = type_ == SegmentType::kInt2   ? 0.75f
                        : type_ == SegmentType::kInt3 ? 0.9f
                                                      : 0.95f;
    Fit best;
    for (const float part : {1.0f, share}) {
      Steps steps = StepsOf(smallest_ + 0.5f * (1 - part) * range, part * range);
      for (int turn = 0; turn < 3; ++turn) {
        const Fit fit = Try(steps);
        if (fit.error < best.error) best = fit;
        steps = Refit(fit);
      }
    }
    return best.steps;
  }

  const SegmentType type_;
  const float max_code_;
  const float* HWY_RESTRICT values_;
  const int64_t width_;
  float smallest_ = 0;
  float largest_ = 0;
  float mean_ = 0;
};

}  // namespace lorc::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LORC_KERNELS_CPU_QUANTIZE_INL_H_
