// What the decode-attention kernels get: pointers and extents, plain data. See
// docs/kernels/decode_attention.md.
//
// A decode row is one query position of one sequence. Its tokens lie in up to three ranges: the
// exact prefix, latents, the exact window. Ranges are items; each pass (latents, exact) has its own
// list of them, cut into tiles that never cross a chunk of `anchor` tokens. All tiles of a pass
// follow each other; stream s (one CTA, or one warp per group) takes tiles [begin[s], begin[s +
// 1]), whatever sequences they belong to. For every item that a stream touches it leaves a partial
// result in the next slot, so an item's slots follow each other.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>

#include "kernels/ops/segment.h"

namespace lorc::cuda {

// One range of one row.
struct DecodeItem {
  int32_t row = 0;         // of the step
  int32_t position = 0;    // of the query
  int32_t table = 0;       // where the sequence's block ids start in the pass's table
  int32_t begin = 0;       // first token of the range, a multiple of 16
  int32_t end = 0;         // one past its last; > begin
  int32_t tile_begin = 0;  // index of its first tile in the pass
  int32_t chunk_base =
      0;  // chunk of position n: chunk_base + n / anchor, into the absorbed queries
  int32_t slot_begin = 0;  // its first partial result
};

struct DecodePass {
  const DecodeItem* items = nullptr;      // [num_items + 1]: the last has tile_begin = num_tiles
  const int32_t* table = nullptr;         // block ids
  const int32_t* stream_begin = nullptr;  // [num_streams + 1], tiles
  const int32_t* stream_item = nullptr;   // [num_streams]: item of the stream's first tile
  const int32_t* stream_slot = nullptr;   // [num_streams]: its first slot
};

// One unit of a group's latent (cache_layout.h).
struct UnitPlan {
  int32_t code_offset = 0;   // bytes from the group's part of the block to the unit's run 0
  int32_t run_stride = 0;    // bytes of a run, and from run to run
  int32_t scale_offset = 0;  // bytes from the group's part to the scales of run 0 (64 per run)
  int16_t index = 0;         // among the group's units
  int16_t column = 0;        // first column in the latent
  uint8_t width = 0;         // 32 or 16
  SegmentType type = SegmentType::kBf16;
};

// A unit in a stage, as one word.
struct StagedUnit {
  uint32_t bits =
      0;  // 12 codes / 16, 12 scales / 16 (bytes from the stage's run), 3 type, 2 width / 16
};

// Bytes that are copied of a run: a stretch of the group's part of a block.
struct Span {
  int32_t offset = 0;
  int32_t run_stride = 0;
  int32_t stage = 0;  // where to, from the stage's run
  int32_t bytes = 0;
};

inline constexpr int kMaxUnits = 32;
inline constexpr int kMaxSpans = 2 * kMaxUnits;

// K or V of a group in a stage.
struct StagedGroup {
  StagedUnit unit[kMaxUnits];
  uint8_t index[kMaxUnits] = {};
  int16_t column[kMaxUnits] = {};
  int32_t num_units = 0;
  Span span[kMaxSpans];
  int32_t num_spans = 0;
  int32_t run_bytes = 0;  // the spans' sum
};

// Partial results of one slot: for each of `rows` query heads of a head tile, maximum and sum of
// exponentials (log2 domain), and the weighted sum of latents or values.
struct Partials {
  float2* state = nullptr;  // [slots][tiles of heads][rows] (maximum, sum)
  float* out = nullptr;     // [slots][tiles of heads][rows][width]
  int32_t width = 0;
};

struct AttendLatentParams {
  DecodePass pass;
  const std::byte* pool = nullptr;
  int64_t block_bytes = 0;
  int64_t key_offset = 0;       // of group 0's K in a block
  int64_t value_offset = 0;     // of group 0's V
  int64_t key_group_bytes = 0;  // from group to group
  int64_t value_group_bytes = 0;
  int32_t groups = 0;
  int32_t rows = 0;         // query heads of a group
  int32_t head_tiles = 0;   // ceil(rows / rows of a tile)
  int32_t block_shift = 4;  // log2 of tokens per block
  int32_t anchor = 0;       // 0: one chunk
  int32_t stages = 0;
  const uint2* query = nullptr;        // absorbed, in fragment order: see absorb.cu
  const float* query_scale = nullptr;  // [chunks][groups][head_tiles * tile rows]
  int32_t key_units = 0;               // of a group
  StagedGroup key;
  StagedGroup value;
  Partials partials;

  // Queries that are not absorbed (exact tokens, latents without a basis): rotated in the kernel.
  const float* raw_query = nullptr;  // [T, h*d] before RoPE
  int64_t raw_stride = 0;
  const float* rope_cos = nullptr;  // [positions, d/2]
  const float* rope_sin = nullptr;
  int32_t head_dim = 0;
  float softmax_scale = 0;  // log2(e) / sqrt(d)
};

// One chunk of one decode row.
struct DecodeChunk {
  int32_t row;       // of the step
  int32_t distance;  // from the chunk's start to the query
};

struct AbsorbParams {
  const DecodeChunk* chunks = nullptr;  // [num_chunks]
  int32_t num_chunks = 0;
  const float* query = nullptr;  // [T, h*d] before RoPE
  int64_t query_stride = 0;
  const float* rope_cos = nullptr;
  const float* rope_sin = nullptr;
  int32_t num_kv_heads = 0;
  int32_t heads_per_kv = 0;     // G
  int32_t heads_per_group = 0;  // s, in KV heads
  int32_t head_dim = 0;
  int32_t rank = 0;  // of a group
  float softmax_scale = 0;
  const uint4* decoder = nullptr;      // [g][d/16][rank/16][32]: see decode_basis.h
  const float* column_norm = nullptr;  // [g]: the largest norm of a column of D
  int32_t tile_rows = 0;               // query heads of a tile: 16 or 32
  int32_t head_tiles = 0;
  int32_t key_units = 0;
  uint8_t place[64] = {};     // of 16 columns: 2 * unit + step
  uint64_t bf16_columns = 0;  // a bit per 16 columns
  uint32_t* out =
      nullptr;  // [chunks][groups][head tiles][units][2][tile_rows / 16][2][32 lanes][2]
  float* out_scale = nullptr;  // [chunks][groups][head tiles][tile_rows]
};

// Slots of one decode row.
struct RowSlots {
  int32_t row;  // of the step
  int32_t latent_begin, latent_end;
  int32_t exact_begin, exact_end;
};

struct CombineParams {
  const RowSlots* rows = nullptr;  // [num_rows]
  int32_t num_rows = 0;
  int32_t num_heads = 0;
  int32_t heads_per_kv = 0;
  int32_t head_dim = 0;
  // Latents.
  Partials latent;
  int32_t latent_heads = 0;  // query heads of a group
  int32_t latent_tile_rows = 0;
  int32_t latent_tiles = 0;  // groups * head tiles
  // Exact tokens: per KV head, 16 rows.
  Partials exact;
  void* latents =
      nullptr;  // bf16 [num_rows, h, width]: for DecodeValues; nullptr: latents are values
  float* exact_out = nullptr;  // [num_rows, h*d]: where `latents` is given
  void* out = nullptr;         // [T, h*d]: where it is not
  bool out_bf16 = false;
};

struct DecodeValuesParams {
  const RowSlots* rows = nullptr;
  int32_t num_rows = 0;
  int32_t num_heads = 0;
  int32_t heads_per_kv = 0;
  int32_t head_dim = 0;
  int32_t rank = 0;
  const void* latents = nullptr;     // bf16 [num_rows, h, rank]
  const float* exact_out = nullptr;  // [num_rows, h*d]
  const uint4* decoder = nullptr;    // [g][rank/16][d/16][32]
  void* out = nullptr;               // [T, h*d]
  bool out_bf16 = false;
};

}  // namespace lorc::cuda
