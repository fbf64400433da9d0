// Bound: per latent number, token and head one multiply-add for scores (segment_scores.cc) and one
// for outputs (segment_values.cc); per chunk and head d * rank to absorb the basis.

#include "kernels/cpu/absorbed_attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/cache_blocks.h"
#include "kernels/cpu/cpu_basis.h"
#include "kernels/cpu/segment_scores.h"
#include "kernels/cpu/segment_values.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/absorbed_attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/head_tiles-inl.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lorc::HWY_NAMESPACE {

constexpr float kMasked = -1e30f;  // finite, so that differences of two of them are numbers
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
    codes_.codes = reinterpret_cast<int16_t*>(take(h_ * RoundUp16(rank_) / 2));
    codes_.scales = take(h_ * num_segments_);
    codes_.sums = take(h_ * num_segments_);
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

  // absorbed[head] = D^T rotated[head], and its codes for segments that hold codes.
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
    EncodeQueries(layer_.key.segments, absorbed_, stride, h_, codes_);
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

  TokenRun MakeRun(int64_t begin, int64_t end, const std::byte* pool, const int32_t* blocks,
                   int64_t block_bytes, int64_t part_offset) const {
    TokenRun run;
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
    const TokenRun keys = MakeRun(begin, end, layer_.exact_pool, args_.exact_blocks, bytes, 0);
    const TokenRun values =
        MakeRun(begin, end, layer_.exact_pool, args_.exact_blocks, bytes, bytes / 2);
    std::fill_n(scores_, h_ * kRunTokens, 0.0f);
    const int64_t heads_per_kv = h_ / layer_.num_kv_heads;
    const CacheSegment segment{SegmentTypeOf(layer_.exact_type), layer_.head_dim};
    const int64_t head_bytes = SegmentBlockBytes(segment, layer_.block_tokens);
    for (int64_t kv_head = 0; kv_head < layer_.num_kv_heads; ++kv_head) {
      ScoreArgs args;
      args.segment = segment;
      args.run = &keys;
      args.offset = kv_head * head_bytes;
      args.num_heads = heads_per_kv;
      args.query = rotated_ + kv_head * heads_per_kv * d_;
      args.query_stride = d_;
      args.scores = scores_ + kv_head * heads_per_kv * kRunTokens;
      ScoreSegment(args);
    }
    Softmax(keys.num_tokens, args_.exact);
    for (int64_t kv_head = 0; kv_head < layer_.num_kv_heads; ++kv_head) {
      SumValues(segment, values, kv_head * head_bytes, kv_head * heads_per_kv, heads_per_kv,
                args_.exact, 0);
    }
  }

  void AttendLatent(int64_t begin, int64_t end) {
    const int64_t bytes = layer_.LatentBlockBytes();
    const int64_t key_bytes = layer_.block_tokens * layer_.key.BytesPerToken();
    const TokenRun keys = MakeRun(begin, end, layer_.latent_pool, args_.latent_blocks, bytes, 0);
    const TokenRun values =
        MakeRun(begin, end, layer_.latent_pool, args_.latent_blocks, bytes, key_bytes);
    std::fill_n(scores_, h_ * kRunTokens, 0.0f);
    int64_t offset = 0;
    const int64_t key_heads = h_ / layer_.key.groups;
    for (int64_t group = 0; group < layer_.key.groups; ++group) {
      int64_t first = 0;
      for (int64_t s = 0; s < num_segments_; ++s) {
        const CacheSegment& segment = layer_.key.segments[s];
        ScoreLatents(segment, keys, offset, group * key_heads, key_heads, first, s);
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
        SumValues(segment, values, offset, group * value_heads, value_heads, args_.latent, column);
        column += RoundUp16(segment.width);
        offset += SegmentBlockBytes(segment, layer_.block_tokens);
      }
    }
  }

  // `first`: of the segment within the query; `s`: its index.
  void ScoreLatents(const CacheSegment& segment, const TokenRun& run, int64_t offset,
                    int64_t first_head, int64_t num_heads, int64_t first, int64_t s) const {
    const int64_t stride = RoundUp16(rank_);
    ScoreArgs args;
    args.segment = segment;
    args.run = &run;
    args.offset = offset;
    args.num_heads = num_heads;
    args.query = absorbed_ + first_head * stride + first;
    args.query_stride = stride;
    args.codes = {codes_.codes + first_head * stride + first,
                  codes_.scales + first_head * num_segments_ + s,
                  codes_.sums + first_head * num_segments_ + s};
    args.num_segments = num_segments_;
    args.scores = scores_ + first_head * kRunTokens;
    ScoreSegment(args);
  }

  void Softmax(int64_t num_tokens, const SoftmaxPart& part) {
    for (int64_t head = 0; head < h_; ++head) {
      SoftmaxRun(num_tokens, scores_ + head * kRunTokens, part.maximum + head, part.sum + head,
                 keep_ + head, take_ + head);
    }
  }

  void SumValues(const CacheSegment& segment, const TokenRun& run, int64_t offset,
                 int64_t first_head, int64_t num_heads, const SoftmaxPart& part,
                 int64_t column) const {
    ValueArgs args;
    args.segment = segment;
    args.run = &run;
    args.offset = offset;
    args.num_heads = num_heads;
    args.weights = scores_ + first_head * kRunTokens;
    args.keep = keep_ + first_head;
    args.take = take_ + first_head;
    args.codes = weight_codes_ + first_head * kRunTokens;
    args.minimum_sums = minimum_sums_ + first_head;
    args.out = part.out + first_head * part.columns + column;
    args.out_stride = part.columns;
    ValueSegment(args);
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
  QueryCodes codes_;       // of absorbed_
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
