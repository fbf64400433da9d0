// Attention of generated positions: one row at a time, cut into stretches of kStretchTokens
// positions that any thread may take; a row's parts are put together in the order of positions.

#include <algorithm>
#include <cmath>

#include "kernels/base/check.h"
#include "kernels/cpu/absorbed_attention.h"
#include "kernels/cpu/cache_blocks.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/tile_attention.h"

namespace lorc {
namespace {

constexpr int64_t kStretchTokens = 512;
// Parts that are kept at once, unless a single row has more: bounds scratch memory, not what can be
// computed.
constexpr int64_t kWaveParts = 256;

constexpr int64_t RoundUp16(int64_t value) { return (value + 15) / 16 * 16; }

constexpr int64_t Stretches(int64_t tokens) {
  return (tokens + kStretchTokens - 1) / kStretchTokens;
}

// Floats of one part: both kinds' maxima, sums and outputs.
constexpr int64_t PartFloats(int64_t num_heads, int64_t head_dim, int64_t columns) {
  return RoundUp16(4 * num_heads) + num_heads * (RoundUp16(head_dim) + columns);
}

struct Row {
  const SequenceSpan* sequence;
  int64_t position;
  int64_t first_part;  // within the wave
  int64_t num_parts;

  int64_t row() const { return sequence->row + position - sequence->first; }
};

class AbsorbedAttention {
 public:
  AbsorbedAttention(const AttendArgs& args, ThreadPool& pool, Arena& arena)
      : args_(args),
        layer_(*args.layer),
        pool_(pool),
        arena_(arena),
        columns_(ValueColumns(layer_.value)),
        part_floats_(PartFloats(layer_.num_heads, layer_.head_dim, columns_)) {}

  void Run(std::span<const SequenceSpan> sequences) {
    Arena::Scope scope(arena_);
    int64_t num_rows = 0;
    for (const SequenceSpan& sequence : sequences) num_rows += sequence.count;
    Row* rows = arena_.Take<Row>(num_rows);
    Row* next = rows;
    for (const SequenceSpan& sequence : sequences) {
      for (int64_t t = 0; t < sequence.count; ++t) {
        const int64_t position = sequence.first + t;
        *next++ = {&sequence, position, 0, Stretches(position + 1)};
      }
    }
    while (num_rows > 0) {
      int64_t count = 0;
      int64_t parts = 0;
      do {
        rows[count].first_part = parts;
        parts += rows[count++].num_parts;
      } while (count < num_rows && parts + rows[count].num_parts <= kWaveParts);
      RunWave({rows, static_cast<size_t>(count)}, parts);
      rows += count;
      num_rows -= count;
    }
  }

 private:
  void RunWave(std::span<const Row> rows, int64_t num_parts) {
    Arena::Scope scope(arena_);
    auto* row_of_part = arena_.Take<int32_t>(num_parts);
    for (size_t i = 0; i < rows.size(); ++i) {
      std::fill_n(row_of_part + rows[i].first_part, rows[i].num_parts, static_cast<int32_t>(i));
    }
    auto* parts = arena_.Take<float>(num_parts * part_floats_);
    const int64_t scratch_floats =
        RoundUp16(StretchScratchFloats(layer_.num_heads, layer_.head_dim, layer_.key.rank));
    auto* scratch = arena_.Take<float>(pool_.num_threads() * scratch_floats);
    pool_.ParallelFor(num_parts, [&](int64_t i, int thread) {
      const Row& row = rows[row_of_part[i]];
      StretchArgs stretch;
      stretch.layer = &layer_;
      stretch.query = args_.query + row.row() * args_.query_stride;
      stretch.position = row.position;
      stretch.begin = (i - row.first_part) * kStretchTokens;
      stretch.end = std::min(row.position + 1, stretch.begin + kStretchTokens);
      stretch.latent_blocks = row.sequence->latent_blocks;
      stretch.exact_blocks = row.sequence->exact_blocks;
      stretch.exact = ExactPart(parts, i);
      stretch.latent = LatentPart(parts, i);
      stretch.scratch = scratch + thread * scratch_floats;
      AttendStretch(stretch);
    });
    pool_.ParallelFor(std::ssize(rows), [&](int64_t i, int) { Combine(rows[i], parts); });
  }

  SoftmaxPart ExactPart(float* parts, int64_t i) const {
    const int64_t h = layer_.num_heads;
    float* part = parts + i * part_floats_;
    return {part, part + h, part + RoundUp16(4 * h), RoundUp16(layer_.head_dim)};
  }

  SoftmaxPart LatentPart(float* parts, int64_t i) const {
    const int64_t h = layer_.num_heads;
    float* part = parts + i * part_floats_;
    return {part + 2 * h, part + 3 * h, part + RoundUp16(4 * h) + h * RoundUp16(layer_.head_dim),
            columns_};
  }

  // The row's output from its parts: its first part gathers the others.
  void Combine(const Row& row, float* parts) const {
    const SoftmaxPart exact = ExactPart(parts, row.first_part);
    const SoftmaxPart latent = LatentPart(parts, row.first_part);
    const int64_t d = layer_.head_dim;
    const int64_t heads_per_kv = layer_.num_heads / layer_.num_kv_heads;
    for (int64_t head = 0; head < layer_.num_heads; ++head) {
      for (int64_t i = row.first_part + 1; i < row.first_part + row.num_parts; ++i) {
        AddPart(ExactPart(parts, i), head, exact);
        AddPart(LatentPart(parts, i), head, latent);
      }
      const float top = std::max(exact.maximum[head], latent.maximum[head]);
      const float exact_share = std::exp(exact.maximum[head] - top);
      const float latent_share = std::exp(latent.maximum[head] - top);
      const float sum = exact.sum[head] * exact_share + latent.sum[head] * latent_share;
      float* out = exact.out + head * exact.columns;
      if (latent.sum[head] > 0) {
        float rebuilt[kMaxHeadDim];
        ValueOutput(layer_, head / heads_per_kv, latent.out + head * latent.columns, rebuilt);
        for (int64_t i = 0; i < d; ++i) {
          out[i] = out[i] * exact_share + rebuilt[i] * latent_share;
        }
      } else if (!(exact_share == 1.0f)) {
        for (int64_t i = 0; i < d; ++i) out[i] *= exact_share;
      }
      const int64_t at = (row.row() * layer_.num_heads + head) * d;
      if (args_.out_type == DType::kF32) {
        DivideRow(out, sum, d, static_cast<float*>(args_.out) + at);
      } else {
        DivideRow(out, sum, d, static_cast<bf16_t*>(args_.out) + at);
      }
    }
  }

  static void AddPart(const SoftmaxPart& from, int64_t head, const SoftmaxPart& to) {
    if (from.sum[head] == 0.0f) return;  // no token of its kind
    const float top = std::max(from.maximum[head], to.maximum[head]);
    const float keep = std::exp(to.maximum[head] - top);
    const float take = std::exp(from.maximum[head] - top);
    to.maximum[head] = top;
    to.sum[head] = to.sum[head] * keep + from.sum[head] * take;
    float* out = to.out + head * to.columns;
    const float* other = from.out + head * from.columns;
    for (int64_t i = 0; i < to.columns; ++i) out[i] = out[i] * keep + other[i] * take;
  }

  const AttendArgs& args_;
  const CacheLayer& layer_;
  ThreadPool& pool_;
  Arena& arena_;
  const int64_t columns_;
  const int64_t part_floats_;
};

}  // namespace

int64_t AttendAbsorbedScratchBytes(const CacheLimits& limits) {
  const int64_t parts = std::max(kWaveParts, Stretches(limits.max_context));
  // A segment of 8 numbers takes 16 columns.
  const int64_t columns = 2 * limits.max_latent_width;
  return Arena::Bytes<Row>(limits.max_tokens) + Arena::Bytes<int32_t>(parts) +
         Arena::Bytes<float>(parts * PartFloats(limits.num_heads, limits.head_dim, columns)) +
         Arena::Bytes<float>(limits.num_threads *
                             RoundUp16(StretchScratchFloats(limits.num_heads, limits.head_dim,
                                                            limits.max_latent_width)));
}

void CpuAttendAbsorbed(const AttendArgs& args, std::span<const SequenceSpan> sequences,
                       ThreadPool& pool, Arena& arena) {
  LORC_CHECK_LE(args.layer->head_dim, kMaxHeadDim);
  AbsorbedAttention(args, pool, arena).Run(sequences);
}

int64_t AttendScratchBytes(const CacheLimits& limits) {
  return 2 * Arena::Bytes<SequenceSpan>(limits.max_tokens) +
         std::max(AttendRebuiltScratchBytes(limits), AttendAbsorbedScratchBytes(limits));
}

void CpuAttend(const AttendArgs& args, ThreadPool& pool, LinearScratch& linear, Arena& arena) {
  Arena::Scope scope(arena);
  auto* prompts = arena.Take<SequenceSpan>(std::ssize(args.sequences));
  auto* generated = arena.Take<SequenceSpan>(std::ssize(args.sequences));
  size_t num_prompts = 0;
  size_t num_generated = 0;
  for (const SequenceSpan& sequence : args.sequences) {
    // Where keys are rebuilt anyway there is one form only.
    const int64_t rebuilt =
        args.layer->RebuildsKeys()
            ? sequence.count
            : std::clamp<int64_t>(sequence.num_prompt_tokens - sequence.first, 0, sequence.count);
    if (rebuilt > 0) {
      SequenceSpan& span = prompts[num_prompts++] = sequence;
      span.count = rebuilt;
    }
    if (rebuilt < sequence.count) {
      SequenceSpan& span = generated[num_generated++] = sequence;
      span.row += rebuilt;
      span.first += rebuilt;
      span.count -= rebuilt;
    }
  }
  CpuAttendRebuilt(args, {prompts, num_prompts}, pool, linear, arena);
  if (num_generated > 0) CpuAttendAbsorbed(args, {generated, num_generated}, pool, arena);
}

}  // namespace lorc
