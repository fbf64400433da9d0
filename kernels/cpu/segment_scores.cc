// Bound: one multiply-add per number, token and head. Numbers are loaded and widened once for all
// heads of a tile. Codes are brought into pairs of 16 bits (int8: one instruction per pair and
// vector of tokens, int4 and int2 two to three, int3 five) and multiplied by 16-bit query codes:
// two multiply-adds per instruction and lane, exact in 32 bits.

#include "kernels/cpu/segment_scores.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/segment_scores.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/head_tiles-inl.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lorc::HWY_NAMESPACE {

template <int kHeads, int kVectors, typename T>
HWY_INLINE void ScorePlain(const ScoreArgs& args, int64_t vector, const float* HWY_RESTRICT query,
                           float* HWY_RESTRICT scores) {
  const DF d;
  const TokenRun& run = *args.run;
  const T* keys[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const int64_t token = (vector + v) * LanesF();
    keys[v] = reinterpret_cast<const T*>(run.parts[token / run.block_tokens] + args.offset) +
              token % run.block_tokens;
  }
  VF sum[kHeads][kVectors];
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kVectors; ++v) {
      sum[h][v] = hn::LoadU(d, scores + h * kRunTokens + (vector + v) * LanesF());
    }
  }
  for (int64_t i = 0; i < args.segment.width; ++i) {
    VF key[kVectors];
    for (int v = 0; v < kVectors; ++v) key[v] = LoadValues(keys[v] + i * run.block_tokens);
    for (int h = 0; h < kHeads; ++h) {
      const VF q = hn::Set(d, query[h * args.query_stride + i]);
      for (int v = 0; v < kVectors; ++v) sum[h][v] = hn::MulAdd(q, key[v], sum[h][v]);
    }
  }
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(sum[h][v], d, scores + h * kRunTokens + (vector + v) * LanesF());
    }
  }
}

template <int kHeads, int kVectors, SegmentType kType>
HWY_INLINE void ScoreCodes(const ScoreArgs& args, int64_t head, int64_t vector,
                           float* HWY_RESTRICT scores) {
  using Pairs = CodePairs<kType, KeyOrValue::kKey>;
  const DF d;
  const DI32 di;
  const TokenRun& run = *args.run;
  const int64_t width = args.segment.width;
  const int64_t low_row = RowBytes<typename Pairs::Low>(run.block_tokens);
  const int64_t high_row = RowBytes<typename Pairs::High>(run.block_tokens);
  const std::byte* low[kVectors];
  const std::byte* high[kVectors];
  const f16_t* steps[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const int64_t token = (vector + v) * LanesF();
    const int64_t slot = token % run.block_tokens;
    const std::byte* part = run.parts[token / run.block_tokens] + args.offset;
    low[v] = part + RowBytes<typename Pairs::Low>(slot);
    high[v] =
        part + Pairs::Low::Bytes(width, run.block_tokens) + RowBytes<typename Pairs::High>(slot);
    steps[v] =
        reinterpret_cast<const f16_t*>(part + width * run.block_tokens * BitsPerNumber(kType) / 8) +
        slot;
  }
  VI32 sum[kHeads][kVectors];
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kVectors; ++v) sum[h][v] = hn::Zero(di);
  }
  const int16_t* HWY_RESTRICT query = args.codes.codes + head * args.query_stride;
  for (int64_t i = 0; i < width; i += Pairs::kNumbers) {
    Pairs pairs[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      pairs[v].Load(low[v], high[v]);
      low[v] += low_row;
      high[v] += high_row;
    }
    for (int p = 0; p < Pairs::kNumbers; p += 2) {
      VI16 key[kVectors];
      for (int v = 0; v < kVectors; ++v) key[v] = pairs[v].Next();
      for (int h = 0; h < kHeads; ++h) {
        int32_t pair;
        hwy::CopyBytes<4>(query + h * args.query_stride + i + p, &pair);
        const VI16 q = SetPair(pair);
        for (int v = 0; v < kVectors; ++v) sum[h][v] = PairDot(sum[h][v], q, key[v]);
      }
    }
  }
  const float* scales = args.codes.scales + head * args.num_segments;
  const float* sums = args.codes.sums + head * args.num_segments;
  for (int v = 0; v < kVectors; ++v) {
    const VF step = LoadF16(steps[v]);
    const VF minimum = LoadF16(steps[v] + run.block_tokens);
    for (int h = 0; h < kHeads; ++h) {
      float* score = scores + h * kRunTokens + (vector + v) * LanesF();
      const VF scale = hn::Mul(step, hn::Set(d, scales[h * args.num_segments]));
      const VF base =
          hn::MulAdd(minimum, hn::Set(d, sums[h * args.num_segments]), hn::LoadU(d, score));
      hn::StoreU(hn::MulAdd(hn::ConvertTo(d, sum[h][v]), scale, base), d, score);
    }
  }
}

void Score(const ScoreArgs& args) {
  const int64_t num_vectors = (args.run->num_tokens + LanesF() - 1) / LanesF();
  WithType(args.segment.type, [&](auto type) HWY_ATTR {
    ForHeadTiles(args.num_heads, [&](auto heads, int64_t head) HWY_ATTR {
      constexpr int kHeads = heads.value;
      float* scores = args.scores + head * kRunTokens;
      ForVectors<VectorsFor(kHeads)>(num_vectors, [&](auto vectors, int64_t v) HWY_ATTR {
        if constexpr (HasScale(type.value)) {
          ScoreCodes<kHeads, vectors.value, type.value>(args, head, v, scores);
        } else {
          ScorePlain<kHeads, vectors.value, PlainNumber<type.value>>(
              args, v, args.query + head * args.query_stride, scores);
        }
      });
    });
  });
}

void EncodeSegment(const CacheSegment& segment, const float* HWY_RESTRICT query,
                   int16_t* HWY_RESTRICT codes, float* scale_of_query, float* sum_of_query) {
  const hn::CappedTag<float, 8> d;  // widths are multiples of 8
  const hn::Rebind<int16_t, decltype(d)> d16;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto largest = hn::Zero(d);
  auto total = hn::Zero(d);
  for (int64_t i = 0; i < segment.width; i += lanes) {
    const auto v = hn::LoadU(d, query + i);
    largest = hn::Max(largest, hn::Abs(v));
    total = hn::Add(total, v);
  }
  // Sums of width * MaxCode * code stay below 2^31.
  const float limit = static_cast<float>(
      std::min<int64_t>(32767, 0x7fffffff / (int64_t{MaxCode(segment.type)} * segment.width)));
  const float scale = hn::GetLane(hn::MaxOfLanes(d, largest)) / limit;
  const bool usable = std::isnormal(scale) && std::isfinite(1.0f / scale);
  const auto inverse = hn::Set(d, usable ? 1.0f / scale : 0.0f);
  for (int64_t i = 0; i < segment.width; i += lanes) {
    const auto code = hn::NearestInt(hn::Mul(hn::LoadU(d, query + i), inverse));
    hn::StoreU(hn::DemoteTo(d16, code), d16, codes + i);
  }
  // A query that is not finite stays visible through its sum.
  *scale_of_query = usable ? scale : 0.0f;
  *sum_of_query = hn::GetLane(hn::SumOfLanes(d, total));
}

void Encode(const std::vector<CacheSegment>& segments, const float* queries, int64_t stride,
            int64_t num_heads, const QueryCodes& to) {
  const int64_t num_segments = std::ssize(segments);
  for (int64_t head = 0; head < num_heads; ++head) {
    int64_t first = head * stride;
    for (int64_t s = 0; s < num_segments; ++s) {
      if (HasScale(segments[s].type)) {
        EncodeSegment(segments[s], queries + first, to.codes + first,
                      to.scales + head * num_segments + s, to.sums + head * num_segments + s);
      }
      first += segments[s].width;
    }
  }
}

}  // namespace lorc::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lorc {

HWY_EXPORT(Score);
HWY_EXPORT(Encode);

void ScoreSegment(const ScoreArgs& args) { HWY_DYNAMIC_DISPATCH(Score)(args); }

void EncodeQueries(const std::vector<CacheSegment>& segments, const float* queries, int64_t stride,
                   int64_t num_heads, const QueryCodes& to) {
  HWY_DYNAMIC_DISPATCH(Encode)(segments, queries, stride, num_heads, to);
}

}  // namespace lorc
#endif  // HWY_ONCE
