// Who holds which cache block.
//
// Two kinds of blocks (runtime/kv/geometry.h), each with its own pool of ids [0, n). Free lists are
// last in, first out, so that the same calls give the same ids. No locks: engine thread only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/kv/geometry.h"
#include "runtime/step.h"

namespace lorc {

struct BlockCounts {
  int64_t latent = 0;
  int64_t exact = 0;

  friend bool operator==(const BlockCounts&, const BlockCounts&) = default;
};

// The blocks of one sequence, by block index as runtime/step.h wants them. Changed by BlockManager
// alone; must be given back (Release) before it dies.
class BlockTable {
 public:
  // Sizes the tables for a sequence of at most `max_blocks` blocks, so that spans stay valid.
  BlockTable(const KvGeometry& geometry, int64_t max_blocks);

  std::span<const BlockId> latent() const { return latent_; }  // [max_blocks]
  std::span<const BlockId> exact() const { return exact_; }    // [max_blocks]
  BlockCounts held() const {
    return {latent_held_.end - latent_held_.first,
            prefix_end_ + window_held_.end - window_held_.first};
  }

 private:
  friend class BlockManager;

  std::vector<BlockId> latent_;
  std::vector<BlockId> exact_;
  BlockRange latent_held_;
  int64_t prefix_end_ = 0;  // exact blocks [0, prefix_end_) are held
  BlockRange window_held_;  // and these
};

class BlockManager {
 public:
  explicit BlockManager(const KvGeometry& geometry);

  BlockCounts total() const { return {geometry_.num_latent_blocks, geometry_.num_exact_blocks}; }
  BlockCounts free() const {
    return {static_cast<int64_t>(latent_.free.size()), static_cast<int64_t>(exact_.free.size())};
  }

  // Blocks that Grow would take.
  BlockCounts Missing(const BlockTable& table, int64_t first, int64_t end) const;
  bool CanGrow(const BlockTable& table, int64_t first, int64_t end) const;

  // Gives the table what a step over positions [first, end) needs; requires CanGrow, and that
  // [0, first) is what the table was last trimmed to.
  void Grow(BlockTable& table, int64_t first, int64_t end);

  // Takes back the exact blocks that no position from `computed` on reads exactly.
  void Trim(BlockTable& table, int64_t computed);

  void Release(BlockTable& table);

 private:
  struct Pool {
    std::vector<BlockId> free;
    std::vector<uint8_t> is_held;  // [pool size], to catch a block given back twice

    explicit Pool(int64_t size);
    BlockId Take();
    void Return(BlockId& id);
  };

  const KvGeometry geometry_;
  Pool latent_;
  Pool exact_;
};

}  // namespace lorc
