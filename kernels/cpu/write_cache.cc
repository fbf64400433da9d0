#include <algorithm>
#include <cstring>

#include "kernels/base/check.h"
#include "kernels/cpu/cache_blocks.h"
#include "kernels/cpu/cpu_basis.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/thread_pool.h"

namespace lorc {
namespace {

constexpr int64_t kWaveRows = 512;  // tokens that are projected at once

// Consecutive tokens of one block: rows of the step, or an exact block that ages.
struct Run {
  const SequenceSpan* sequence;
  int64_t position;  // of the first token
  int64_t count;
  bool ages;

  int64_t row() const { return sequence->row + position - sequence->first; }
};

class CacheWriter {
 public:
  CacheWriter(const WriteCacheArgs& args, ThreadPool& pool, LinearScratch& linear, Arena& arena)
      : args_(args),
        layer_(*args.layer),
        exact_(layer_),
        pool_(pool),
        linear_(linear),
        arena_(arena) {}

  void WriteExact() {
    Arena::Scope scope(arena_);
    const auto runs = Collect([this](const auto& visit) {
      ForStepRuns([&](const Run& run) {
        if (Block(run) < layer_.prefix_blocks || layer_.window_blocks > 0) visit(run);
      });
    });
    const int64_t stage_size = layer_.block_tokens * layer_.kv_width();
    auto* stages = arena_.Take<float>(pool_.num_threads() * stage_size);
    pool_.ParallelFor(std::ssize(runs), [&](int64_t i, int thread) {
      float* stage = stages + thread * stage_size;
      for (const KeyOrValue which : {KeyOrValue::kKey, KeyOrValue::kValue}) {
        LoadRows(runs[i], which, stage);
        Put(exact_.tensor, which, runs[i], stage, layer_.kv_width(), ExactPart(runs[i], which));
      }
    });
  }

  void WriteLatent() {
    Arena::Scope scope(arena_);
    auto runs = Collect([this](const auto& visit) { ForLatentRuns(visit); });
    while (!runs.empty()) {
      int64_t num_rows = 0;
      size_t count = 0;
      while (count < runs.size() && num_rows + runs[count].count <= kWaveRows) {
        num_rows += runs[count++].count;
      }
      WriteWave(runs.first(count), num_rows, layer_.key, KeyOrValue::kKey);
      WriteWave(runs.first(count), num_rows, layer_.value, KeyOrValue::kValue);
      runs = runs.subspan(count);
    }
  }

 private:
  template <typename ForRuns>
  std::span<const Run> Collect(const ForRuns& for_runs) {
    int64_t count = 0;
    for_runs([&](const Run&) { ++count; });
    Run* next = arena_.Take<Run>(count);
    const std::span<const Run> runs(next, count);
    for_runs([&](const Run& run) { *next++ = run; });
    return runs;
  }

  template <typename Visit>
  void ForStepRuns(const Visit& visit) const {
    for (const SequenceSpan& sequence : args_.sequences) {
      const int64_t end = sequence.first + sequence.count;
      for (int64_t position = sequence.first; position < end;) {
        const int64_t next =
            std::min(end, (position / layer_.block_tokens + 1) * layer_.block_tokens);
        visit(Run{&sequence, position, next - position, false});
        position = next;
      }
    }
  }

  template <typename Visit>
  void ForLatentRuns(const Visit& visit) const {
    if (layer_.window_blocks == 0) {
      ForStepRuns([&](const Run& run) {
        if (Block(run) >= layer_.prefix_blocks) visit(run);
      });
      return;
    }
    for (const SequenceSpan& sequence : args_.sequences) {
      const int64_t end = layer_.LatentEnd(sequence.first + sequence.count);
      for (int64_t block =
               std::max<int64_t>(layer_.prefix_blocks, layer_.LatentEnd(sequence.first));
           block < end; ++block) {
        visit(Run{&sequence, block * layer_.block_tokens, layer_.block_tokens, true});
      }
    }
  }

  int64_t Block(const Run& run) const { return run.position / layer_.block_tokens; }

  std::byte* ExactPart(const Run& run, KeyOrValue which) const {
    const int64_t bytes = layer_.ExactBlockBytes();
    return layer_.exact_pool + run.sequence->exact_blocks[Block(run)] * bytes +
           (which == KeyOrValue::kKey ? 0 : bytes / 2);
  }

  std::byte* LatentPart(const Run& run, KeyOrValue which) const {
    return layer_.latent_pool +
           run.sequence->latent_blocks[Block(run)] * layer_.LatentBlockBytes() +
           (which == KeyOrValue::kKey ? 0 : layer_.block_tokens * layer_.key.BytesPerToken());
  }

  // A run's full keys, rotated within their chunk, or values: [count, kv_width].
  void LoadRows(const Run& run, KeyOrValue which, float* out) const {
    const int64_t width = layer_.kv_width();
    const int64_t d = layer_.head_dim;
    if (run.ages) {
      for (int32_t head = 0; head < layer_.num_kv_heads; ++head) {
        ReadTokens(exact_.tensor, which, layer_.block_tokens, head, run.count,
                   ExactPart(run, which), out + head * d, width);
      }
      return;
    }
    for (int64_t t = 0; t < run.count; ++t, out += width) {
      if (which == KeyOrValue::kValue) {
        std::memcpy(out, args_.value + (run.row() + t) * args_.value_stride, width * sizeof(float));
        continue;
      }
      const float* key = args_.key + (run.row() + t) * args_.key_stride;
      const int64_t turn = run.position + t - layer_.ChunkStart(run.position + t);
      RotateHeads(key, layer_.rope_cos + turn * (d / 2), layer_.rope_sin + turn * (d / 2),
                  layer_.num_kv_heads, d, out);
    }
  }

  void Put(const CacheTensor& tensor, KeyOrValue which, const Run& run, const float* rows,
           int64_t stride, std::byte* part) const {
    const int64_t slot = run.position % layer_.block_tokens;
    for (int64_t t = 0; t < run.count; ++t) {
      WriteToken(tensor, which, layer_.block_tokens, slot + t, rows + t * stride, part);
    }
  }

  void WriteWave(std::span<const Run> runs, int64_t num_rows, const CacheTensor& tensor,
                 KeyOrValue which) {
    if (tensor.latent_input) {
      const bool key = which == KeyOrValue::kKey;
      const float* source = key ? args_.key : args_.value;
      const int64_t stride = key ? args_.key_stride : args_.value_stride;
      pool_.ParallelFor(std::ssize(runs), [&](int64_t i, int) {
        Put(tensor, which, runs[i], source + runs[i].row() * stride, stride,
            LatentPart(runs[i], which));
      });
      return;
    }
    Arena::Scope scope(arena_);
    const int64_t width = layer_.kv_width();
    auto* first_row = arena_.Take<int64_t>(std::ssize(runs));
    int64_t next_row = 0;
    for (size_t i = 0; i < runs.size(); ++i) {
      first_row[i] = next_row;
      next_row += runs[i].count;
    }
    auto* rows = arena_.Take<float>(num_rows * width);
    const float* latents = rows;
    int64_t latent_width = width;
    if (tensor.basis == nullptr) {
      pool_.ParallelFor(std::ssize(runs), [&](int64_t i, int) {
        LoadRows(runs[i], which, rows + first_row[i] * width);
      });
    } else {
      latent_width = tensor.groups * tensor.rank;
      latents = Project(runs, first_row, num_rows, rows, tensor, which);
    }
    pool_.ParallelFor(std::ssize(runs), [&](int64_t i, int) {
      Put(tensor, which, runs[i], latents + first_row[i] * latent_width, latent_width,
          LatentPart(runs[i], which));
    });
  }

  // Latents [num_rows, groups * rank] of the runs' tokens; `rows` is room for their full rows.
  const float* Project(std::span<const Run> runs, const int64_t* first_row, int64_t num_rows,
                       float* rows, const CacheTensor& tensor, KeyOrValue which) {
    const auto& basis = static_cast<const CpuBasis&>(*tensor.basis);
    const int64_t width = layer_.kv_width();
    const int64_t group_width = tensor.heads_per_group * layer_.head_dim;
    const int64_t latent_width = tensor.groups * tensor.rank;
    // Products want contiguous rows: [group][row][group_width].
    const int64_t group_bytes = PaddedRows(num_rows) * group_width * ByteSize(basis.type());
    auto* input = arena_.Take<std::byte>(tensor.groups * group_bytes);
    auto* latents = arena_.Take<float>(num_rows * latent_width);
    pool_.ParallelFor(std::ssize(runs), [&](int64_t i, int) {
      LoadRows(runs[i], which, rows + first_row[i] * width);
      for (int64_t t = first_row[i]; t < first_row[i] + runs[i].count; ++t) {
        for (int32_t group = 0; group < tensor.groups; ++group) {
          CopyAs(basis.type(), rows + t * width + group * group_width, group_width,
                 input + group * group_bytes + t * group_width * ByteSize(basis.type()));
        }
      }
    });
    for (int32_t group = 0; group < tensor.groups; ++group) {
      LinearArgs product;
      product.weight = &basis.encoder(group);
      product.num_rows = num_rows;
      product.x = input + group * group_bytes;
      product.x_type = basis.type();
      product.y = latents + group * tensor.rank;
      product.y_stride = latent_width;
      CpuLinear(product, pool_, linear_);
    }
    return latents;
  }

  const WriteCacheArgs& args_;
  const CacheLayer& layer_;
  const ExactTensors exact_;
  ThreadPool& pool_;
  LinearScratch& linear_;
  Arena& arena_;
};

}  // namespace

int64_t WriteCacheScratchBytes(const CacheLimits& limits) {
  const int64_t width = limits.num_kv_heads * limits.head_dim;
  // Every sequence adds at most two runs to those that its tokens fill, and ages one block more
  // than it fills.
  const int64_t runs = 3 * limits.max_tokens + 64;
  const int64_t exact = Arena::Bytes<float>(limits.num_threads * limits.block_tokens * width);
  const int64_t wave = Arena::Bytes<int64_t>(kWaveRows) + Arena::Bytes<float>(kWaveRows * width) +
                       Arena::Bytes<float>(kWaveRows * width + 16 * limits.num_kv_heads) +
                       Arena::Bytes<float>(kWaveRows * limits.max_latent_width);
  return Arena::Bytes<Run>(runs) + std::max(exact, wave);
}

void CpuWriteCache(const WriteCacheArgs& args, ThreadPool& pool, LinearScratch& linear,
                   Arena& arena) {
  LORC_CHECK(args.layer->anchor <= 1 || args.layer->anchor % args.layer->block_tokens == 0);
  LORC_CHECK(args.layer->block_tokens == 16 || args.layer->block_tokens == 32 ||
             args.layer->block_tokens == 64);
  CacheWriter writer(args, pool, linear, arena);
  writer.WriteExact();
  writer.WriteLatent();
}

}  // namespace lorc
