#include "kernels/cpu/elementwise.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/check.h"
#include "kernels/cpu/cpu_matrix.h"
#include "kernels/cpu/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lorc::HWY_NAMESPACE {

// Calls body(vector index k) for whole vectors of a row and tail(k) for single elements after them.
template <typename Body, typename Tail>
HWY_INLINE void ForRow(int64_t width, const Body& body, const Tail& tail) {
  int64_t k = 0;
  for (; k + LanesF() <= width; k += LanesF()) body(k);
  for (; k < width; ++k) tail(k);
}

template <typename T>
HWY_INLINE void StoreOne(float value, T* to) {
  if constexpr (sizeof(T) == 4) {
    *to = value;
  } else {
    *to = F32ToBf16(value);
  }
}

template <typename T>
HWY_INLINE void RmsNormRow(const float* HWY_RESTRICT x, const float* HWY_RESTRICT gain,
                           int64_t width, float epsilon, T* HWY_RESTRICT out) {
  const DF d;
  VF squares = hn::Zero(d);
  float tail_squares = 0;
  ForRow(
      width,
      [&](int64_t k) HWY_ATTR {
        const VF v = hn::LoadU(d, x + k);
        squares = hn::MulAdd(v, v, squares);
      },
      [&](int64_t k) { tail_squares += x[k] * x[k]; });
  const float sum = hn::GetLane(hn::SumOfLanes(d, squares)) + tail_squares;
  const float factor = 1.0f / std::sqrt(sum / static_cast<float>(width) + epsilon);
  const VF factors = hn::Set(d, factor);
  ForRow(
      width,
      [&](int64_t k) HWY_ATTR {
        const VF v = hn::Mul(hn::LoadU(d, x + k), factors);
        StoreValues(hn::Mul(v, hn::LoadU(d, gain + k)), out + k);
      },
      [&](int64_t k) { StoreOne(x[k] * factor * gain[k], out + k); });
}

void RmsNormRowF32(const float* x, const float* gain, int64_t width, float epsilon, float* out) {
  RmsNormRow(x, gain, width, epsilon, out);
}
void RmsNormRowBf16(const float* x, const float* gain, int64_t width, float epsilon, bf16_t* out) {
  RmsNormRow(x, gain, width, epsilon, out);
}

void RowStats(const float* HWY_RESTRICT logits, int64_t width, int32_t* argmax, float* max,
              float* log_sum_exp) {
  const DF d;
  VF largest = hn::Set(d, -HUGE_VALF);
  float tail_largest = -HUGE_VALF;
  ForRow(
      width, [&](int64_t k) HWY_ATTR { largest = hn::Max(largest, hn::LoadU(d, logits + k)); },
      [&](int64_t k) { tail_largest = std::max(tail_largest, logits[k]); });
  const float top = std::max(hn::GetLane(hn::MaxOfLanes(d, largest)), tail_largest);
  const VF tops = hn::Set(d, top);
  VF sum = hn::Zero(d);
  float tail_sum = 0;
  int64_t where = width;
  ForRow(
      width,
      [&](int64_t k) HWY_ATTR {
        const VF v = hn::LoadU(d, logits + k);
        if (where == width) {
          const intptr_t found = hn::FindFirstTrue(d, hn::Eq(v, tops));
          if (found >= 0) where = k + found;
        }
        const VF difference = hn::Sub(v, tops);
        // Highway's Exp does not promise to keep NaN: the difference brings it back.
        sum =
            hn::Add(sum, hn::IfThenElse(hn::IsNaN(difference), difference, hn::Exp(d, difference)));
      },
      [&](int64_t k) {
        if (where == width && logits[k] == top) where = k;
        tail_sum += std::exp(logits[k] - top);
      });
  const float total = hn::GetLane(hn::SumOfLanes(d, sum)) + tail_sum;
  *argmax = static_cast<int32_t>(where == width ? 0 : where);
  *max = top;
  *log_sum_exp = top + std::log(total);
}

void Weights(float* HWY_RESTRICT x, int64_t width, float max, float scale, float* block_sums) {
  const DF d;
  const VF shift = hn::Set(d, max);
  const VF factor = hn::Set(d, scale);
  const auto weight = [&](VF v) HWY_ATTR { return hn::Exp(d, hn::Mul(hn::Sub(v, shift), factor)); };
  for (int64_t begin = 0; begin < width; begin += kWeightBlock) {
    VF sum = hn::Zero(d);
    float tail_sum = 0;
    ForRow(
        std::min(kWeightBlock, width - begin),
        [&](int64_t k) HWY_ATTR {
          const VF w = weight(hn::LoadU(d, x + begin + k));
          hn::StoreU(w, d, x + begin + k);
          sum = hn::Add(sum, w);
        },
        [&](int64_t k) HWY_ATTR {
          x[begin + k] = hn::GetLane(weight(hn::Set(d, x[begin + k])));
          tail_sum += x[begin + k];
        });
    *block_sums++ = hn::GetLane(hn::SumOfLanes(d, sum)) + tail_sum;
  }
}

}  // namespace lorc::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lorc {

HWY_EXPORT(RmsNormRowF32);
HWY_EXPORT(RmsNormRowBf16);
HWY_EXPORT(RowStats);
HWY_EXPORT(Weights);

void CpuEmbed(const EmbedArgs& args, ThreadPool& pool) {
  const auto& table = static_cast<const CpuMatrix&>(*args.table);
  pool.ParallelFor(args.num_tokens, [&](int64_t t, int) {
    table.ReadRow(args.tokens[t], args.out + t * table.columns());
  });
}

void CpuRmsNorm(const RmsNormArgs& args, ThreadPool& pool) {
  const auto f32 = &HWY_DYNAMIC_DISPATCH(RmsNormRowF32);
  const auto bf16 = &HWY_DYNAMIC_DISPATCH(RmsNormRowBf16);
  pool.ParallelFor(args.num_rows, [&](int64_t t, int) {
    const float* x = args.x + (args.rows == nullptr ? t : args.rows[t]) * args.width;
    if (args.out_type == DType::kF32) {
      f32(x, args.gain, args.width, args.epsilon, static_cast<float*>(args.out) + t * args.width);
    } else {
      LORC_CHECK(args.out_type == DType::kBf16);
      bf16(x, args.gain, args.width, args.epsilon, static_cast<bf16_t*>(args.out) + t * args.width);
    }
  });
}

void CpuRowStats(const RowStatsArgs& args, ThreadPool& pool) {
  const auto row_stats = &HWY_DYNAMIC_DISPATCH(RowStats);
  pool.ParallelFor(args.num_rows, [&](int64_t t, int) {
    row_stats(args.logits + t * args.stride, args.width, args.argmax + t, args.max + t,
              args.log_sum_exp + t);
  });
}

void CpuWeights(const WeightsArgs& args, ThreadPool& pool) {
  const auto weights = &HWY_DYNAMIC_DISPATCH(Weights);
  const int64_t num_blocks = (args.width + kWeightBlock - 1) / kWeightBlock;
  pool.ParallelFor(args.num_rows, [&](int64_t t, int) {
    if (args.scale[t] == 0) return;
    weights(args.x + t * args.stride, args.width, args.max[t], args.scale[t],
            args.block_sums + t * num_blocks);
  });
}

}  // namespace lorc
#endif  // HWY_ONCE
