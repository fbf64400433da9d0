// Attention over rebuilt keys and values: the form of prompt positions, and of every position where
// keys are kept unrotated.
//
// Bound per layer, for T queries that see N cached tokens: T N h 2 d multiply-adds for attention,
// and N g d (r_k + r_v) to rebuild, once for all queries of a sequence. Keys and values of
// kRangeTokens positions are rebuilt at a time, so that scratch memory does not grow with the
// context; a query's running softmax is kept between ranges.

#include <algorithm>
#include <cmath>

#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/rebuilt_range.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/tile_attention.h"

namespace lorc {
namespace {

constexpr int64_t kRangeTokens = 1024;

constexpr int64_t PaddedDim(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }

class RebuiltAttention {
 public:
  RebuiltAttention(const AttendArgs& args, const SequenceSpan& sequence, ThreadPool& pool,
                   LinearScratch& linear, Arena& arena)
      : args_(args),
        layer_(*args.layer),
        sequence_(sequence),
        pool_(pool),
        linear_(linear),
        arena_(arena),
        end_(sequence.first + sequence.count),
        last_block_((end_ - 1) / layer_.block_tokens),
        heads_per_kv_(layer_.num_heads / layer_.num_kv_heads),
        padded_dim_(PaddedDim(layer_.head_dim)) {}

  void Run() {
    Arena::Scope scope(arena_);
    PrepareQueries();
    const int64_t range_blocks = kRangeTokens / layer_.block_tokens;
    for (int64_t block = 0; block <= last_block_; block += range_blocks) {
      AttendRange(block, std::min(last_block_ + 1, block + range_blocks));
    }
    WriteOut();
  }

 private:
  void PrepareQueries() {
    const int64_t heads = layer_.num_heads;
    const int64_t width = heads * layer_.head_dim;
    query_ = arena_.Take<float>(sequence_.count * width);
    maximum_ = arena_.Take<float>(sequence_.count * heads);
    sum_ = arena_.Take<float>(sequence_.count * heads);
    out_ = arena_.Take<float>(sequence_.count * heads * padded_dim_);
    const float scale = 1.0f / std::sqrt(static_cast<float>(layer_.head_dim));
    const int64_t half = layer_.head_dim / 2;
    pool_.ParallelFor(sequence_.count, [&](int64_t t, int) {
      const int64_t position = sequence_.first + t;
      float* query = query_ + t * width;
      RotateHeads(args_.query + (sequence_.row + t) * args_.query_stride,
                  layer_.rope_cos + position * half, layer_.rope_sin + position * half, heads,
                  layer_.head_dim, query);
      for (int64_t i = 0; i < width; ++i) query[i] *= scale;
      std::fill_n(maximum_ + t * heads, heads, -1e30f);
      std::fill_n(sum_ + t * heads, heads, 0.0f);
      std::fill_n(out_ + t * heads * padded_dim_, heads * padded_dim_, 0.0f);
    });
  }

  // Blocks [begin, end), for all queries that see them.
  void AttendRange(int64_t begin, int64_t end) {
    Arena::Scope scope(arena_);
    RebuiltRange range(layer_, sequence_, end_, begin, end, arena_);
    // Some query reads the latents of blocks up to the last query's window, and exact blocks from
    // the first query's window on.
    const int64_t latent_begin = std::max<int64_t>(begin, layer_.prefix_blocks);
    const int64_t latent_end = std::min(end, last_block_ + 1 - layer_.window_blocks);
    if (latent_begin < latent_end) {
      range.RebuildLatent(latent_begin, latent_end, pool_, linear_, arena_);
    }
    const int64_t first_block = sequence_.first / layer_.block_tokens;
    pool_.ParallelFor(end - begin, [&](int64_t i, int) {
      if (layer_.IsExact(begin + i, std::max(begin + i, first_block))) range.LoadExact(begin + i);
    });
    const int64_t first_item = sequence_.first / kQueryTile;
    const int64_t num_items = (end_ - 1) / kQueryTile - first_item + 1;
    pool_.ParallelFor(num_items * layer_.num_kv_heads, [&](int64_t index, int) {
      const int64_t item = first_item + index / layer_.num_kv_heads;
      const int64_t first = std::max(sequence_.first, item * kQueryTile);
      const int64_t last = std::min(end_, (item + 1) * kQueryTile);
      AttendQueries(first, last - first, index % layer_.num_kv_heads, begin, end, range);
    });
  }

  void AttendQueries(int64_t first, int64_t count, int64_t kv_head, int64_t begin, int64_t end,
                     const RebuiltRange& range) const {
    const int64_t query_block = first / layer_.block_tokens;
    end = std::min(end, query_block + 1);
    if (begin >= end) return;
    KeyValueTile tiles[kRangeTokens / 16];
    for (int64_t block = begin; block < end; ++block) {
      tiles[block - begin] = range.Tile(layer_.IsExact(block, query_block), block, kv_head);
    }
    const int64_t t = first - sequence_.first;
    const int64_t head = kv_head * heads_per_kv_;
    TileAttentionArgs args;
    args.head_dim = layer_.head_dim;
    args.block_tokens = layer_.block_tokens;
    args.num_heads = heads_per_kv_;
    args.first = first;
    args.count = count;
    args.query_stride = layer_.num_heads * layer_.head_dim;
    args.query = query_ + t * args.query_stride + head * layer_.head_dim;
    args.state_stride = layer_.num_heads;
    args.maximum = maximum_ + t * args.state_stride + head;
    args.sum = sum_ + t * args.state_stride + head;
    args.out_stride = layer_.num_heads * padded_dim_;
    args.out = out_ + t * args.out_stride + head * padded_dim_;
    args.block_begin = begin;
    args.block_end = end;
    args.tiles = tiles;
    TileAttention(args);
  }

  void WriteOut() const {
    const int64_t d = layer_.head_dim;
    pool_.ParallelFor(sequence_.count, [&](int64_t t, int) {
      for (int64_t head = 0; head < layer_.num_heads; ++head) {
        const int64_t state = t * layer_.num_heads + head;
        const float* from = out_ + state * padded_dim_;
        const int64_t at = ((sequence_.row + t) * layer_.num_heads + head) * d;
        if (args_.out_type == DType::kF32) {
          DivideRow(from, sum_[state], d, static_cast<float*>(args_.out) + at);
        } else {
          DivideRow(from, sum_[state], d, static_cast<bf16_t*>(args_.out) + at);
        }
      }
    });
  }

  const AttendArgs& args_;
  const CacheLayer& layer_;
  const SequenceSpan& sequence_;
  ThreadPool& pool_;
  LinearScratch& linear_;
  Arena& arena_;
  const int64_t end_;
  const int64_t last_block_;
  const int64_t heads_per_kv_;
  const int64_t padded_dim_;
  float* query_ = nullptr;    // [count, h, d], rotated to their positions and scaled
  float* maximum_ = nullptr;  // [count, h]
  float* sum_ = nullptr;      // [count, h]
  float* out_ = nullptr;      // [count, h, padded d], before the division by the sum
};

}  // namespace

int64_t AttendRebuiltScratchBytes(const CacheLimits& limits) {
  const int64_t states = limits.max_tokens * limits.num_heads;
  const int64_t range = std::min(kRangeTokens, (limits.max_context + limits.block_tokens - 1) /
                                                   limits.block_tokens * limits.block_tokens);
  return Arena::Bytes<float>(states * limits.head_dim) + 2 * Arena::Bytes<float>(states) +
         Arena::Bytes<float>(states * PaddedDim(limits.head_dim)) +
         RebuiltRange::ScratchBytes(range, limits.num_kv_heads * limits.head_dim,
                                    limits.max_latent_width);
}

void CpuAttendRebuilt(const AttendArgs& args, std::span<const SequenceSpan> sequences,
                      ThreadPool& pool, LinearScratch& linear, Arena& arena) {
  for (const SequenceSpan& sequence : sequences) {
    RebuiltAttention(args, sequence, pool, linear, arena).Run();
  }
}

}  // namespace lorc
