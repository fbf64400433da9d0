#include "scheduler/block_manager.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace lorc {

BlockTable::BlockTable(const KvGeometry& geometry, int64_t max_blocks)
    : latent_(max_blocks, kNoBlock),
      exact_(max_blocks, kNoBlock),
      latent_held_{geometry.prefix_blocks, geometry.prefix_blocks},
      window_held_{geometry.prefix_blocks, geometry.prefix_blocks} {}

BlockManager::Pool::Pool(int64_t size) : is_held(size, 0) {
  free.reserve(size);
  for (int64_t id = size - 1; id >= 0; --id) free.push_back(static_cast<BlockId>(id));
}

BlockId BlockManager::Pool::Take() {
  LORC_CHECK(!free.empty());
  const BlockId id = free.back();
  free.pop_back();
  is_held[id] = 1;
  return id;
}

void BlockManager::Pool::Return(BlockId& id) {
  LORC_CHECK(id >= 0 && id < static_cast<BlockId>(is_held.size()) && is_held[id]);
  is_held[id] = 0;
  free.push_back(id);
  id = kNoBlock;
}

BlockManager::BlockManager(const KvGeometry& geometry)
    : geometry_(geometry), latent_(geometry.num_latent_blocks), exact_(geometry.num_exact_blocks) {}

BlockCounts BlockManager::Missing(const BlockTable& table, int64_t first, int64_t end) const {
  const int64_t latent_end = geometry_.prefix_blocks + geometry_.LatentBlocks(end);
  const int64_t prefix_end = std::min<int64_t>(geometry_.prefix_blocks, geometry_.Blocks(end));
  const BlockRange window = geometry_.WindowDuring(first, end);
  return {std::max<int64_t>(0, latent_end - table.latent_held_.end),
          std::max<int64_t>(0, prefix_end - table.prefix_end_) +
              std::max<int64_t>(0, window.end - table.window_held_.end)};
}

bool BlockManager::CanGrow(const BlockTable& table, int64_t first, int64_t end) const {
  const BlockCounts missing = Missing(table, first, end);
  return missing.latent <= free().latent && missing.exact <= free().exact &&
         geometry_.Blocks(end) <= static_cast<int64_t>(table.exact_.size());
}

void BlockManager::Grow(BlockTable& table, int64_t first, int64_t end) {
  LORC_CHECK(CanGrow(table, first, end));
  const BlockRange window = geometry_.WindowDuring(first, end);
  LORC_CHECK_EQ(window.first, table.window_held_.first);

  const int64_t latent_end = geometry_.prefix_blocks + geometry_.LatentBlocks(end);
  for (int64_t& j = table.latent_held_.end; j < latent_end; ++j) table.latent_[j] = latent_.Take();
  const int64_t prefix_end = std::min<int64_t>(geometry_.prefix_blocks, geometry_.Blocks(end));
  for (int64_t& j = table.prefix_end_; j < prefix_end; ++j) table.exact_[j] = exact_.Take();
  for (int64_t& j = table.window_held_.end; j < window.end; ++j) table.exact_[j] = exact_.Take();
}

void BlockManager::Trim(BlockTable& table, int64_t computed) {
  if (geometry_.window_blocks == 0) return;
  const int64_t first = geometry_.FirstWindowBlock(computed);
  BlockRange& held = table.window_held_;
  for (; held.first < std::min(first, held.end); ++held.first) {
    exact_.Return(table.exact_[held.first]);
  }
  // A window of one block holds nothing between two blocks: the range is empty but moves on.
  held.first = std::max(held.first, first);
  held.end = std::max(held.end, held.first);
}

void BlockManager::Release(BlockTable& table) {
  // Highest index first, so that the next sequence gets them in ascending order.
  for (int64_t j = table.latent_held_.end - 1; j >= table.latent_held_.first; --j) {
    latent_.Return(table.latent_[j]);
  }
  for (int64_t j = table.window_held_.end - 1; j >= table.window_held_.first; --j) {
    exact_.Return(table.exact_[j]);
  }
  for (int64_t j = table.prefix_end_ - 1; j >= 0; --j) exact_.Return(table.exact_[j]);
  table.latent_held_.end = table.latent_held_.first;
  table.window_held_.end = table.window_held_.first;
  table.prefix_end_ = 0;
}

}  // namespace lorc
