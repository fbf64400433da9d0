// Attention of a few queries over rebuilt keys and values that lie in the core's cache.
#pragma once

#include <cstdint>

namespace lorc {

// Keys are visited in tiles of this many positions, aligned to it, so that a row's sums do not
// depend on the chunk.
inline constexpr int64_t kTileTokens = 64;

// One block's keys and values for one KV head.
struct KeyValueTile {
  const float* keys = nullptr;    // [d][block_tokens]
  const float* values = nullptr;  // [block_tokens] rows, value_stride floats apart
  int64_t value_stride = 0;
};

// Queries at positions [first, first + count) of one block, all heads of one KV head; their state
// over the tiles seen so far: running maximum, sum of exponentials, weighted values.
struct TileAttentionArgs {
  int64_t head_dim = 0;  // d
  int64_t block_tokens = 0;
  int64_t num_heads = 0;  // G, query heads
  int64_t first = 0;
  int64_t count = 0;  // <= 16
  const float* query =
      nullptr;  // [count][G][d], rotated and scaled; rows query_stride apart, heads d apart
  int64_t query_stride = 0;
  float* maximum = nullptr;  // [count][G], rows state_stride apart
  float* sum = nullptr;      // [count][G], rows state_stride apart
  int64_t state_stride = 0;
  float* out = nullptr;  // [count][G][padded d], rows out_stride apart, heads padded d apart
  int64_t out_stride = 0;
  // Blocks [block_begin, block_end) whose tiles are tiles[0..]; block_begin starts a tile of
  // kTileTokens.
  int64_t block_begin = 0;
  int64_t block_end = 0;
  const KeyValueTile* tiles = nullptr;
};

// Queries of one call at most.
inline constexpr int64_t kQueryTile = 16;

void TileAttention(const TileAttentionArgs& args);

// keys [d][block_tokens] from rows [num_tokens, d] that lie `stride` apart; the tokens after them
// are zero.
void TurnKeys(const float* rows, int64_t stride, int64_t num_tokens, int64_t head_dim,
              int64_t block_tokens, float* keys);

// out[i] = x[i] / divisor.
void DivideRow(const float* x, float divisor, int64_t count, float* out);
void DivideRow(const float* x, float divisor, int64_t count, uint16_t* out);

}  // namespace lorc
