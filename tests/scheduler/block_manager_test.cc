#include "scheduler/block_manager.h"

#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "tests/scheduler/harness.h"

namespace lorc {
namespace {

std::set<int64_t> HeldIndices(std::span<const BlockId> table) {
  std::set<int64_t> indices;
  for (size_t j = 0; j < table.size(); ++j) {
    if (table[j] != kNoBlock) indices.insert(static_cast<int64_t>(j));
  }
  return indices;
}

TEST(GeometryTest, HeadroomIsWhatAChunkNeedsBeyondTheSteadyCount) {
  for (const int32_t window : {0, 1, 2, 5}) {
    for (const int32_t prefix : {0, 1, 3}) {
      const KvGeometry geometry = SmallGeometry(100, 100, window, prefix);
      for (int64_t count = 1; count <= 40; ++count) {
        int64_t most = 0;
        for (int64_t first = 0; first < 100; ++first) {
          most = std::max(most, geometry.ExactBlocksDuring(first, first + count) -
                                    geometry.ExactBlocksSteady(1000));
        }
        EXPECT_EQ(most, geometry.ExactHeadroom(count)) << window << " " << prefix << " " << count;
      }
    }
  }
}

TEST(BlockManagerTest, HoldsWhatTheStepContractAsksFor) {
  for (const int32_t window : {0, 1, 2, 5}) {
    for (const int32_t prefix : {0, 1, 3}) {
      for (const int32_t chunk : {1, 3, 4, 5, 17}) {
        SCOPED_TRACE(testing::Message() << window << " " << prefix << " " << chunk);
        const KvGeometry geometry = SmallGeometry(40, 40, window, prefix);
        BlockManager manager(geometry);
        BlockTable table(geometry, 30);
        for (int64_t first = 0; first + chunk <= 100; first += chunk) {
          const int64_t end = first + chunk;
          manager.Grow(table, first, end);
          const BlockRange held_window = geometry.WindowDuring(first, end);
          std::set<int64_t> exact;
          for (int64_t j = 0; j < std::min<int64_t>(prefix, geometry.Blocks(end)); ++j) {
            exact.insert(j);
          }
          for (int64_t j = held_window.first; j < held_window.end; ++j) exact.insert(j);
          std::set<int64_t> latent;
          for (int64_t j = 0; j < geometry.LatentBlocks(end); ++j) latent.insert(prefix + j);
          EXPECT_EQ(HeldIndices(table.exact()), exact);
          EXPECT_EQ(HeldIndices(table.latent()), latent);
          EXPECT_EQ(manager.free().exact + table.held().exact, 40);
          EXPECT_EQ(manager.free().latent + table.held().latent, 40);
          manager.Trim(table, end);
          EXPECT_EQ(table.held().latent * 10 + table.held().exact * 100, geometry.BytesHeld(end));
        }
        manager.Release(table);
        EXPECT_EQ(manager.free(), manager.total());
        EXPECT_EQ(table.held(), BlockCounts{});
      }
    }
  }
}

TEST(BlockManagerTest, AsksBeforeItTakes) {
  const KvGeometry geometry = SmallGeometry(2);
  BlockManager manager(geometry);
  BlockTable one(geometry, 10);
  BlockTable two(geometry, 10);
  manager.Grow(one, 0, 5);
  EXPECT_EQ(manager.Missing(one, 5, 8), BlockCounts{});
  EXPECT_TRUE(manager.CanGrow(one, 5, 8));
  EXPECT_EQ(manager.Missing(two, 0, 1), (BlockCounts{1, 0}));
  EXPECT_FALSE(manager.CanGrow(two, 0, 1));
  manager.Release(one);
  EXPECT_TRUE(manager.CanGrow(two, 0, 8));
  EXPECT_FALSE(manager.CanGrow(two, 0, 9));
}

TEST(BlockManagerTest, GivesTheSameIdsForTheSameCalls) {
  const KvGeometry geometry = SmallGeometry(8);
  BlockManager manager(geometry);
  BlockTable one(geometry, 8);
  BlockTable two(geometry, 8);
  manager.Grow(one, 0, 8);
  manager.Grow(two, 0, 8);
  EXPECT_EQ(std::vector<BlockId>(one.latent().begin(), one.latent().begin() + 2),
            (std::vector<BlockId>{0, 1}));
  const std::vector<BlockId> before(two.latent().begin(), two.latent().end());
  manager.Release(two);
  manager.Grow(two, 0, 8);
  EXPECT_EQ(std::vector<BlockId>(two.latent().begin(), two.latent().end()), before);
}

}  // namespace
}  // namespace lorc
