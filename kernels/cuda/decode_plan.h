// The order in which a step's decode rows are read: made on the host once per step, used by all
// layers of the same geometry. See decode_params.h for the words.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/decode_params.h"

namespace lorc::cuda {

// Tokens [begin, end) of a row.
struct DecodeRange {
  int32_t row = 0;
  int32_t position = 0;
  int32_t table = 0;  // into the pass's table of block ids
  int32_t begin = 0;  // a multiple of 16
  int32_t end = 0;
};

struct PassPlan {
  int32_t tile_tokens = 0;
  std::vector<DecodeItem> items;  // one more than ranges, where there are any
  std::vector<int32_t> stream_begin, stream_item, stream_slot;
  std::vector<int32_t> range_slot;  // [ranges + 1]: first slot of each
  int32_t num_slots = 0;

  int32_t num_streams() const { return static_cast<int32_t>(stream_item.size()); }
};

// Cuts `ranges` into tiles of `tile_tokens` aligned positions and deals them out to at most
// `max_streams` streams, as evenly as whole tiles allow. chunk_base[i] belongs to ranges[i]; empty:
// all 0. Empty ranges get no slots.
PassPlan PlanPass(std::span<const DecodeRange> ranges, std::span<const int32_t> chunk_base,
                  int32_t tile_tokens, int32_t max_streams);

}  // namespace lorc::cuda
