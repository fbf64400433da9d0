// Bound: 2 d multiply-adds per query, head and key. A tile of scores takes one vector of keys and
// one broadcast number of the query per multiply-add, 16 queries at a time, so loads stay below
// multiplications; the same holds for values with 4 queries times 4 vectors.

#include "kernels/cpu/tile_attention.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/base/dtype.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tile_attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lorc::HWY_NAMESPACE {

constexpr float kMasked = -1e30f;  // finite, so that differences of two of them are numbers

// Calls body(integral_constant<n>, first) over [begin, end), n = kMost at first, then its halves.
template <int kMost, typename Body>
HWY_INLINE void ForTiles(int64_t begin, int64_t end, const Body& body) {
  int64_t i = begin;
  for (; i + kMost <= end; i += kMost) body(std::integral_constant<int, kMost>(), i);
  if constexpr (kMost > 1) ForTiles<kMost / 2>(i, end, body);
}

// scores[q][t] = query[q] . keys[:, t] for the `block_tokens` tokens of a block.
template <int kQueries>
HWY_INLINE void ScoreTile(const float* HWY_RESTRICT query, int64_t query_stride, int64_t head_dim,
                          const float* HWY_RESTRICT keys, int64_t block_tokens,
                          float* HWY_RESTRICT scores) {
  const DF d;
  for (int64_t t = 0; t < block_tokens; t += LanesF()) {
    VF sum[kQueries];
    for (int q = 0; q < kQueries; ++q) sum[q] = hn::Zero(d);
    for (int64_t i = 0; i < head_dim; ++i) {
      const VF key = hn::LoadU(d, keys + i * block_tokens + t);
      for (int q = 0; q < kQueries; ++q) {
        sum[q] = hn::MulAdd(hn::Set(d, query[q * query_stride + i]), key, sum[q]);
      }
    }
    for (int q = 0; q < kQueries; ++q) hn::StoreU(sum[q], d, scores + q * kTileTokens + t);
  }
}

// out[q][:] += sum_t weights[q][t] values[t][:] for `num_tokens` tokens.
template <int kQueries, int kVectors>
HWY_INLINE void ValueTile(const float* HWY_RESTRICT weights, const float* HWY_RESTRICT values,
                          int64_t value_stride, int64_t num_tokens, float* HWY_RESTRICT out,
                          int64_t out_stride) {
  const DF d;
  constexpr int64_t kLanes = LanesF();
  VF sum[kQueries][kVectors];
  for (int q = 0; q < kQueries; ++q) {
    for (int v = 0; v < kVectors; ++v) sum[q][v] = hn::LoadU(d, out + q * out_stride + v * kLanes);
  }
  for (int64_t t = 0; t < num_tokens; ++t) {
    VF value[kVectors];
    for (int v = 0; v < kVectors; ++v)
      value[v] = hn::LoadU(d, values + t * value_stride + v * kLanes);
    for (int q = 0; q < kQueries; ++q) {
      const VF weight = hn::Set(d, weights[q * kTileTokens + t]);
      for (int v = 0; v < kVectors; ++v) sum[q][v] = hn::MulAdd(weight, value[v], sum[q][v]);
    }
  }
  for (int q = 0; q < kQueries; ++q) {
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[q][v], d, out + q * out_stride + v * kLanes);
  }
}

// Turns one query's scores of a tile into weights and rescales what it has summed so far. Tokens
// from `num_visible` on are not to be seen.
HWY_INLINE void SoftmaxRow(float* HWY_RESTRICT scores, int64_t num_tokens, int64_t num_visible,
                           float* maximum, float* sum, float* HWY_RESTRICT out,
                           int64_t padded_dim) {
  const DF d;
  constexpr int64_t kLanes = LanesF();
  for (int64_t t = num_visible; t < num_tokens; ++t) scores[t] = kMasked;
  VF top = hn::Set(d, kMasked);
  for (int64_t t = 0; t < num_tokens; t += kLanes) top = hn::Max(top, hn::LoadU(d, scores + t));
  const float before = *maximum;
  const float now = std::max(before, hn::GetLane(hn::MaxOfLanes(d, top)));
  const VF shift = hn::Set(d, now);
  VF total = hn::Zero(d);
  for (int64_t t = 0; t < num_tokens; t += kLanes) {
    const VF weight = hn::Exp(d, hn::Sub(hn::LoadU(d, scores + t), shift));
    hn::StoreU(weight, d, scores + t);
    total = hn::Add(total, weight);
  }
  const float keep = hn::GetLane(hn::Exp(d, hn::Set(d, before - now)));
  *maximum = now;
  *sum = *sum * keep + hn::GetLane(hn::SumOfLanes(d, total));
  if (keep == 1.0f) return;
  const VF factor = hn::Set(d, keep);
  for (int64_t i = 0; i < padded_dim; i += kLanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, out + i), factor), d, out + i);
  }
}

// Rows of scores that the registers hold.
constexpr int kScoreRows = LanesF() == 16 ? 16 : 8;
constexpr int kValueVectors = LanesF() == 16 ? 4 : 2;

HWY_INLINE void AttendTile(const TileAttentionArgs& args, int64_t head, int64_t block,
                           int64_t num_blocks) {
  HWY_ALIGN float scores[kQueryTile * kTileTokens];
  const int64_t padded_dim = (args.head_dim + 15) / 16 * 16;
  const int64_t position = block * args.block_tokens;
  const int64_t num_tokens = num_blocks * args.block_tokens;
  const KeyValueTile* tiles = args.tiles + (block - args.block_begin);
  for (int64_t b = 0; b < num_blocks; ++b) {
    ForTiles<kScoreRows>(0, args.count, [&](auto rows, int64_t q) HWY_ATTR {
      ScoreTile<rows.value>(args.query + q * args.query_stride + head * args.head_dim,
                            args.query_stride, args.head_dim, tiles[b].keys, args.block_tokens,
                            scores + q * kTileTokens + b * args.block_tokens);
    });
  }
  for (int64_t q = 0; q < args.count; ++q) {
    const int64_t visible = std::min(num_tokens, args.first + q + 1 - position);
    SoftmaxRow(scores + q * kTileTokens, num_tokens, visible,
               args.maximum + q * args.state_stride + head, args.sum + q * args.state_stride + head,
               args.out + q * args.out_stride + head * padded_dim, padded_dim);
  }
  for (int64_t b = 0; b < num_blocks; ++b) {
    // Beyond the last query there are no values.
    const int64_t tokens =
        std::min(args.block_tokens, args.first + args.count - position - b * args.block_tokens);
    ForTiles<kValueVectors>(0, padded_dim / LanesF(), [&](auto vectors, int64_t v) HWY_ATTR {
      ForTiles<4>(0, args.count, [&](auto rows, int64_t q) HWY_ATTR {
        ValueTile<rows.value, vectors.value>(
            scores + q * kTileTokens + b * args.block_tokens, tiles[b].values + v * LanesF(),
            tiles[b].value_stride, tokens,
            args.out + q * args.out_stride + head * padded_dim + v * LanesF(), args.out_stride);
      });
    });
  }
}

void Attend(const TileAttentionArgs& args) {
  const int64_t blocks_per_tile = kTileTokens / args.block_tokens;
  for (int64_t block = args.block_begin; block < args.block_end; block += blocks_per_tile) {
    const int64_t num_blocks = std::min(blocks_per_tile, args.block_end - block);
    for (int64_t head = 0; head < args.num_heads; ++head) AttendTile(args, head, block, num_blocks);
  }
}

void Turn(const float* HWY_RESTRICT rows, int64_t stride, int64_t num_tokens, int64_t head_dim,
          int64_t block_tokens, float* HWY_RESTRICT keys) {
  for (int64_t i = 0; i < head_dim; ++i) {
    for (int64_t t = 0; t < num_tokens; ++t) keys[i * block_tokens + t] = rows[t * stride + i];
    std::fill(keys + i * block_tokens + num_tokens, keys + (i + 1) * block_tokens, 0.0f);
  }
}

template <typename T>
HWY_INLINE void Divide(const float* HWY_RESTRICT x, float divisor, int64_t count,
                       T* HWY_RESTRICT out) {
  const VF factor = hn::Set(DF(), divisor);
  int64_t i = 0;
  for (; i + LanesF() <= count; i += LanesF()) {
    StoreValues(hn::Div(hn::LoadU(DF(), x + i), factor), out + i);
  }
  for (; i < count; ++i) {
    if constexpr (sizeof(T) == 4) {
      out[i] = x[i] / divisor;
    } else {
      out[i] = F32ToBf16(x[i] / divisor);
    }
  }
}

void DivideF32(const float* x, float divisor, int64_t count, float* out) {
  Divide(x, divisor, count, out);
}
void DivideBf16(const float* x, float divisor, int64_t count, bf16_t* out) {
  Divide(x, divisor, count, out);
}

}  // namespace lorc::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lorc {

HWY_EXPORT(Attend);
HWY_EXPORT(Turn);
HWY_EXPORT(DivideF32);
HWY_EXPORT(DivideBf16);

void TileAttention(const TileAttentionArgs& args) {
  LORC_CHECK_LE(args.count, kQueryTile);
  LORC_CHECK_EQ(kTileTokens % args.block_tokens, 0);
  HWY_DYNAMIC_DISPATCH(Attend)(args);
}

void TurnKeys(const float* rows, int64_t stride, int64_t num_tokens, int64_t head_dim,
              int64_t block_tokens, float* keys) {
  HWY_DYNAMIC_DISPATCH(Turn)(rows, stride, num_tokens, head_dim, block_tokens, keys);
}

void DivideRow(const float* x, float divisor, int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(DivideF32)(x, divisor, count, out);
}

void DivideRow(const float* x, float divisor, int64_t count, bf16_t* out) {
  HWY_DYNAMIC_DISPATCH(DivideBf16)(x, divisor, count, out);
}

}  // namespace lorc
#endif  // HWY_ONCE
