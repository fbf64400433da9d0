// Full keys and values of a range of one sequence's blocks, rebuilt from what the cache holds.
#pragma once

#include <cstdint>

#include "kernels/base/arena.h"
#include "kernels/cpu/cache_blocks.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/tile_attention.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {

class ThreadPool;

class RebuiltRange {
 public:
  // Blocks [begin, end) of a sequence of which positions [0, num_tokens) are cached. Memory comes
  // from the arena and lives as long as the caller's scope.
  RebuiltRange(const CacheLayer& layer, const SequenceSpan& sequence, int64_t num_tokens,
               int64_t begin, int64_t end, Arena& arena);

  static int64_t ScratchBytes(int64_t num_tokens, int64_t kv_width, int64_t max_latent_width);

  // Makes the latent version of blocks [first, last).
  void RebuildLatent(int64_t first, int64_t last, ThreadPool& pool, LinearScratch& linear,
                     Arena& arena);
  // Makes the exact version of one block; blocks are independent.
  void LoadExact(int64_t block);

  KeyValueTile Tile(bool exact, int64_t block, int64_t kv_head) const;

 private:
  // Values (and keys on their way to their tiles) are rows of a group of heads:
  // [group][token][group_width].
  struct Version {
    float* keys = nullptr;  // [block][g][d][block_tokens]
    float* values = nullptr;
    int64_t heads_per_group = 0;
  };

  int64_t TokensIn(int64_t block) const;
  float* Keys(const Version& version, int64_t block, int64_t kv_head) const;
  float* Rows(const Version& version, int64_t block, int64_t group) const;
  void Load(const CacheTensor& tensor, KeyOrValue which, const std::byte* part, int64_t block,
            Version& version) const;
  void Rebuild(const CacheTensor& tensor, KeyOrValue which, int64_t first, int64_t last,
               ThreadPool& pool, LinearScratch& linear, Arena& arena);
  void StoreKeys(int64_t block, int64_t group, const Version& version) const;
  const std::byte* LatentPart(int64_t block, KeyOrValue which) const;

  const CacheLayer& layer_;
  const SequenceSpan& sequence_;
  const ExactTensors exact_tensors_;
  const int64_t num_tokens_;
  const int64_t begin_;
  const int64_t num_rows_;  // of the range
  Version exact_;
  Version latent_;
};

}  // namespace lorc
