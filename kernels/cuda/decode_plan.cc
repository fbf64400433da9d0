#include "kernels/cuda/decode_plan.h"

#include <algorithm>

namespace lorc::cuda {

PassPlan PlanPass(std::span<const DecodeRange> ranges, std::span<const int32_t> chunk_base,
                  int32_t tile_tokens, int32_t max_streams) {
  PassPlan plan;
  plan.tile_tokens = tile_tokens;
  int64_t num_tiles = 0;
  std::vector<int32_t> item_of_range(ranges.size(), -1);
  for (size_t i = 0; i < ranges.size(); ++i) {
    const DecodeRange& range = ranges[i];
    if (range.begin >= range.end) continue;
    item_of_range[i] = static_cast<int32_t>(plan.items.size());
    plan.items.push_back({range.row, range.position, range.table, range.begin, range.end,
                          static_cast<int32_t>(num_tiles), chunk_base.empty() ? 0 : chunk_base[i],
                          0});
    num_tiles += (range.end + tile_tokens - 1) / tile_tokens - range.begin / tile_tokens;
  }
  const auto num_items = static_cast<int32_t>(plan.items.size());
  const int64_t streams = std::min<int64_t>(max_streams, num_tiles);
  DecodeItem last;
  last.tile_begin = static_cast<int32_t>(num_tiles);
  plan.items.push_back(last);
  plan.stream_begin.push_back(0);
  int32_t item = 0;
  int32_t slot = 0;
  for (int64_t s = 0; s < streams; ++s) {
    const int32_t begin = plan.stream_begin.back();
    const auto end = static_cast<int32_t>(num_tiles * (s + 1) / streams);
    while (plan.items[item + 1].tile_begin <= begin) ++item;
    plan.stream_item.push_back(item);
    plan.stream_slot.push_back(slot);
    for (int32_t i = item; i < num_items && plan.items[i].tile_begin < end; ++i, ++slot) {
      if (plan.items[i].tile_begin >= begin) plan.items[i].slot_begin = slot;
    }
    plan.stream_begin.push_back(end);
  }
  plan.num_slots = slot;
  plan.range_slot.resize(ranges.size() + 1);
  plan.range_slot[ranges.size()] = slot;
  for (size_t i = ranges.size(); i-- > 0;) {
    plan.range_slot[i] =
        item_of_range[i] >= 0 ? plan.items[item_of_range[i]].slot_begin : plan.range_slot[i + 1];
  }
  return plan;
}

}  // namespace lorc::cuda
