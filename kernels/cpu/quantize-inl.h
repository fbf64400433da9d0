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

// Number = minimum + scale * code.
struct Steps {
  f16_t scale = 0;
  f16_t minimum = 0;
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
      return {F32ToF16(NAN), F32ToF16(NAN)};
    }
    const Line line = type_ == SegmentType::kInt8 ? RangeLine(1) : BestLine();
    const hn::Rebind<uint8_t, D> d8;
    const hn::RebindToSigned<D> di;
    for (int64_t i = 0; i < width_; i += kLanes) {
      hn::StoreU(hn::DemoteTo(d8, hn::ConvertTo(di, Codes(line, i))), d8, codes + i);
    }
    return {F32ToF16(hn::GetLane(line.scale)), F32ToF16(hn::GetLane(line.minimum))};
  }

 private:
  using D = hn::CappedTag<float, 8>;  // widths are multiples of 8
  using V = hn::Vec<D>;
  static constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));
  static constexpr float kLargestF16 = 65504.0f;
  static constexpr float kLeastF16 = 0x1p-24f;

  // Scale and minimum, in every lane, rounded to f16 before codes are taken, so that reading uses
  // what writing used.
  struct Line {
    V scale, minimum, inverse;
  };

  static V Set(float value) { return hn::Set(D(), value); }
  static V Sum(V v) { return hn::SumOfLanes(D(), v); }

  static Line MakeLine(V scale, V minimum) {
    const D d;
    const hn::Rebind<hwy::float16_t, D> dh;
    const auto rounded = [&](V v) HWY_ATTR { return hn::PromoteTo(d, hn::DemoteTo(dh, v)); };
    Line line;
    line.scale = rounded(hn::Max(scale, Set(kLeastF16)));
    line.minimum = rounded(minimum);
    line.inverse = hn::Div(Set(1.0f), line.scale);
    return line;
  }

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
    range_ = hn::GetLane(hn::MaxOfLanes(d, high)) - smallest_;
    mean_ = hn::Mul(Sum(sum), Set(1.0f / static_cast<float>(width_)));
    return hn::GetLane(Sum(poison)) == 0.0f && std::abs(smallest_) <= kLargestF16 &&
           range_ <= kLargestF16 * max_code_;
  }

  // Over the middle `share` of the range.
  Line RangeLine(float share) const {
    return MakeLine(Set(share * range_ / max_code_), Set(smallest_ + 0.5f * (1 - share) * range_));
  }

  V Codes(const Line& line, int64_t i) const {
    const D d;
    const V offset = hn::Sub(hn::LoadU(d, values_ + i), line.minimum);
    const V code = hn::Round(hn::Mul(offset, line.inverse));
    return hn::Min(hn::Max(code, hn::Zero(d)), Set(max_code_));
  }

  // The line's squared error; the line becomes the one that is best for its codes: regression of
  // values on codes.
  V TryAndRefit(Line& line) const {
    const D d;
    V error = hn::Zero(d);
    V sum_u = hn::Zero(d);
    V sum_uu = hn::Zero(d);
    V sum_ux = hn::Zero(d);
    for (int64_t i = 0; i < width_; i += kLanes) {
      const V x = hn::LoadU(d, values_ + i);
      const V u = Codes(line, i);
      const V off = hn::Sub(x, hn::MulAdd(line.scale, u, line.minimum));
      error = hn::MulAdd(off, off, error);
      sum_u = hn::Add(sum_u, u);
      sum_uu = hn::MulAdd(u, u, sum_uu);
      // About the mean, which changes no covariance and keeps its digits.
      sum_ux = hn::MulAdd(u, hn::Sub(x, mean_), sum_ux);
    }
    sum_u = Sum(sum_u);
    sum_ux = Sum(sum_ux);
    const V mean_u = hn::Mul(sum_u, Set(1.0f / static_cast<float>(width_)));
    const V variance = hn::NegMulAdd(sum_u, mean_u, Sum(sum_uu));
    // Where all codes are the same, any line will do.
    const V slope = hn::Div(sum_ux, hn::Max(variance, Set(kLeastVariance)));
    line = MakeLine(slope, hn::NegMulAdd(slope, mean_u, mean_));
    return Sum(error);
  }

  // Two starts, the whole range and the share of it that is right for normal numbers, each improved
  // twice by turns of codes and line (Lloyd's method); the best of all. The whole range is among
  // them, so no segment gets worse by it.
  Line BestLine() const {
    const float share = type_ == SegmentType::kInt2   ? 0.75f
                        : type_ == SegmentType::kInt3 ? 0.9f
                                                      : 0.95f;
    Line lines[2] = {RangeLine(1), RangeLine(share)};
    Line best = lines[0];
    V least = Set(INFINITY);
    for (int turn = 0; turn < 3; ++turn) {
      for (Line& line : lines) {
        const Line tried = line;
        const V error = TryAndRefit(line);
        // Without branches, which would be guesses.
        const auto better = hn::Lt(error, least);
        least = hn::IfThenElse(better, error, least);
        best.scale = hn::IfThenElse(better, tried.scale, best.scale);
        best.minimum = hn::IfThenElse(better, tried.minimum, best.minimum);
        best.inverse = hn::IfThenElse(better, tried.inverse, best.inverse);
      }
    }
    return best;
  }

  // Below that of two different codes among as many as a segment has.
  static constexpr float kLeastVariance = 0.5f;

  const SegmentType type_;
  const float max_code_;
  const float* HWY_RESTRICT values_;
  const int64_t width_;
  float smallest_ = 0;
  float range_ = 0;
  V mean_ = hn::Zero(D());
};

}  // namespace lorc::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LORC_KERNELS_CPU_QUANTIZE_INL_H_
