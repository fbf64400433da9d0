// In which order a step's cached tokens are rebuilt, and which queries meet them: the same for all
// layers with these blocks.
//
// Scratch memory holds kWaveTiles tiles of 64 keys and values. Sequences go through it one after
// the other; one that does not fit goes on in the next wave, and its queries keep their state.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/attend_tiles.h"
#include "kernels/cuda/gather_cached.h"
#include "kernels/cuda/write_plan.h"
#include "kernels/ops/kv_cache.h"

namespace lorc::cuda {

// Which positions of a step a plan is for.
enum class AttendRows {
  kAll,
  kPrompt,     // below num_prompt_tokens
  kGenerated,  // the others
};

// The rows of `sequence` that are of that kind; count 0 where there are none.
SequenceSpan RowsOf(const SequenceSpan& sequence, AttendRows rows);

struct AttendPlan {
  // Ranges of the lists below. Latent tiles lie in the first rows, exact tiles behind them.
  struct Wave {
    int32_t first_item = 0;
    int32_t num_items = 0;
    int32_t first_latent = 0;  // tile
    int32_t num_latent = 0;
    int32_t first_exact = 0;  // tile
    int32_t num_exact = 0;
  };
  std::vector<Wave> waves;
  std::vector<AttendItem> items;
  std::vector<AttendSegment> segments;
  std::vector<TileSlots> slots;
  std::vector<KeyTile> latent_tiles;
  std::vector<CacheRun> latent_runs;  // four per tile
  std::vector<CacheRun> exact_runs;   // four per tile

  // Tiles that scratch memory holds.
  static int64_t WaveTiles(const BackendLimits& limits);

  // `item_rows`: queries of an item.
  void Build(const CacheLayer& layer, std::span<const SequenceSpan> sequences, AttendRows rows,
             int64_t wave_tiles, int64_t item_rows);
};

}  // namespace lorc::cuda
