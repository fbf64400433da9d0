// Bound: one multiply-add per number, token and head, as in segment_scores.cc; here pairs are of
// two tokens, and the 16-bit factors are codes of the weights.

#include "kernels/cpu/segment_values.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/segment_values.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/head_tiles-inl.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lorc::HWY_NAMESPACE {

constexpr float kWeightCode = 32767.0f;  // 64 tokens of it times 255 stay below 2^31

template <int kHeads, int kVectors>
HWY_INLINE void StoreBlend(const VF (&sum)[kHeads][kVectors], const ValueArgs& args, int64_t head,
                           int64_t vector) {
  const DF d;
  for (int h = 0; h < kHeads; ++h) {
    const VF keep = hn::Set(d, args.keep[head + h]);
    const VF take = hn::Set(d, args.take[head + h]);
    for (int v = 0; v < kVectors; ++v) {
      float* to = args.out + (head + h) * args.out_stride + (vector + v) * LanesF();
      hn::StoreU(hn::MulAdd(sum[h][v], take, hn::Mul(hn::LoadU(d, to), keep)), d, to);
    }
  }
}

template <int kHeads, int kVectors, typename T>
HWY_INLINE void ValuePlain(const ValueArgs& args, int64_t head, int64_t vector) {
  const DF d;
  const TokenRun& run = *args.run;
  const int64_t width = args.segment.width;
  const float* HWY_RESTRICT weights = args.weights + head * kRunTokens;
  VF sum[kHeads][kVectors];
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kVectors; ++v) sum[h][v] = hn::Zero(d);
  }
  for (int64_t begin = 0; begin < run.num_tokens; begin += run.block_tokens) {
    const T* values =
        reinterpret_cast<const T*>(run.parts[begin / run.block_tokens] + args.offset) +
        vector * LanesF();
    const int64_t count = std::min(run.block_tokens, run.num_tokens - begin);
    for (int64_t t = 0; t < count; ++t) {
      VF value[kVectors];
      for (int v = 0; v < kVectors; ++v) value[v] = LoadValues(values + t * width + v * LanesF());
      for (int h = 0; h < kHeads; ++h) {
        const VF weight = hn::Set(d, weights[h * kRunTokens + begin + t]);
        for (int v = 0; v < kVectors; ++v) sum[h][v] = hn::MulAdd(weight, value[v], sum[h][v]);
      }
    }
  }
  StoreBlend(sum, args, head, vector);
}

// `unit`: of the weights' codes. Codes beyond the run's tokens are 0, so that whatever lies in
// slots that no token has been written to adds nothing.
template <int kHeads, int kVectors, SegmentType kType>
HWY_INLINE void ValueCodes(const ValueArgs& args, float unit, int64_t head, int64_t vector) {
  using Pairs = CodePairs<kType, KeyOrValue::kValue>;
  const DF d;
  const DI32 di;
  const TokenRun& run = *args.run;
  const int64_t width = args.segment.width;
  const int16_t* HWY_RESTRICT weights = args.codes + head * kRunTokens;
  const int64_t low_vector = RowBytes<typename Pairs::Low>(LanesF());
  const int64_t high_vector = RowBytes<typename Pairs::High>(LanesF());
  VI32 sum[kHeads][kVectors];
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kVectors; ++v) sum[h][v] = hn::Zero(di);
  }
  for (int64_t begin = 0; begin < run.num_tokens; begin += run.block_tokens) {
    const std::byte* part = run.parts[begin / run.block_tokens] + args.offset;
    const std::byte* low = part + vector * low_vector;
    const std::byte* high =
        part + Pairs::Low::Bytes(width, run.block_tokens) + vector * high_vector;
    const int64_t count = std::min(run.block_tokens, run.num_tokens - begin);
    for (int64_t t = 0; t < count; t += Pairs::kNumbers) {
      Pairs pairs[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        pairs[v].Load(low + v * low_vector, high + v * high_vector);
      }
      low += RowBytes<typename Pairs::Low>(width);
      high += RowBytes<typename Pairs::High>(width);
      for (int p = 0; p < Pairs::kNumbers; p += 2) {
        VI16 value[kVectors];
        for (int v = 0; v < kVectors; ++v) value[v] = pairs[v].Next();
        for (int h = 0; h < kHeads; ++h) {
          int32_t pair;
          hwy::CopyBytes<4>(weights + h * kRunTokens + begin + t + p, &pair);
          const VI16 weight = SetPair(pair);
          for (int v = 0; v < kVectors; ++v) sum[h][v] = PairDot(sum[h][v], weight, value[v]);
        }
      }
    }
  }
  VF total[kHeads][kVectors];
  for (int h = 0; h < kHeads; ++h) {
    const VF base = hn::Set(d, args.minimum_sums[head + h]);
    for (int v = 0; v < kVectors; ++v) {
      total[h][v] = hn::MulAdd(hn::ConvertTo(d, sum[h][v]), hn::Set(d, unit), base);
    }
  }
  StoreBlend(total, args, head, vector);
}

// Weights times steps as codes of at most kWeightCode, weight[t] step[t] = unit * codes[t] +
// rounding, and the sums of weight * minimum; returns the unit.
float EncodeWeights(const ValueArgs& args) {
  const DF d;
  const hn::Rebind<int16_t, DF> d16;
  const TokenRun& run = *args.run;
  const int64_t offset =
      args.offset + args.segment.width * run.block_tokens * BitsPerNumber(args.segment.type) / 8;
  HWY_ALIGN float steps[kRunTokens];
  HWY_ALIGN float minima[kRunTokens];
  VF largest = hn::Zero(d);
  // Words may hold 16 tokens.
  const int64_t padded = RoundUp16(run.num_tokens);
  for (int64_t t = 0; t < padded; t += LanesF()) {
    const auto* from = reinterpret_cast<const f16_t*>(run.parts[t / run.block_tokens] + offset) +
                       t % run.block_tokens;
    // Slots that no token has been written to hold anything.
    const auto valid = hn::FirstN(d, static_cast<size_t>(std::max<int64_t>(0, run.num_tokens - t)));
    const VF step = hn::IfThenElseZero(valid, LoadF16(from));
    largest = hn::Max(largest, step);
    hn::Store(step, d, steps + t);
    hn::Store(hn::IfThenElseZero(valid, LoadF16(from + run.block_tokens)), d, minima + t);
  }
  const float unit = hn::GetLane(hn::MaxOfLanes(d, largest)) / kWeightCode;
  const VF inverse = hn::Set(d, 1.0f / unit);
  for (int64_t t = 0; t < padded; t += LanesF()) {
    hn::Store(hn::Mul(hn::Load(d, steps + t), inverse), d, steps + t);
  }
  for (int64_t head = 0; head < args.num_heads; ++head) {
    const float* weights = args.weights + head * kRunTokens;
    int16_t* codes = args.codes + head * kRunTokens;
    VF minimum_sum = hn::Zero(d);
    for (int64_t t = 0; t < padded; t += LanesF()) {
      const VF weight = hn::LoadU(d, weights + t);
      minimum_sum = hn::MulAdd(weight, hn::Load(d, minima + t), minimum_sum);
      // Codes are of 0..kWeightCode: 2^23 aligns the mantissa so that its lower bits are the code.
      const VF code = hn::MulAdd(weight, hn::Load(d, steps + t), hn::Set(d, 0x1p23f));
      hn::StoreU(hn::BitCast(d16, hn::TruncateTo(DU16(), hn::BitCast(DU32(), code))), d16,
                 codes + t);
    }
    args.minimum_sums[head] = hn::GetLane(hn::SumOfLanes(d, minimum_sum));
  }
  return unit;
}

void Value(const ValueArgs& args) {
  const int64_t num_vectors = RoundUp16(args.segment.width) / LanesF();
  const float unit = HasScale(args.segment.type) ? EncodeWeights(args) : 0.0f;
  WithType(args.segment.type, [&](auto type) HWY_ATTR {
    ForHeadTiles(args.num_heads, [&](auto heads, int64_t head) HWY_ATTR {
      constexpr int kHeads = heads.value;
      ForVectors<VectorsFor(kHeads)>(num_vectors, [&](auto vectors, int64_t v) HWY_ATTR {
        if constexpr (HasScale(type.value)) {
          ValueCodes<kHeads, vectors.value, type.value>(args, unit, head, v);
        } else {
          ValuePlain<kHeads, vectors.value, PlainNumber<type.value>>(args, head, v);
        }
      });
    });
  });
}

}  // namespace lorc::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lorc {

HWY_EXPORT(Value);

void ValueSegment(const ValueArgs& args) { HWY_DYNAMIC_DISPATCH(Value)(args); }

}  // namespace lorc
#endif  // HWY_ONCE
