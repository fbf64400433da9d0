// Bound: per latent number, token and head one multiply-add for scores and one for outputs. Latent
// numbers are loaded and widened once for all heads of their group. int8 codes are widened to 16
// bits and multiplied in pairs by 16-bit query codes (or weights): two multiply-adds per
// instruction and lane, exact in 32 bits.

#include "kernels/cpu/absorbed_attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/check.h"
#include "kernels/cpu/cache_blocks.h"
#include "kernels/cpu/cpu_basis.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/absorbed_attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lorc::HWY_NAMESPACE {

constexpr float kMasked = -1e30f;  // finite, so that differences of two of them are numbers
constexpr int kMaxHeads = 12;      // heads whose sums the registers hold
constexpr float kWeightCode = 32767.0f;

constexpr int64_t RoundUp16(int64_t value) { return (value + 15) / 16 * 16; }

// Vectors of tokens (or columns) that go together, so that enough sums are in flight.
constexpr int VectorsFor(int heads) { return heads <= 3 ? 4 : heads <= 6 ? 2 : 1; }

// Calls body(integral_constant<heads>, first) for tiles of at most kMaxHeads heads.
template <typename Body>
HWY_INLINE void ForHeadTiles(int64_t num_heads, const Body& body) {
  int64_t first = 0;
  while (first < num_heads) {
    const int64_t count = std::min<int64_t>(kMaxHeads, num_heads - first);
    switch (count) {
#define LORC_HEADS(n)                              \
  case n:                                          \
    body(std::integral_constant<int, n>(), first); \
    break
      LORC_HEADS(1);
      LORC_HEADS(2);
      LORC_HEADS(3);
      LORC_HEADS(4);
      LORC_HEADS(5);
      LORC_HEADS(6);
      LORC_HEADS(7);
      LORC_HEADS(8);
      LORC_HEADS(9);
      LORC_HEADS(10);
      LORC_HEADS(11);
      LORC_HEADS(12);
#undef LORC_HEADS
      default:
        break;
    }
    first += count;
  }
}

// Calls body(integral_constant<vectors>, first) over [0, count).
template <int kMost, typename Body>
HWY_INLINE void ForVectors(int64_t count, const Body& body, int64_t first = 0) {
  for (; first + kMost <= count; first += kMost) body(std::integral_constant<int, kMost>(), first);
  if constexpr (kMost > 1) ForVectors<kMost / 2>(count, body, first);
}

// A run: consecutive tokens of one kind, in whole blocks but for the last.
struct Run {
  const std::byte* parts[kRunTokens / 16];  // K or V part of each block
  int64_t num_tokens;
  int64_t block_tokens;

  int64_t num_vectors() const { return (num_tokens + LanesF() - 1) / LanesF(); }
};

// ---- Scores: scores[head][token] += query . key, heads kRunTokens apart.

template <int kHeads, int kVectors, typename T>
HWY_INLINE void ScorePlain(const Run& run, int64_t offset, int64_t width, int64_t vector,
                           const float* HWY_RESTRICT query, int64_t query_stride,
                           float* HWY_RESTRICT scores) {
  const DF d;
  const T* keys[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const int64_t token = (vector + v) * LanesF();
    keys[v] = reinterpret_cast<const T*>(run.parts[token / run.block_tokens] + offset) +
              token % run.block_tokens;
  }
  VF sum[kHeads][kVectors];
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kVectors; ++v) {
      sum[h][v] = hn::LoadU(d, scores + h * kRunTokens + (vector + v) * LanesF());
    }
  }
  for (int64_t i = 0; i < width; ++i) {
    VF key[kVectors];
    for (int v = 0; v < kVectors; ++v) key[v] = LoadValues(keys[v] + i * run.block_tokens);
    for (int h = 0; h < kHeads; ++h) {
      const VF q = hn::Set(d, query[h * query_stride + i]);
      for (int v = 0; v < kVectors; ++v) sum[h][v] = hn::MulAdd(q, key[v], sum[h][v]);
    }
  }
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(sum[h][v], d, scores + h * kRunTokens + (vector + v) * LanesF());
    }
  }
}

// query = scale * codes + rounding; a key is minimum + step * u, so that
// query . key = scale * step * (codes . u) + minimum * sum(query).
struct QueryCodes {
  const int16_t* codes;  // [heads][stride]
  int64_t stride;
  const float* scales;  // [heads], scale_stride apart
  const float* sums;
  int64_t scale_stride;
};

template <int kHeads, int kVectors>
HWY_INLINE void ScoreInt8(const Run& run, int64_t offset, int64_t width, int64_t vector,
                          const QueryCodes& query, float* HWY_RESTRICT scores) {
  const DF d;
  const DI32 di;
  const DI16Pairs d16;
  const hn::Rebind<uint8_t, DI16Pairs> d8;
  const std::byte* parts[kVectors];
  int64_t slots[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const int64_t token = (vector + v) * LanesF();
    parts[v] = run.parts[token / run.block_tokens] + offset;
    slots[v] = token % run.block_tokens;
  }
  VI32 sum[kHeads][kVectors];
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kVectors; ++v) sum[h][v] = hn::Zero(di);
  }
  for (int64_t i = 0; i < width; i += 2) {
    VI16 key[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const auto* pairs =
          reinterpret_cast<const uint8_t*>(parts[v]) + (i / 2 * run.block_tokens + slots[v]) * 2;
      key[v] =
          hn::BitCast(d16, hn::PromoteTo(hn::RebindToUnsigned<DI16Pairs>(), hn::LoadU(d8, pairs)));
    }
    for (int h = 0; h < kHeads; ++h) {
      int32_t pair;
      hwy::CopyBytes<4>(query.codes + h * query.stride + i, &pair);
      const VI16 q = SetPair(pair);
      for (int v = 0; v < kVectors; ++v) sum[h][v] = PairDot(sum[h][v], q, key[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    const auto* steps =
        reinterpret_cast<const f16_t*>(parts[v] + width * run.block_tokens) + slots[v];
    const VF step = LoadF16(steps);
    const VF minimum = LoadF16(steps + run.block_tokens);
    for (int h = 0; h < kHeads; ++h) {
      float* score = scores + h * kRunTokens + (vector + v) * LanesF();
      const VF scale = hn::Mul(step, hn::Set(d, query.scales[h * query.scale_stride]));
      const VF base =
          hn::MulAdd(minimum, hn::Set(d, query.sums[h * query.scale_stride]), hn::LoadU(d, score));
      hn::StoreU(hn::MulAdd(hn::ConvertTo(d, sum[h][v]), scale, base), d, score);
    }
  }
}

// ---- Softmax of a run, per head.

// scores become weights exp(score - the run's maximum); what the part holds is to be multiplied by
// `keep`, the run's sums by `take`.
HWY_INLINE void SoftmaxRun(int64_t num_tokens, float* HWY_RESTRICT scores, float* maximum,
                           float* sum, float* keep, float* take) {
  const DF d;
  for (int64_t t = num_tokens; t < kRunTokens; ++t) scores[t] = kMasked;
  VF top = hn::Set(d, kMasked);
  for (int64_t t = 0; t < kRunTokens; t += LanesF()) top = hn::Max(top, hn::LoadU(d, scores + t));
  const VF tops = hn::MaxOfLanes(d, top);
  VF total = hn::Zero(d);
  for (int64_t t = 0; t < kRunTokens; t += LanesF()) {
    const VF weight = hn::Exp(d, hn::Sub(hn::LoadU(d, scores + t), tops));
    hn::StoreU(weight, d, scores + t);
    total = hn::Add(total, weight);
  }
  const float run_maximum = hn::GetLane(tops);
  const float now = std::max(*maximum, run_maximum);
  *keep = hn::GetLane(hn::Exp(d, hn::Set(d, *maximum - now)));
  *take = hn::GetLane(hn::Exp(d, hn::Set(d, run_maximum - now)));
  *maximum = now;
  *sum = *sum * *keep + hn::GetLane(hn::SumOfLanes(d, total)) * *take;
}

// ---- Outputs: out[head][column] = keep * out + take * sum_t weight[head][t] value[t][column].

struct Blend {
  const float* keep;  // [heads]
  const float* take;
};

template <int kHeads, int kVectors>
HWY_INLINE void StoreBlend(const VF (&sum)[kHeads][kVectors], const Blend& blend,
                           float* HWY_RESTRICT out, int64_t out_stride) {
  const DF d;
  for (int h = 0; h < kHeads; ++h) {
    const VF keep = hn::Set(d, blend.keep[h]);
    const VF take = hn::Set(d, blend.take[h]);
    for (int v = 0; v < kVectors; ++v) {
      float* to = out + h * out_stride + v * LanesF();
      hn::StoreU(hn::MulAdd(sum[h][v], take, hn::Mul(hn::LoadU(d, to), keep)), d, to);
    }
  }
}

template <int kHeads, int kVectors, typename T>
HWY_INLINE void ValuePlain(const Run& run, int64_t offset, int64_t width, int64_t vector,
                           const float* HWY_RESTRICT weights, const Blend& blend,
                           float* HWY_RESTRICT out, int64_t out_stride) {
  const DF d;
  VF sum[kHeads][kVectors];
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kVectors; ++v) sum[h][v] = hn::Zero(d);
  }
  for (int64_t begin = 0; begin < run.num_tokens; begin += run.block_tokens) {
    const T* values = reinterpret_cast<const T*>(run.parts[begin / run.block_tokens] + offset) +
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
  StoreBlend(sum, blend, out + vector * LanesF(), out_stride);
}

// Weights times steps as codes of at most kWeightCode: weight[t] step[t] = unit * codes[t] +
// rounding.
struct WeightCodes {
  const int16_t* codes;  // [heads][kRunTokens]
  float unit;
  const float* minimum_sums;  // [heads]: sum_t weight[t] minimum[t]
};

template <int kHeads, int kVectors>
HWY_INLINE void ValueInt8(const Run& run, int64_t offset, int64_t width, int64_t vector,
                          const WeightCodes& weights, const Blend& blend, float* HWY_RESTRICT out,
                          int64_t out_stride) {
  const DF d;
  const DI32 di;
  const DI16Pairs d16;
  const hn::Rebind<uint8_t, DI16Pairs> d8;
  VI32 sum[kHeads][kVectors];
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kVectors; ++v) sum[h][v] = hn::Zero(di);
  }
  for (int64_t begin = 0; begin < run.num_tokens; begin += run.block_tokens) {
    const auto* codes =
        reinterpret_cast<const uint8_t*>(run.parts[begin / run.block_tokens] + offset) +
        2 * vector * LanesF();
    const int64_t count = std::min(run.block_tokens, run.num_tokens - begin);
    for (int64_t t = 0; t < count; t += 2) {
      VI16 value[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        value[v] =
            hn::BitCast(d16, hn::PromoteTo(hn::RebindToUnsigned<DI16Pairs>(),
                                           hn::LoadU(d8, codes + t * width + 2 * v * LanesF())));
      }
      for (int h = 0; h < kHeads; ++h) {
        int32_t pair;
        hwy::CopyBytes<4>(weights.codes + h * kRunTokens + begin + t, &pair);
        const VI16 weight = SetPair(pair);
        for (int v = 0; v < kVectors; ++v) sum[h][v] = PairDot(sum[h][v], weight, value[v]);
      }
    }
  }
  VF total[kHeads][kVectors];
  const VF unit = hn::Set(d, weights.unit);
  for (int h = 0; h < kHeads; ++h) {
    const VF base = hn::Set(d, weights.minimum_sums[h]);
    for (int v = 0; v < kVectors; ++v)
      total[h][v] = hn::MulAdd(hn::ConvertTo(d, sum[h][v]), unit, base);
  }
  StoreBlend(total, blend, out + vector * LanesF(), out_stride);
}

// ---- One stretch.

class Stretch {
 public:
  explicit Stretch(const StretchArgs& args)
      : args_(args),
        layer_(*args.layer),
        h_(layer_.num_heads),
        d_(layer_.head_dim),
        rank_(layer_.key.rank),
        num_segments_(std::ssize(layer_.key.segments)) {
    float* next = args.scratch;
    const auto take = [&next](int64_t count) {
      float* piece = next;
      next += RoundUp16(count);
      return piece;
    };
    rotated_ = take(h_ * d_);
    scores_ = take(h_ * kRunTokens);
    keep_ = take(h_);
    take_ = take(h_);
    minimum_sums_ = take(h_);
    weight_codes_ = reinterpret_cast<int16_t*>(take(h_ * kRunTokens / 2));
    absorbed_ = take(h_ * RoundUp16(rank_));
    query_codes_ = reinterpret_cast<int16_t*>(take(h_ * RoundUp16(rank_) / 2));
    query_scales_ = take(h_ * num_segments_);
    query_sums_ = take(h_ * num_segments_);
  }

  void Attend() {
    Clear(args_.exact);
    Clear(args_.latent);
    const int64_t block_tokens = layer_.block_tokens;
    const int64_t query_block = args_.position / block_tokens;
    int64_t chunk = -1;     // start of the chunk that the query is rotated for
    int64_t absorbed = -1;  // and of the one that it has absorbed the basis for
    for (int64_t begin = args_.begin; begin < args_.end;) {
      const bool exact = layer_.IsExact(begin / block_tokens, query_block);
      const int64_t start = layer_.ChunkStart(begin);
      int64_t limit = std::min(args_.end, (begin / kRunTokens + 1) * kRunTokens);
      if (layer_.anchor > 0) limit = std::min(limit, start + layer_.anchor);
      int64_t end = begin;
      while (end < limit && layer_.IsExact(end / block_tokens, query_block) == exact) {
        end = std::min(limit, (end / block_tokens + 1) * block_tokens);
      }
      if (chunk != start) RotateQuery(start);
      chunk = start;
      if (!exact && absorbed != start) {
        Absorb();
        absorbed = start;
      }
      if (exact) {
        AttendExact(begin, end);
      } else {
        AttendLatent(begin, end);
      }
      begin = end;
    }
  }

 private:
  void Clear(const SoftmaxPart& part) const {
    std::fill_n(part.maximum, h_, kMasked);
    std::fill_n(part.sum, h_, 0.0f);
    std::fill_n(part.out, h_ * part.columns, 0.0f);
  }

  void RotateQuery(int64_t start) {
    const int64_t turn = args_.position - start;
    RotateHeads(args_.query, layer_.rope_cos + turn * (d_ / 2), layer_.rope_sin + turn * (d_ / 2),
                h_, d_, rotated_);
    const float scale = 1.0f / std::sqrt(static_cast<float>(d_));
    for (int64_t i = 0; i < h_ * d_; ++i) rotated_[i] *= scale;
  }

  // absorbed[head] = D^T rotated[head], and its codes for int8 segments.
  HWY_NOINLINE void Absorb() {
    const int64_t stride = RoundUp16(rank_);
    const int64_t heads_per_kv = h_ / layer_.num_kv_heads;
    if (layer_.key.basis == nullptr) {
      // The identity: one group per KV head, so that a head's query is its own.
      for (int64_t head = 0; head < h_; ++head) {
        const int64_t first = head / heads_per_kv % layer_.key.heads_per_group * d_;
        std::fill_n(absorbed_ + head * stride, stride, 0.0f);
        std::copy_n(rotated_ + head * d_, d_, absorbed_ + head * stride + first);
      }
    } else {
      const auto& basis = static_cast<const CpuBasis&>(*layer_.key.basis);
      for (int64_t kv_head = 0; kv_head < layer_.num_kv_heads; ++kv_head) {
        ForHeadTiles(heads_per_kv, [&](auto heads, int64_t first) HWY_ATTR {
          constexpr int kHeads = heads.value;
          const int64_t head = kv_head * heads_per_kv + first;
          ForVectors<VectorsFor(kHeads)>(stride / LanesF(), [&](auto vectors, int64_t v) HWY_ATTR {
            AbsorbTile<kHeads, vectors.value>(basis.absorb(kv_head) + v * LanesF(), stride,
                                              rotated_ + head * d_,
                                              absorbed_ + head * stride + v * LanesF());
          });
        });
      }
    }
    for (int64_t head = 0; head < h_; ++head) EncodeQuery(head);
  }

  template <int kHeads, int kVectors>
  HWY_INLINE void AbsorbTile(const float* HWY_RESTRICT basis, int64_t stride,
                             const float* HWY_RESTRICT query, float* HWY_RESTRICT out) const {
    const DF d;
    VF sum[kHeads][kVectors];
    for (int h = 0; h < kHeads; ++h) {
      for (int v = 0; v < kVectors; ++v) sum[h][v] = hn::Zero(d);
    }
    for (int64_t i = 0; i < d_; ++i) {
      VF row[kVectors];
      for (int v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, basis + i * stride + v * LanesF());
      for (int h = 0; h < kHeads; ++h) {
        const VF q = hn::Set(d, query[h * d_ + i]);
        for (int v = 0; v < kVectors; ++v) sum[h][v] = hn::MulAdd(q, row[v], sum[h][v]);
      }
    }
    for (int h = 0; h < kHeads; ++h) {
      for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[h][v], d, out + h * stride + v * LanesF());
    }
  }

  void EncodeQuery(int64_t head) {
    const hn::CappedTag<float, 8> d;  // widths are multiples of 8
    const hn::Rebind<int16_t, decltype(d)> d16;
    const int64_t stride = RoundUp16(rank_);
    const float* query = absorbed_ + head * stride;
    int16_t* codes = query_codes_ + head * stride;
    for (int64_t s = 0; s < num_segments_; ++s) {
      const CacheSegment& segment = layer_.key.segments[s];
      if (segment.type == DType::kInt8) {
        auto largest = hn::Zero(d);
        auto total = hn::Zero(d);
        for (int64_t i = 0; i < segment.width; i += static_cast<int64_t>(hn::Lanes(d))) {
          const auto v = hn::LoadU(d, query + i);
          largest = hn::Max(largest, hn::Abs(v));
          total = hn::Add(total, v);
        }
        // Sums of width * 255 * code stay below 2^31.
        const float limit = static_cast<float>(
            std::min<int64_t>(32767, 0x7fffffff / (255 * int64_t{segment.width})));
        const float scale = hn::GetLane(hn::MaxOfLanes(d, largest)) / limit;
        const bool usable = std::isnormal(scale) && std::isfinite(1.0f / scale);
        const auto inverse = hn::Set(d, usable ? 1.0f / scale : 0.0f);
        for (int64_t i = 0; i < segment.width; i += static_cast<int64_t>(hn::Lanes(d))) {
          const auto code = hn::NearestInt(hn::Mul(hn::LoadU(d, query + i), inverse));
          hn::StoreU(hn::DemoteTo(d16, code), d16, codes + i);
        }
        // A query that is not finite stays visible through its sum.
        query_scales_[head * num_segments_ + s] = usable ? scale : 0.0f;
        query_sums_[head * num_segments_ + s] = hn::GetLane(hn::SumOfLanes(d, total));
      }
      query += segment.width;
      codes += segment.width;
    }
  }

  Run MakeRun(int64_t begin, int64_t end, const std::byte* pool, const int32_t* blocks,
              int64_t block_bytes, int64_t part_offset) const {
    Run run;
    run.num_tokens = end - begin;
    run.block_tokens = layer_.block_tokens;
    for (int64_t t = begin; t < end; t += run.block_tokens) {
      run.parts[(t - begin) / run.block_tokens] =
          pool + blocks[t / run.block_tokens] * block_bytes + part_offset;
    }
    return run;
  }

  void AttendExact(int64_t begin, int64_t end) {
    const int64_t bytes = layer_.ExactBlockBytes();
    const Run keys = MakeRun(begin, end, layer_.exact_pool, args_.exact_blocks, bytes, 0);
    const Run values = MakeRun(begin, end, layer_.exact_pool, args_.exact_blocks, bytes, bytes / 2);
    std::fill_n(scores_, h_ * kRunTokens, 0.0f);
    const int64_t heads_per_kv = h_ / layer_.num_kv_heads;
    const int64_t head_bytes = layer_.block_tokens * d_ * ByteSize(layer_.exact_type);
    for (int64_t kv_head = 0; kv_head < layer_.num_kv_heads; ++kv_head) {
      ScoreSegment({layer_.exact_type, layer_.head_dim}, keys, kv_head * head_bytes,
                   kv_head * heads_per_kv, heads_per_kv, rotated_, d_, 0, 0);
    }
    Softmax(keys.num_tokens, args_.exact);
    for (int64_t kv_head = 0; kv_head < layer_.num_kv_heads; ++kv_head) {
      ValueSegment({layer_.exact_type, layer_.head_dim}, values, kv_head * head_bytes,
                   kv_head * heads_per_kv, heads_per_kv, args_.exact, 0);
    }
  }

  void AttendLatent(int64_t begin, int64_t end) {
    const int64_t bytes = layer_.LatentBlockBytes();
    const int64_t key_bytes = layer_.block_tokens * layer_.key.BytesPerToken();
    const Run keys = MakeRun(begin, end, layer_.latent_pool, args_.latent_blocks, bytes, 0);
    const Run values =
        MakeRun(begin, end, layer_.latent_pool, args_.latent_blocks, bytes, key_bytes);
    std::fill_n(scores_, h_ * kRunTokens, 0.0f);
    int64_t offset = 0;
    const int64_t key_heads = h_ / layer_.key.groups;
    for (int64_t group = 0; group < layer_.key.groups; ++group) {
      int64_t first = 0;
      for (int64_t s = 0; s < num_segments_; ++s) {
        const CacheSegment& segment = layer_.key.segments[s];
        ScoreSegment(segment, keys, offset, group * key_heads, key_heads, absorbed_,
                     RoundUp16(rank_), first, s);
        first += segment.width;
        offset += SegmentBlockBytes(segment, layer_.block_tokens);
      }
    }
    Softmax(keys.num_tokens, args_.latent);
    offset = 0;
    const int64_t value_heads = h_ / layer_.value.groups;
    for (int64_t group = 0; group < layer_.value.groups; ++group) {
      int64_t column = 0;
      for (const CacheSegment& segment : layer_.value.segments) {
        ValueSegment(segment, values, offset, group * value_heads, value_heads, args_.latent,
                     column);
        column += RoundUp16(segment.width);
        offset += SegmentBlockBytes(segment, layer_.block_tokens);
      }
    }
  }

  // `first`: of the segment within the query; `s`: its index.
  HWY_INLINE void ScoreSegment(const CacheSegment& segment, const Run& run, int64_t offset,
                               int64_t first_head, int64_t num_heads, const float* query,
                               int64_t query_stride, int64_t first, int64_t s) {
    ForHeadTiles(num_heads, [&](auto heads, int64_t tile) HWY_ATTR {
      constexpr int kHeads = heads.value;
      const int64_t head = first_head + tile;
      float* scores = scores_ + head * kRunTokens;
      const float* q = query + head * query_stride + first;
      const QueryCodes codes{query_codes_ + head * query_stride + first, query_stride,
                             query_scales_ + head * num_segments_ + s,
                             query_sums_ + head * num_segments_ + s, num_segments_};
      ForVectors<VectorsFor(kHeads)>(run.num_vectors(), [&](auto vectors, int64_t v) HWY_ATTR {
        constexpr int kVectors = vectors.value;
        if (segment.type == DType::kInt8) {
          ScoreInt8<kHeads, kVectors>(run, offset, segment.width, v, codes, scores);
        } else if (segment.type == DType::kBf16) {
          ScorePlain<kHeads, kVectors, bf16_t>(run, offset, segment.width, v, q, query_stride,
                                               scores);
        } else {
          ScorePlain<kHeads, kVectors, float>(run, offset, segment.width, v, q, query_stride,
                                              scores);
        }
      });
    });
  }

  void Softmax(int64_t num_tokens, const SoftmaxPart& part) {
    for (int64_t head = 0; head < h_; ++head) {
      SoftmaxRun(num_tokens, scores_ + head * kRunTokens, part.maximum + head, part.sum + head,
                 keep_ + head, take_ + head);
    }
  }

  HWY_INLINE void ValueSegment(const CacheSegment& segment, const Run& run, int64_t offset,
                               int64_t first_head, int64_t num_heads, const SoftmaxPart& part,
                               int64_t column) {
    float unit = 0;
    if (segment.type == DType::kInt8) {
      unit = EncodeWeights(run, offset + segment.width * run.block_tokens, first_head, num_heads);
    }
    const int64_t vectors_of_row = RoundUp16(segment.width) / LanesF();
    ForHeadTiles(num_heads, [&](auto heads, int64_t tile) HWY_ATTR {
      constexpr int kHeads = heads.value;
      const int64_t head = first_head + tile;
      const Blend blend{keep_ + head, take_ + head};
      float* out = part.out + head * part.columns + column;
      const float* weights = scores_ + head * kRunTokens;
      const WeightCodes codes{weight_codes_ + head * kRunTokens, unit, minimum_sums_ + head};
      ForVectors<VectorsFor(kHeads)>(vectors_of_row, [&](auto vectors, int64_t v) HWY_ATTR {
        constexpr int kVectors = vectors.value;
        if (segment.type == DType::kInt8) {
          ValueInt8<kHeads, kVectors>(run, offset, segment.width, v, codes, blend, out,
                                      part.columns);
        } else if (segment.type == DType::kBf16) {
          ValuePlain<kHeads, kVectors, bf16_t>(run, offset, segment.width, v, weights, blend, out,
                                               part.columns);
        } else {
          ValuePlain<kHeads, kVectors, float>(run, offset, segment.width, v, weights, blend, out,
                                              part.columns);
        }
      });
    });
  }

  // Codes of weight * step for the heads, and their sums of weight * minimum; returns the codes'
  // unit.
  float EncodeWeights(const Run& run, int64_t offset, int64_t first_head, int64_t num_heads) {
    const DF d;
    const hn::Rebind<int16_t, DF> d16;
    HWY_ALIGN float steps[kRunTokens];
    HWY_ALIGN float minima[kRunTokens];
    VF largest = hn::Zero(d);
    const int64_t padded = run.num_vectors() * LanesF();
    for (int64_t t = 0; t < padded; t += LanesF()) {
      const auto* from = reinterpret_cast<const f16_t*>(run.parts[t / run.block_tokens] + offset) +
                         t % run.block_tokens;
      // Slots that no token has been written to hold anything.
      const auto valid = hn::FirstN(d, static_cast<size_t>(run.num_tokens - t));
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
    for (int64_t head = first_head; head < first_head + num_heads; ++head) {
      const float* weights = scores_ + head * kRunTokens;
      int16_t* codes = weight_codes_ + head * kRunTokens;
      VF minimum_sum = hn::Zero(d);
      for (int64_t t = 0; t < padded; t += LanesF()) {
        const VF weight = hn::LoadU(d, weights + t);
        minimum_sum = hn::MulAdd(weight, hn::Load(d, minima + t), minimum_sum);
        const auto code = hn::NearestInt(hn::Mul(weight, hn::Load(d, steps + t)));
        hn::StoreU(hn::DemoteTo(d16, code), d16, codes + t);
      }
      minimum_sums_[head] = hn::GetLane(hn::SumOfLanes(d, minimum_sum));
    }
    return unit;
  }

  const StretchArgs& args_;
  const CacheLayer& layer_;
  const int64_t h_;
  const int64_t d_;
  const int64_t rank_;
  const int64_t num_segments_;
  float* rotated_;         // [h][d], scaled
  float* scores_;          // [h][kRunTokens], then weights
  float* keep_;            // [h]
  float* take_;            // [h]
  float* minimum_sums_;    // [h]
  int16_t* weight_codes_;  // [h][kRunTokens]
  float* absorbed_;        // [h][padded rank]
  int16_t* query_codes_;   // [h][padded rank]
  float* query_scales_;    // [h][segments]
  float* query_sums_;      // [h][segments]
};

void RunStretch(const StretchArgs& args) { Stretch(args).Attend(); }

// out[0..d) = sum_r sums[r] basis[r][0..d), rows padded to 16.
void Output(const float* HWY_RESTRICT sums, const CacheTensor& value,
            const float* HWY_RESTRICT basis, int64_t padded_dim, int64_t head_dim,
            float* HWY_RESTRICT out) {
  const DF d;
  ForVectors<4>(padded_dim / LanesF(), [&](auto vectors, int64_t v) HWY_ATTR {
    constexpr int kVectors = vectors.value;
    VF sum[kVectors];
    for (int i = 0; i < kVectors; ++i) sum[i] = hn::Zero(d);
    const float* column = sums;
    const float* row = basis + v * LanesF();
    for (const CacheSegment& segment : value.segments) {
      for (int64_t r = 0; r < segment.width; ++r, row += padded_dim) {
        const VF weight = hn::Set(d, column[r]);
        for (int i = 0; i < kVectors; ++i) {
          sum[i] = hn::MulAdd(weight, hn::LoadU(d, row + i * LanesF()), sum[i]);
        }
      }
      column += RoundUp16(segment.width);
    }
    HWY_ALIGN float lanes[kVectors * hn::MaxLanes(d)];
    for (int i = 0; i < kVectors; ++i) hn::Store(sum[i], d, lanes + i * LanesF());
    const int64_t begin = v * LanesF();
    std::copy_n(lanes, std::min<int64_t>(kVectors * LanesF(), head_dim - begin), out + begin);
  });
}

}  // namespace lorc::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lorc {

HWY_EXPORT(RunStretch);
HWY_EXPORT(Output);

int64_t ValueColumns(const CacheTensor& value) {
  int64_t columns = 0;
  for (const CacheSegment& segment : value.segments) columns += (segment.width + 15) / 16 * 16;
  return columns;
}

int64_t StretchScratchFloats(int64_t num_heads, int64_t head_dim, int64_t max_rank) {
  const int64_t rank = max_rank + 16;
  const int64_t segments = rank / 8;
  return num_heads * (head_dim + kRunTokens + 3 + kRunTokens / 2 + rank + rank / 2 + 2 * segments) +
         10 * 16;
}

void AttendStretch(const StretchArgs& args) { HWY_DYNAMIC_DISPATCH(RunStretch)(args); }

void ValueOutput(const CacheLayer& layer, int64_t kv_head, const float* sums, float* out) {
  if (layer.value.basis == nullptr) {
    // The identity: the head's own numbers among its group's.
    const int64_t d = layer.head_dim;
    int64_t at = kv_head % layer.value.heads_per_group * d;
    int64_t left = d;
    const float* column = sums;
    for (const CacheSegment& segment : layer.value.segments) {
      const int64_t begin = std::min<int64_t>(at, segment.width);
      const int64_t count = std::min(left, segment.width - begin);
      out = std::copy_n(column + begin, count, out);
      left -= count;
      at -= begin;
      column += (segment.width + 15) / 16 * 16;
    }
    return;
  }
  const auto& basis = static_cast<const CpuBasis&>(*layer.value.basis);
  HWY_DYNAMIC_DISPATCH(Output)
  (sums, layer.value, basis.output(static_cast<int32_t>(kv_head)), basis.padded_head_dim(),
   layer.head_dim, out);
}

}  // namespace lorc
#endif  // HWY_ONCE
