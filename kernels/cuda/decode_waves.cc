#include "kernels/cuda/decode_waves.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/cuda/attend_plan.h"

namespace lorc::cuda {
namespace {

// What the query at a position reads: latents of [prefix, latent_end), exact tokens below and from
// there on. As CacheLayer::IsExact.
struct RowRanges {
  int32_t prefix_end = 0;
  int32_t latent_end = 0;
  int32_t end = 0;

  RowRanges(const BlockRule& rule, int64_t position) {
    const int64_t window_block =
        rule.window_blocks > 0 ? position / rule.block_tokens - rule.window_blocks + 1 : INT32_MAX;
    end = static_cast<int32_t>(position + 1);
    prefix_end = std::min(end, rule.prefix_blocks * rule.block_tokens);
    latent_end = static_cast<int32_t>(
        std::clamp<int64_t>(window_block * rule.block_tokens, prefix_end, end));
  }
};

// Collects the rows of one wave.
class WaveBuilder {
 public:
  explicit WaveBuilder(const DecodeRule& rule) : rule_(rule) {}

  int64_t num_rows() const { return std::ssize(wave_.rows); }
  int64_t num_chunks() const { return std::ssize(wave_.chunks); }

  // Chunks that the row would add.
  int64_t Chunks(const RowRanges& ranges) const {
    if (!rule_.absorbs || ranges.latent_end == ranges.prefix_end) return 0;
    return LastChunk(ranges) - FirstChunk(ranges) + 1;
  }

  void Add(int32_t row, int32_t position, const RowRanges& ranges, const SequenceTables& tables) {
    const int64_t chunks = Chunks(ranges);
    const int32_t first = FirstChunk(ranges);
    chunk_base_.push_back(static_cast<int32_t>(num_chunks()) - first);
    for (int32_t i = 0; i < chunks; ++i) {
      wave_.chunks.push_back({row, position - (first + i) * rule_.anchor});
    }
    latent_.push_back({row, position, tables.latent, ranges.prefix_end, ranges.latent_end});
    exact_.push_back({row, position, tables.exact, 0, ranges.prefix_end});
    exact_.push_back({row, position, tables.exact, ranges.latent_end, ranges.end});
    wave_.rows.push_back({row, 0, 0, 0, 0});
  }

  DecodeWave Finish() {
    wave_.latent = PlanPass(latent_, chunk_base_, rule_.tile_tokens, rule_.latent_streams);
    wave_.exact = PlanPass(exact_, {}, 16, rule_.exact_streams);
    for (size_t i = 0; i < wave_.rows.size(); ++i) {
      RowSlots& slots = wave_.rows[i];
      slots.latent_begin = wave_.latent.range_slot[i];
      slots.latent_end = wave_.latent.range_slot[i + 1];
      slots.exact_begin = wave_.exact.range_slot[2 * i];
      slots.exact_end = wave_.exact.range_slot[2 * i + 2];
    }
    latent_.clear();
    exact_.clear();
    chunk_base_.clear();
    return std::exchange(wave_, DecodeWave());
  }

 private:
  int32_t FirstChunk(const RowRanges& ranges) const {
    return rule_.anchor == 0 ? 0 : ranges.prefix_end / rule_.anchor;
  }
  int32_t LastChunk(const RowRanges& ranges) const {
    return rule_.anchor == 0 ? 0 : (ranges.latent_end - 1) / rule_.anchor;
  }

  const DecodeRule& rule_;
  DecodeWave wave_;
  std::vector<DecodeRange> latent_, exact_;
  std::vector<int32_t> chunk_base_;
};

}  // namespace

int64_t NumChunks(int64_t tokens, int32_t anchor) {
  return anchor == 0 ? 1 : (tokens + anchor - 1) / anchor;
}

std::vector<DecodeWave> PlanDecode(const DecodeRule& rule, const WaveLimits& limits,
                                   std::span<const SequenceSpan> sequences,
                                   std::span<const SequenceTables> tables) {
  LORC_CHECK_EQ(sequences.size(), tables.size());
  std::vector<DecodeWave> waves;
  WaveBuilder builder(rule);
  for (size_t i = 0; i < sequences.size(); ++i) {
    const SequenceSpan span = RowsOf(sequences[i], AttendRows::kGenerated);
    for (int64_t t = 0; t < span.count; ++t) {
      const RowRanges ranges(rule.blocks, span.first + t);
      const int64_t chunks = builder.Chunks(ranges);
      LORC_CHECK_LE(chunks, limits.chunks);
      if (builder.num_rows() == limits.rows || builder.num_chunks() + chunks > limits.chunks) {
        waves.push_back(builder.Finish());
      }
      builder.Add(static_cast<int32_t>(span.row + t), static_cast<int32_t>(span.first + t), ranges,
                  tables[i]);
    }
  }
  if (builder.num_rows() > 0) waves.push_back(builder.Finish());
  return waves;
}

}  // namespace lorc::cuda
