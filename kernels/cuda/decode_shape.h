// What decode attention makes of a layer: the kernel that reads its latents, and the extents of
// absorbed queries and partial results. Needs no device.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/cuda/latent_units.h"
#include "kernels/ops/kv_cache.h"

namespace lorc::cuda {

struct DecodeShape {
  LatentUnits units;        // of a group's latents
  LatentUnits exact_units;  // of a KV head in exact blocks, where the layer has any
  bool wide = false;        // attend_wide.h, else attend_narrow.h
  int32_t groups = 0;
  int32_t rows = 0;        // query heads of a group
  int32_t tile_rows = 0;   // query heads of a tile
  int32_t head_tiles = 0;  // of a group
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t value_rank = 0;

  // The shape of a layer, be it with or without bases; nothing where neither kernel takes its
  // latents or its exact blocks. `shared_bytes`: shared memory that a thread block can have.
  static std::optional<DecodeShape> Of(const CacheLayer& layer, int32_t shared_bytes);

  bool has_exact() const { return exact_units.key_count > 0; }
  int32_t tile_tokens() const { return wide ? 32 : 16; }
  // Streams that fill `num_sms` multiprocessors, for latents and for exact tokens.
  int32_t LatentStreams(int32_t num_sms) const;
  int32_t ExactStreams(int32_t num_sms) const;

  // Words of a chunk's absorbed queries, and their scales.
  int64_t QueryWords() const {
    return int64_t{groups} * head_tiles * units.key_count * 2 * (tile_rows / 16) * 128;
  }
  int64_t QueryScales() const { return LatentRows(); }
  // Query heads of a slot, with the padding of tiles.
  int64_t LatentRows() const { return int64_t{groups} * head_tiles * tile_rows; }
  int64_t ExactRows() const { return int64_t{num_kv_heads} * 16; }
};

// Whether generated positions of the layer, whose bases are there, go through decode attention.
// All others are rebuilt.
bool DecodeTakes(const CacheLayer& layer, const DecodeShape& shape);

}  // namespace lorc::cuda
