#include "kernels/cuda/attend_plan.h"

#include <algorithm>

namespace lorc::cuda {
namespace {

constexpr int64_t kMaxWaveTiles = 128;
constexpr int64_t kRunsPerTile = kKeyTile / kRunTokens;

constexpr int64_t Tiles(int64_t tokens) { return (tokens + kKeyTile - 1) / kKeyTile; }

// Of one sequence: which versions of a tile its queries read.
class TileVersions {
 public:
  TileVersions(const CacheLayer& layer, const SequenceSpan& sequence)
      : layer_(layer),
        end_(sequence.first + sequence.count),
        first_block_(sequence.first / layer.block_tokens),
        last_block_((end_ - 1) / layer.block_tokens) {}

  bool ReadsExact(int64_t tile) const {
    return FirstBlock(tile) < layer_.prefix_blocks ||
           (layer_.window_blocks > 0 && first_block_ - LastBlock(tile) < layer_.window_blocks);
  }
  bool ReadsLatent(int64_t tile) const {
    return LastBlock(tile) >= layer_.prefix_blocks &&
           last_block_ - std::max<int64_t>(FirstBlock(tile), layer_.prefix_blocks) >=
               layer_.window_blocks;
  }

  // Four runs; those that no query reads are empty.
  void AddRuns(int64_t tile, bool exact, const int32_t* blocks, std::vector<CacheRun>& runs) const {
    for (int64_t i = 0; i < kRunsPerTile; ++i) {
      const int64_t position = tile * kKeyTile + i * kRunTokens;
      const int64_t block = position / layer_.block_tokens;
      CacheRun run;
      run.position = static_cast<int32_t>(position);
      if (position < end_ && (exact ? SomeReadsExact(block) : SomeReadsLatent(block))) {
        run.block = blocks[block];
        run.count = static_cast<int32_t>(std::min<int64_t>(kRunTokens, end_ - position));
      }
      runs.push_back(run);
    }
  }

 private:
  int64_t FirstBlock(int64_t tile) const { return tile * kKeyTile / layer_.block_tokens; }
  int64_t LastBlock(int64_t tile) const {
    return (tile * kKeyTile + kKeyTile - 1) / layer_.block_tokens;
  }
  bool SomeReadsExact(int64_t block) const {
    return layer_.IsExact(block, std::max(block, first_block_));
  }
  bool SomeReadsLatent(int64_t block) const { return !layer_.IsExact(block, last_block_); }

  const CacheLayer& layer_;
  const int64_t end_;
  const int64_t first_block_;
  const int64_t last_block_;
};

}  // namespace

SequenceSpan RowsOf(const SequenceSpan& sequence, AttendRows rows) {
  SequenceSpan span = sequence;
  if (rows == AttendRows::kAll) return span;
  const int64_t prompt =
      std::clamp<int64_t>(sequence.num_prompt_tokens - sequence.first, 0, sequence.count);
  if (rows == AttendRows::kPrompt) {
    span.count = prompt;
  } else {
    span.row += prompt;
    span.first += prompt;
    span.count -= prompt;
  }
  return span;
}

int64_t AttendPlan::WaveTiles(const BackendLimits& limits) {
  // A tile may need both versions.
  return std::clamp<int64_t>(Tiles(limits.max_context) + 1, 2, kMaxWaveTiles);
}

void AttendPlan::Build(const CacheLayer& layer, std::span<const SequenceSpan> sequences,
                       AttendRows rows, int64_t wave_tiles, int64_t item_rows) {
  waves.clear();
  items.clear();
  segments.clear();
  slots.clear();
  latent_tiles.clear();
  latent_runs.clear();
  exact_runs.clear();
  const int64_t heads = layer.num_heads / layer.num_kv_heads;
  Wave wave;
  int64_t wave_slots = 0;  // first of the wave

  const auto end_wave = [&] {
    if (wave.num_items > 0) {
      for (size_t i = wave_slots; i < slots.size(); ++i) {
        if (slots[i].exact >= 0) slots[i].exact += wave.num_latent;
      }
      waves.push_back(wave);
    }
    wave_slots = std::ssize(slots);
    wave = {static_cast<int32_t>(items.size()),
            0,
            static_cast<int32_t>(latent_tiles.size()),
            0,
            static_cast<int32_t>(exact_runs.size() / kRunsPerTile),
            0};
  };
  // Tiles [tile_begin, tile_end) of the sequence, whose slots are the last ones.
  const auto add_segment = [&](const SequenceSpan& span, int64_t tile_begin, int64_t tile_end) {
    if (tile_begin == tile_end) return;
    AttendItem item;
    item.segment = static_cast<int32_t>(segments.size());
    segments.push_back({static_cast<int32_t>(span.row), static_cast<int32_t>(span.first),
                        static_cast<int32_t>(span.count), static_cast<int32_t>(tile_begin),
                        static_cast<int32_t>(tile_end),
                        static_cast<int32_t>(std::ssize(slots) - (tile_end - tile_begin))});
    const int64_t queries = span.count * heads;
    // Those with the most keys first. Those whose last key was in an earlier wave are done.
    for (int64_t i = (queries - 1) / item_rows; i >= 0; --i) {
      const int64_t last = std::min(queries, (i + 1) * item_rows) - 1;
      if (span.first + last / heads < tile_begin * kKeyTile) break;
      item.first = static_cast<int32_t>(i * item_rows);
      items.push_back(item);
      ++wave.num_items;
    }
  };

  end_wave();
  for (const SequenceSpan& sequence : sequences) {
    const SequenceSpan span = RowsOf(sequence, rows);
    if (span.count == 0) continue;
    const TileVersions versions(layer, span);
    const int64_t end = span.first + span.count;
    const int64_t num_tiles = Tiles(end);
    int64_t tile_begin = 0;
    for (int64_t tile = 0; tile < num_tiles; ++tile) {
      const bool exact = versions.ReadsExact(tile);
      const bool latent = versions.ReadsLatent(tile);
      if (wave.num_latent + wave.num_exact + exact + latent > wave_tiles) {
        add_segment(span, tile_begin, tile);
        end_wave();
        tile_begin = tile;
      }
      TileSlots& slot = slots.emplace_back();
      if (latent) {
        slot.latent = wave.num_latent++;
        latent_tiles.push_back({static_cast<int32_t>(tile * kKeyTile), static_cast<int32_t>(end)});
        versions.AddRuns(tile, false, span.latent_blocks, latent_runs);
      }
      if (exact) {
        slot.exact = wave.num_exact++;
        versions.AddRuns(tile, true, span.exact_blocks, exact_runs);
      }
    }
    add_segment(span, tile_begin, num_tiles);
  }
  end_wave();
}

}  // namespace lorc::cuda
