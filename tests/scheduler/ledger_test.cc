#include "scheduler/ledger.h"

#include "gtest/gtest.h"
#include "tests/scheduler/harness.h"

namespace lorc {
namespace {

TEST(LedgerTest, PromiseBecomesWrittenAndGoesBackWhole) {
  Ledger ledger(SmallGeometry(10), 0);
  EXPECT_EQ(ledger.latent().budget_bytes(), 100);
  Claim claim = ledger.Open({6, 0});
  EXPECT_EQ(ledger.latent().promised_bytes(), 60);
  EXPECT_EQ(ledger.latent().written_bytes(), 0);
  ledger.Move(claim, {4, 0});
  EXPECT_EQ(ledger.latent().promised_bytes(), 20);
  EXPECT_EQ(ledger.latent().written_bytes(), 40);
  EXPECT_TRUE(ledger.Fits({4, 0}));
  EXPECT_FALSE(ledger.Fits({5, 0}));
  ledger.Close(claim);
  EXPECT_EQ(ledger.latent().promised_bytes(), 0);
  EXPECT_EQ(ledger.latent().written_bytes(), 0);
  EXPECT_TRUE(ledger.Fits({10, 0}));
}

TEST(LedgerTest, BothKindsMustFit) {
  Ledger ledger(SmallGeometry(10, 5, 2), 0);
  Claim claim = ledger.Open({1, 4});
  EXPECT_TRUE(ledger.Fits({9, 1}));
  EXPECT_FALSE(ledger.Fits({10, 1}));
  EXPECT_FALSE(ledger.Fits({1, 2}));
  EXPECT_TRUE(ledger.EverFits({10, 5}));
  EXPECT_FALSE(ledger.EverFits({11, 0}));
  EXPECT_FALSE(ledger.EverFits({0, 6}));
  ledger.Close(claim);
  EXPECT_TRUE(ledger.Fits({10, 5}));
}

TEST(LedgerTest, ExtraBlocksOfAChunkComeFromTheHeadroom) {
  Ledger ledger(SmallGeometry(10, 6, 2), 2);
  EXPECT_FALSE(ledger.EverFits({0, 5}));
  Claim one = ledger.Open({0, 2});
  Claim two = ledger.Open({0, 2});
  EXPECT_FALSE(ledger.Fits({0, 1}));
  ledger.Move(one, {0, 4});
  EXPECT_EQ(ledger.exact().blocks_written, 4);
  EXPECT_EQ(ledger.exact().blocks_promised, 2);
  EXPECT_EQ(ledger.exact().written_bytes() + ledger.exact().promised_bytes(),
            ledger.exact().budget_bytes());
  ledger.Close(two);
  // The extra blocks are not admission's business.
  EXPECT_TRUE(ledger.Fits({0, 2}));
  EXPECT_FALSE(ledger.Fits({0, 3}));
  ledger.Move(one, {0, 1});
  EXPECT_EQ(ledger.exact().blocks_promised, 1);
  ledger.Close(one);
  EXPECT_EQ(ledger.exact().blocks_written + ledger.exact().blocks_promised, 0);
}

TEST(LedgerDeathTest, MoreThanTheHeadroomIsABrokenInvariant) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        Ledger ledger(SmallGeometry(10, 6, 2), 1);
        Claim claim = ledger.Open({0, 2});
        ledger.Move(claim, {0, 4});
      },
      "check failed");
}

}  // namespace
}  // namespace lorc
