// Attention of runs of queries over rebuilt keys and values that lie in device memory in tiles.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/cache_product.h"
#include "kernels/cuda/token_source.cuh"

namespace lorc::cuda {

// Where the two versions of a tile of kKeyTile keys lie: rows [64 * i, 64 * i + 64), -1 where no
// query of the step reads that version.
struct TileSlots {
  int32_t exact = -1;
  int32_t latent = -1;
};

// Positions [first, first + count) of a sequence and the tiles of its keys that lie there now.
struct AttendSegment {
  int32_t row = 0;  // of the step, of position `first`
  int32_t first = 0;
  int32_t count = 0;
  int32_t tile_begin = 0;  // tiles [tile_begin, tile_end) of the sequence
  int32_t tile_end = 0;
  int32_t slots = 0;  // index of tile_begin's TileSlots
};

// A CTA's queries: items [first, ...) of the segment's positions times the heads of one KV head.
struct AttendItem {
  int32_t segment = 0;
  int32_t first = 0;
};

struct AttendTilesArgs {
  const AttendItem* items = nullptr;  // device memory, as all that follows
  int32_t num_items = 0;
  const AttendSegment* segments = nullptr;
  const TileSlots* slots = nullptr;
  const uint16_t* keys = nullptr;    // bf16 [rows, g * d], heads in the order of RotatedColumn
  const uint16_t* values = nullptr;  // bf16 [rows, g * d]
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t prefix_blocks = 0;
  int32_t window_blocks = 0;
  HeadFrame frame;
  const float* query = nullptr;  // [T, h * d] before RoPE
  int64_t query_stride = 0;
  void* out = nullptr;  // [T, h * d]
  bool out_is_bf16 = false;
  // What is kept of a row and head between calls that see one part of its keys after the other.
  float* state_out = nullptr;      // [T, h, d], before the division by the sum
  float* state_maximum = nullptr;  // [T, h]
  float* state_sum = nullptr;      // [T, h]
};

// Queries of an item.
int32_t AttendItemRows(int32_t head_dim);

void AttendTiles(const AttendTilesArgs& args, cudaStream_t stream);

// Once before the first call: asks for the shared memory that heads of that width need.
cudaError_t PrepareAttendTiles(int32_t head_dim);

}  // namespace lorc::cuda
