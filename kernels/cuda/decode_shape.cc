#include "kernels/cuda/decode_shape.h"

#include <algorithm>
#include <vector>

#include "kernels/cuda/attend_narrow.h"
#include "kernels/cuda/attend_wide.h"

namespace lorc::cuda {
namespace {

constexpr int32_t kNarrowWarps = 8;  // groups of a thread block

int32_t MaxStreams(int32_t num_ctas, int32_t y) { return std::max(1, num_ctas / y); }

}  // namespace

std::optional<DecodeShape> DecodeShape::Of(const CacheLayer& layer, int32_t shared_bytes) {
  if (layer.RebuildsKeys() || layer.key.groups != layer.value.groups) return std::nullopt;
  DecodeShape shape;
  shape.groups = layer.key.groups;
  shape.num_heads = layer.num_heads;
  shape.num_kv_heads = layer.num_kv_heads;
  shape.head_dim = layer.head_dim;
  shape.value_rank = layer.value.rank;
  const int32_t heads = layer.num_heads / layer.num_kv_heads;
  shape.rows = heads * layer.key.heads_per_group;
  LatentUnits& units = shape.units;
  units.key_count = MakeUnits(layer.key.segments, layer.block_tokens, units.key);
  units.value_count = MakeUnits(layer.value.segments, layer.block_tokens, units.value);
  shape.wide = !NarrowTakes(shape.rows, shape.groups, units, shared_bytes);
  if (shape.wide && !WideTakes(shape.rows, units, shared_bytes)) return std::nullopt;
  if (layer.anchor % shape.tile_tokens() != 0) return std::nullopt;
  shape.tile_rows = shape.wide ? WideTileRows(shape.rows, units) : 16;
  shape.head_tiles = (shape.rows + shape.tile_rows - 1) / shape.tile_rows;
  if (layer.prefix_blocks > 0 || layer.window_blocks > 0) {
    const std::vector<CacheSegment> head = {{SegmentType::kBf16, layer.head_dim}};
    LatentUnits& exact = shape.exact_units;
    exact.key_count = MakeUnits(head, layer.block_tokens, exact.key);
    exact.value_count = MakeUnits(head, layer.block_tokens, exact.value);
    if (!NarrowTakes(heads, layer.num_kv_heads, exact, shared_bytes)) return std::nullopt;
  }
  return shape;
}

int32_t DecodeShape::LatentStreams(int32_t num_sms) const {
  return MaxStreams(num_sms,
                    wide ? groups * head_tiles : (groups + kNarrowWarps - 1) / kNarrowWarps);
}

int32_t DecodeShape::ExactStreams(int32_t num_sms) const {
  return MaxStreams(2 * num_sms, (num_kv_heads + kNarrowWarps - 1) / kNarrowWarps);
}

bool DecodeTakes(const CacheLayer& layer, const DecodeShape& shape) {
  // Queries that are not absorbed meet one KV head's keys, in the narrow kernel.
  return layer.key.basis != nullptr || (!shape.wide && layer.key.heads_per_group == 1);
}

}  // namespace lorc::cuda
