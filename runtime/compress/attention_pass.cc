#include "runtime/compress/attention_pass.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/check.h"
#include "runtime/compress/products.h"
#include "runtime/compress/row_math.h"

namespace lorc {
namespace {

// Rows of a tile: enough for products to be efficient, few enough that little is computed beyond
// the diagonal.
constexpr int64_t kTileRows = 256;
constexpr int64_t kMostTileTokens = 128;
// Tasks of Backward: enough that threads finish together, few enough that their sums stay small.
constexpr int64_t kLeastTasks = 16;

int64_t TileTokens(const ModelConfig& config) {
  const int64_t tokens = kTileRows / config.heads_per_kv();
  return std::clamp(tokens - tokens % FarRule::kBlockTokens, FarRule::kBlockTokens,
                    kMostTileTokens);
}

}  // namespace

AttentionPass::AttentionPass(const ModelConfig& config, const FarRule& rule, ThreadPool& pool)
    : config_(config), rule_(rule), tile_tokens_(TileTokens(config)), pool_(pool) {
  LORC_CHECK_EQ(rule.prefix_tokens % FarRule::kBlockTokens, 0);
  LORC_CHECK_EQ(rule.window_tokens % FarRule::kBlockTokens, 0);
}

AttentionPass::Tile AttentionPass::MakeTile(int64_t kv_head, int64_t index,
                                            int64_t num_tokens) const {
  const int64_t begin = index * tile_tokens_;
  return {kv_head, begin, std::min(num_tokens, begin + tile_tokens_)};
}

void AttentionPass::TakeScratch(int64_t num_tokens, bool backward) {
  const int64_t rows = tile_tokens_ * config_.heads_per_kv();
  const int64_t size = rows * (2 * config_.head_dim + (backward ? 2 : 1) * num_tokens);
  scratch_.resize(std::max<int64_t>(std::ssize(scratch_), size * pool_.num_threads()));
}

AttentionPass::Scratch AttentionPass::ScratchOf(int thread, int64_t num_tokens) const {
  const int64_t rows = tile_tokens_ * config_.heads_per_kv();
  Scratch scratch;
  scratch.queries = scratch_.data() + std::ssize(scratch_) / pool_.num_threads() * thread;
  scratch.outs = scratch.queries + rows * config_.head_dim;
  scratch.probabilities = scratch.outs + rows * config_.head_dim;
  scratch.scores = scratch.probabilities + rows * num_tokens;
  return scratch;
}

void AttentionPass::Gather(const Tile& tile, const float* heads, int64_t stride,
                           float* rows) const {
  const int64_t width = config_.heads_per_kv() * config_.head_dim;
  for (int64_t t = tile.begin; t < tile.end; ++t) {
    std::copy_n(heads + t * stride + tile.kv_head * width, width, rows + (t - tile.begin) * width);
  }
}

void AttentionPass::Scatter(const Tile& tile, const float* rows, float* heads,
                            int64_t stride) const {
  const int64_t width = config_.heads_per_kv() * config_.head_dim;
  for (int64_t t = tile.begin; t < tile.end; ++t) {
    std::copy_n(rows + (t - tile.begin) * width, width, heads + t * stride + tile.kv_head * width);
  }
}

// Leaves the tile's queries in the scratch, too.
void AttentionPass::Probabilities(const Tile& tile, const float* qkv,
                                  const Scratch& scratch) const {
  const int64_t d = config_.head_dim;
  const int64_t heads = config_.heads_per_kv();
  const float* keys = qkv + config_.query_width() + tile.kv_head * d;
  Gather(tile, qkv, width(), scratch.queries);
  MultiplyHere(Transposed::kNo, Transposed::kYes, (tile.end - tile.begin) * heads, tile.end, d,
               {scratch.queries, d}, {keys, width()}, Output::kStore, scratch.probabilities,
               tile.end);
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (int64_t r = 0; r < (tile.end - tile.begin) * heads; ++r) {
    Softmax(scale, tile.begin + r / heads + 1, tile.end, scratch.probabilities + r * tile.end);
  }
}

void AttentionPass::Forward(int64_t num_tokens, const float* qkv, float* out) {
  const int64_t d = config_.head_dim;
  const int64_t tiles = (num_tokens + tile_tokens_ - 1) / tile_tokens_;
  TakeScratch(num_tokens, /*backward=*/false);
  pool_.ParallelFor(tiles * config_.num_kv_heads, [&](int64_t task, int thread) {
    // The long ones first.
    const Tile tile =
        MakeTile(task % config_.num_kv_heads, tiles - 1 - task / config_.num_kv_heads, num_tokens);
    const Scratch scratch = ScratchOf(thread, num_tokens);
    Probabilities(tile, qkv, scratch);
    const float* values = qkv + config_.query_width() + config_.kv_width() + tile.kv_head * d;
    MultiplyHere(Transposed::kNo, Transposed::kNo, (tile.end - tile.begin) * config_.heads_per_kv(),
                 d, tile.end, {scratch.probabilities, tile.end}, {values, width()}, Output::kStore,
                 scratch.outs, d);
    Scatter(tile, scratch.outs, out, config_.query_width());
  });
}

// What keys and values get through the tile's queries, far and near. Of columns
// [prefix, FarEnd(first position)) all rows are far, from FarEnd(last position) on none; between
// them the border moves from block to block.
void AttentionPass::AddToSums(const Tile& tile, const Scratch& scratch, const Sums& sums) const {
  const int64_t d = config_.head_dim;
  const int64_t heads = config_.heads_per_kv();
  const auto add = [&](int64_t begin, int64_t end, int64_t column, int64_t column_end, bool far) {
    if (begin >= end || column >= column_end) return;
    const int64_t row = (begin - tile.begin) * heads;
    const auto add_one = [&](const float* weights, const float* rows, float* to) {
      MultiplyHere(Transposed::kYes, Transposed::kNo, column_end - column, d, (end - begin) * heads,
                   {weights + row * tile.end + column, tile.end}, {rows + row * d, d}, Output::kAdd,
                   to + column * d, d);
    };
    add_one(scratch.scores, scratch.queries, far ? sums.far_keys : sums.near_keys);
    add_one(scratch.probabilities, scratch.outs, far ? sums.far_values : sums.near_values);
  };
  const int64_t far_begin = std::min(rule_.prefix_tokens, tile.end);
  const auto far_end = [&](int64_t i) { return std::clamp(rule_.FarEnd(i), far_begin, tile.end); };
  const int64_t all_far = far_end(tile.begin);
  const int64_t none_far = far_end(tile.end - 1);
  add(tile.begin, tile.end, 0, far_begin, false);
  add(tile.begin, tile.end, far_begin, all_far, true);
  add(tile.begin, tile.end, none_far, tile.end, false);
  for (int64_t begin = tile.begin; begin < tile.end && all_far < none_far;
       begin += FarRule::kBlockTokens) {
    const int64_t end = std::min(tile.end, begin + FarRule::kBlockTokens);
    add(begin, end, all_far, far_end(begin), true);
    add(begin, end, far_end(begin), none_far, false);
  }
}

void AttentionPass::BackwardTile(const Tile& tile, const float* qkv, const float* out_gradient,
                                 const Scratch& scratch, float* qkv_gradient,
                                 const Sums& sums) const {
  const int64_t d = config_.head_dim;
  const int64_t heads = config_.heads_per_kv();
  const float* keys = qkv + config_.query_width() + tile.kv_head * d;
  const float* values = keys + config_.kv_width();
  const int64_t rows = (tile.end - tile.begin) * heads;
  Probabilities(tile, qkv, scratch);
  Gather(tile, out_gradient, config_.query_width(), scratch.outs);
  MultiplyHere(Transposed::kNo, Transposed::kYes, rows, tile.end, d, {scratch.outs, d},
               {values, width()}, Output::kStore, scratch.scores, tile.end);
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (int64_t r = 0; r < rows; ++r) {
    SoftmaxGradient(scale, tile.begin + r / heads + 1, tile.end,
                    scratch.probabilities + r * tile.end, scratch.scores + r * tile.end);
  }
  AddToSums(tile, scratch, sums);
  // The queries are not needed any more.
  MultiplyHere(Transposed::kNo, Transposed::kNo, rows, d, tile.end, {scratch.scores, tile.end},
               {keys, width()}, Output::kStore, scratch.queries, d);
  Scatter(tile, scratch.queries, qkv_gradient, width());
}

void AttentionPass::AddUp(int64_t num_tokens, int64_t parts, float* qkv_gradient, float* far_keys,
                          float* far_values) const {
  const int64_t d = config_.head_dim;
  const int64_t n = config_.kv_width();
  const int64_t part_size = num_tokens * d;
  pool_.ParallelFor(num_tokens, [&](int64_t t, int) {
    for (const bool is_key : {true, false}) {
      float* far = (is_key ? far_keys : far_values) + t * n;
      float* all = qkv_gradient + t * width() + config_.query_width() + (is_key ? 0 : n);
      std::fill_n(far, n, 0.0f);
      std::fill_n(all, n, 0.0f);
      for (int64_t task = 0; task < parts * config_.num_kv_heads; ++task) {
        const int64_t column = task % config_.num_kv_heads * d;
        const float* far_sum = sums_.data() + (4 * task + (is_key ? 0 : 1)) * part_size + t * d;
        const float* near_sum = far_sum + 2 * part_size;
        for (int64_t i = 0; i < d; ++i) {
          far[column + i] += far_sum[i];
          all[column + i] += far_sum[i] + near_sum[i];
        }
      }
    }
  });
}

void AttentionPass::Backward(int64_t num_tokens, const float* qkv, const float* out_gradient,
                             float* qkv_gradient, float* far_keys, float* far_values) {
  const int64_t num_kv_heads = config_.num_kv_heads;
  const int64_t tiles = (num_tokens + tile_tokens_ - 1) / tile_tokens_;
  const int64_t parts = std::min((kLeastTasks + num_kv_heads - 1) / num_kv_heads, tiles);
  const int64_t part_size = num_tokens * config_.head_dim;
  TakeScratch(num_tokens, /*backward=*/true);
  sums_.resize(4 * part_size * parts * num_kv_heads);
  // A task's tiles are `parts` apart, so that tasks are of about one size.
  pool_.ParallelFor(parts * num_kv_heads, [&](int64_t task, int thread) {
    float* first = sums_.data() + 4 * part_size * task;
    std::fill_n(first, 4 * part_size, 0.0f);
    const Sums sums = {first, first + part_size, first + 2 * part_size, first + 3 * part_size};
    const Scratch scratch = ScratchOf(thread, num_tokens);
    for (int64_t index = task / num_kv_heads; index < tiles; index += parts) {
      BackwardTile(MakeTile(task % num_kv_heads, index, num_tokens), qkv, out_gradient, scratch,
                   qkv_gradient, sums);
    }
  });
  AddUp(num_tokens, parts, qkv_gradient, far_keys, far_values);
}

}  // namespace lorc
