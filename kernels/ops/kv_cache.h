// The cache of one layer as the kernels see it, and the two ops on it: writing new tokens and
// attending.
//
// Blocks. A block holds `block_tokens` consecutive tokens of one sequence. Exact blocks hold full
// keys and values, latent blocks what the plan keeps. How values lie inside a block is the
// backend's own business; how many bytes a block has is not (CacheTensor::BytesPerToken).
//
// Keys are rotated (RoPE) by their position inside a chunk of `anchor` tokens, in exact and in
// latent blocks alike:
//   anchor 0     one endless chunk: ordinary rotated keys
//   anchor 1     unrotated keys: the `rebuilt` layout, rotated whenever they are read
//   otherwise    anchored: a query at position m meets the chunk that starts at a with R(m - a) q,
//   exactly, since
//                R(m)^T R(n) = R(m - a)^T R(n - a)
//
// A latent key is c = E k, read as k^ = D c. Where keys are not rebuilt, the query absorbs the
// basis once per chunk: (R(m - a) q) . k^ = (D^T R(m - a) q) . c. A latent value is c = E v, and
// the output is D (softmax . c).
//
// Attention always reads what the cache holds. Positions of the prompt and generated positions are
// computed in two forms (tiles of rebuilt keys; absorbed queries) that differ in rounding only;
// which form a position gets depends on the position and the prompt's length alone. Results do not
// depend on chunks, batches or threads, bit for bit; but for generated positions on a GPU, which
// differ by rounding where the other sequences of the step do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/matrix.h"
#include "kernels/ops/segment.h"

namespace lorc {

inline constexpr int32_t kMaxHeadDim = 512;
// Vectors may read past the last block: pools end with this many bytes more.
inline constexpr int64_t kPoolSlackBytes = 64;

enum class KeyOrValue { kKey, kValue };

// K or V of one layer.
struct CacheTensor {
  int32_t groups = 0;           // g / s
  int32_t heads_per_group = 0;  // s, in KV heads
  int32_t rank = 0;             // numbers per token and group: the sum of the segments' widths
  std::vector<CacheSegment> segments;  // of every group, in falling importance
  const Basis* basis = nullptr;        // nullptr: the identity, rank == s * d
  bool latent_input =
      false;  // the layer's weights already give latents: WriteCache gets those instead of K or V

  int64_t BytesPerToken() const {
    int64_t bytes = 0;
    for (const CacheSegment& segment : segments) bytes += segment.BytesPerToken();
    return bytes * groups;
  }
};

struct CacheLayer {
  int32_t num_heads = 0;     // h
  int32_t num_kv_heads = 0;  // g
  int32_t head_dim = 0;      // d
  int32_t block_tokens = 0;  // 16, 32 or 64
  int32_t prefix_blocks = 0;
  int32_t window_blocks = 0;
  int32_t anchor = 0;  // 0, 1 or a multiple of block_tokens
  CacheTensor key;
  CacheTensor value;
  DType exact_type = DType::kBf16;  // f32 or bf16

  std::byte* latent_pool = nullptr;  // row of block 0; rows follow each other
  std::byte* exact_pool = nullptr;
  const float* rope_cos = nullptr;  // [positions, d/2], cosine of position * inverse frequency
  const float* rope_sin = nullptr;

  int64_t LatentBlockBytes() const {
    return block_tokens * (key.BytesPerToken() + value.BytesPerToken());
  }
  int64_t ExactBlockBytes() const {
    return 2 * block_tokens * num_kv_heads * head_dim * ByteSize(exact_type);
  }
  int32_t kv_width() const { return num_kv_heads * head_dim; }
  bool RebuildsKeys() const { return anchor == 1; }
  // Blocks [prefix_blocks, LatentEnd(tokens)) are latent once positions [0, tokens) are computed.
  int64_t LatentEnd(int64_t tokens) const {
    return window_blocks > 0 ? tokens / block_tokens - window_blocks + 1
                             : (tokens + block_tokens - 1) / block_tokens;
  }
  // Where the chunk of position n starts.
  int64_t ChunkStart(int64_t n) const { return anchor == 0 ? 0 : n - n % anchor; }
  bool IsExact(int64_t block, int64_t query_block) const {
    return block < prefix_blocks || query_block - block < window_blocks;
  }
};

// One sequence's rows of a step: positions [first, first + count) stand in rows [row, row + count).
struct SequenceSpan {
  int64_t row = 0;
  int64_t count = 0;
  int64_t first = 0;
  int64_t num_prompt_tokens = 0;
  // Pool row per block index below Blocks(first + count); see runtime/step.h for which must be
  // there.
  const int32_t* latent_blocks = nullptr;
  const int32_t* exact_blocks = nullptr;
};

struct StepArgs {
  std::span<const SequenceSpan> sequences;  // one after the other: rows [0, T) in all
  int32_t block_tokens = 0;                 // of every layer
};

// Writes the step's keys and values; a block that leaves the window is projected into its latent
// block.
struct WriteCacheArgs {
  const CacheLayer* layer = nullptr;
  std::span<const SequenceSpan> sequences;
  const float* key = nullptr;    // [T, g*d] before RoPE; [T, groups*rank] where key.latent_input
  const float* value = nullptr;  // [T, g*d]; [T, groups*rank] where value.latent_input
  int64_t key_stride = 0;        // floats from row to row
  int64_t value_stride = 0;
};

// out = softmax(q k / sqrt(d)) v over the tokens up to the row's own, which WriteCache has written.
struct AttendArgs {
  const CacheLayer* layer = nullptr;
  std::span<const SequenceSpan> sequences;
  const float* query = nullptr;  // [T, h*d] before RoPE
  int64_t query_stride = 0;
  void* out = nullptr;           // [T, h*d]
  DType out_type = DType::kF32;  // f32 or bf16
};

}  // namespace lorc
