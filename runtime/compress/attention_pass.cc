#include "runtime/compress/attention_pass.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/check.h"
#include "runtime/compress/products.h"
#include "runtime/compress/vector_math.h"

namespace lorc {
namespace {

constexpr int64_t kTileRows = 64;  // queries of a tile, a multiple of the block
// Tasks of Backward: enough that threads finish together, few enough that their sums stay small.
constexpr int64_t kLeastTasks = 16;

int64_t NumTiles(int64_t num_tokens) { return (num_tokens + kTileRows - 1) / kTileRows; }

// x[0, count) becomes softmax(scale * x), x[count, total) zero.
void Softmax(float* x, int64_t count, int64_t total, float scale) {
  const float largest = MaxOf(x, count);
  for (int64_t j = 0; j < count; ++j) x[j] = ExpOf((x[j] - largest) * scale);
  const float inverse = 1.0f / SumOf<float>(count, [x](int64_t j) { return x[j]; });
  for (int64_t j = 0; j < count; ++j) x[j] *= inverse;
  std::fill(x + count, x + total, 0.0f);
}

}  // namespace

AttentionPass::AttentionPass(const ModelConfig& config, const FarRule& rule, ThreadPool& pool)
    : config_(config), rule_(rule), pool_(pool) {
  LORC_CHECK_EQ(rule.prefix_tokens % FarRule::kBlockTokens, 0);
  LORC_CHECK_EQ(rule.window_tokens % FarRule::kBlockTokens, 0);
}

void AttentionPass::Probabilities(const Tile& tile, const float* qkv, float* probabilities) const {
  const int64_t d = config_.head_dim;
  const float* keys = qkv + config_.query_width() + tile.head / config_.heads_per_kv() * d;
  MultiplyHere(Transposed::kNo, Transposed::kYes, tile.end - tile.begin, tile.end, d,
               {qkv + tile.begin * width() + tile.head * d, width()}, {keys, width()},
               Output::kStore, probabilities, tile.end);
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (int64_t i = tile.begin; i < tile.end; ++i) {
    Softmax(probabilities + (i - tile.begin) * tile.end, i + 1, tile.end, scale);
  }
}

void AttentionPass::Forward(int64_t num_tokens, const float* qkv, float* out) {
  const int64_t d = config_.head_dim;
  const int64_t tiles = NumTiles(num_tokens);
  scratch_.resize(pool_.num_threads() * kTileRows * num_tokens);
  pool_.ParallelFor(tiles * config_.num_heads, [&](int64_t task, int thread) {
    Tile tile;
    tile.head = task % config_.num_heads;
    tile.begin = (tiles - 1 - task / config_.num_heads) * kTileRows;  // the long ones first
    tile.end = std::min(num_tokens, tile.begin + kTileRows);
    float* probabilities = scratch_.data() + thread * kTileRows * num_tokens;
    Probabilities(tile, qkv, probabilities);
    const float* values =
        qkv + config_.query_width() + config_.kv_width() + tile.head / config_.heads_per_kv() * d;
    MultiplyHere(Transposed::kNo, Transposed::kNo, tile.end - tile.begin, d, tile.end,
                 {probabilities, tile.end}, {values, width()}, Output::kStore,
                 out + tile.begin * config_.query_width() + tile.head * d, config_.query_width());
  });
}

// keys' and values' gradients that come through the tile's queries, far and near. Of columns
// [prefix, FarEnd(first row)) all rows are far, from FarEnd(last row) on none; between them the
// border moves from block to block.
void AttentionPass::AddToSums(const Tile& tile, const float* qkv, const float* out_gradient,
                              const float* probabilities, const float* scores,
                              const Sums& sums) const {
  const int64_t d = config_.head_dim;
  const auto add = [&](int64_t row, int64_t row_end, int64_t column, int64_t column_end, bool far) {
    if (row >= row_end || column >= column_end) return;
    const int64_t offset = (row - tile.begin) * tile.end + column;
    const auto add_one = [&](const float* weights, MatrixView rows, float* to) {
      MultiplyHere(Transposed::kYes, Transposed::kNo, column_end - column, d, row_end - row,
                   {weights + offset, tile.end}, rows, Output::kAdd, to + column * d, d);
    };
    add_one(scores, {qkv + row * width() + tile.head * d, width()},
            far ? sums.far_keys : sums.near_keys);
    add_one(probabilities,
            {out_gradient + row * config_.query_width() + tile.head * d, config_.query_width()},
            far ? sums.far_values : sums.near_values);
  };
  const int64_t far_begin = std::min(rule_.prefix_tokens, tile.end);
  const auto far_end = [&](int64_t i) { return std::clamp(rule_.FarEnd(i), far_begin, tile.end); };
  const int64_t all_far = far_end(tile.begin);
  const int64_t none_far = far_end(tile.end - 1);
  add(tile.begin, tile.end, 0, far_begin, false);
  add(tile.begin, tile.end, far_begin, all_far, true);
  add(tile.begin, tile.end, none_far, tile.end, false);
  for (int64_t row = tile.begin; row < tile.end && all_far < none_far;
       row += FarRule::kBlockTokens) {
    const int64_t row_end = std::min(tile.end, row + FarRule::kBlockTokens);
    add(row, row_end, all_far, far_end(row), true);
    add(row, row_end, far_end(row), none_far, false);
  }
}

void AttentionPass::BackwardTile(const Tile& tile, const float* qkv, const float* out_gradient,
                                 float* scratch, float* qkv_gradient, const Sums& sums) const {
  const int64_t d = config_.head_dim;
  const int64_t kv_head = tile.head / config_.heads_per_kv();
  const float* keys = qkv + config_.query_width() + kv_head * d;
  const float* values = keys + config_.kv_width();
  const int64_t rows = tile.end - tile.begin;
  float* probabilities = scratch;
  float* scores = scratch + kTileRows * tile.end;
  Probabilities(tile, qkv, probabilities);
  MultiplyHere(
      Transposed::kNo, Transposed::kYes, rows, tile.end, d,
      {out_gradient + tile.begin * config_.query_width() + tile.head * d, config_.query_width()},
      {values, width()}, Output::kStore, scores, tile.end);
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (int64_t r = 0; r < rows; ++r) {
    const float* p = probabilities + r * tile.end;
    float* s = scores + r * tile.end;
    const int64_t count = tile.begin + r + 1;
    const float mean = SumOf<float>(count, [p, s](int64_t j) { return p[j] * s[j]; });
    for (int64_t j = 0; j < count; ++j) s[j] = p[j] * (s[j] - mean) * scale;
    std::fill(s + count, s + tile.end, 0.0f);
  }
  MultiplyHere(Transposed::kNo, Transposed::kNo, rows, d, tile.end, {scores, tile.end},
               {keys, width()}, Output::kStore, qkv_gradient + tile.begin * width() + tile.head * d,
               width());
  AddToSums(tile, qkv, out_gradient, probabilities, scores, sums);
}

void AttentionPass::Backward(int64_t num_tokens, const float* qkv, const float* out_gradient,
                             float* qkv_gradient, float* far_keys, float* far_values) {
  const int64_t d = config_.head_dim;
  const int64_t num_kv_heads = config_.num_kv_heads;
  const int64_t parts = (kLeastTasks + num_kv_heads - 1) / num_kv_heads;
  const int64_t part_size = num_tokens * d;
  scratch_.resize(2 * pool_.num_threads() * kTileRows * num_tokens);
  sums_.resize(4 * part_size * parts * num_kv_heads);
  // A task's tiles are `parts` apart, so that tasks are of one size.
  pool_.ParallelFor(parts * num_kv_heads, [&](int64_t task, int thread) {
    const int64_t kv_head = task % num_kv_heads;
    float* first = sums_.data() + 4 * part_size * task;
    std::fill_n(first, 4 * part_size, 0.0f);
    const Sums sums = {first, first + part_size, first + 2 * part_size, first + 3 * part_size};
    float* scratch = scratch_.data() + 2 * thread * kTileRows * num_tokens;
    Tile tile;
    for (tile.begin = task / num_kv_heads * kTileRows; tile.begin < num_tokens;
         tile.begin += parts * kTileRows) {
      tile.end = std::min(num_tokens, tile.begin + kTileRows);
      for (int64_t i = 0; i < config_.heads_per_kv(); ++i) {
        tile.head = kv_head * config_.heads_per_kv() + i;
        BackwardTile(tile, qkv, out_gradient, scratch, qkv_gradient, sums);
      }
    }
  });
  pool_.ParallelFor(num_tokens, [&](int64_t t, int) {
    const int64_t n = config_.kv_width();
    for (const bool is_key : {true, false}) {
      float* far = (is_key ? far_keys : far_values) + t * n;
      float* all = qkv_gradient + t * width() + config_.query_width() + (is_key ? 0 : n);
      for (int64_t column = 0; column < n; ++column) {
        float far_sum = 0;
        float near_sum = 0;
        for (int64_t part = 0; part < parts; ++part) {
          const float* sums = sums_.data() + 4 * part_size * (part * num_kv_heads + column / d) +
                              t * d + column % d;
          far_sum += sums[is_key ? 0 : part_size];
          near_sum += sums[is_key ? 2 * part_size : 3 * part_size];
        }
        far[column] = far_sum;
        all[column] = far_sum + near_sum;
      }
    }
  });
}

}  // namespace lorc
