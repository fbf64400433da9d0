#include "runtime/compress/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace lorc {

// Prints and compares what the tests write by hand.
static bool operator==(const LayerRanks& a, const LayerRanks& b) {
  return a.key == b.key && a.value == b.value && a.left_alone == b.left_alone;
}

static void PrintTo(const LayerRanks& ranks, std::ostream* out) {
  *out << ranks.key << "/" << ranks.value << (ranks.left_alone ? " left alone" : "");
}

namespace {

using testing::ElementsAre;
using testing::IsEmpty;

LayerRanks Both(int32_t rank) { return {rank, rank, false}; }
LayerRanks LeftAlone(int32_t rank) { return {rank, rank, true}; }

int64_t Sum(const std::vector<LayerRanks>& ranks) {
  return std::accumulate(ranks.begin(), ranks.end(), int64_t{0},
                         [](int64_t sum, LayerRanks r) { return sum + r.key + r.value; });
}

ProgressiveOptions MinRank(int32_t full_rank, int32_t min_rank) {
  ProgressiveOptions options;
  options.full_rank = full_rank;
  options.min_rank = min_rank;
  return options;
}

ProgressiveOptions TargetKept(int32_t full_rank, double kept) {
  ProgressiveOptions options;
  options.full_rank = full_rank;
  options.target_kept = kept;
  return options;
}

TEST(CumulativeLogConditionTest, SumsFromTheLayerToTheLast) {
  EXPECT_THAT(CumulativeLogCondition({1, 2, 3}), ElementsAre(6, 5, 3));
  // kappa is 1 at least, its logarithm 0: the sums do not increase.
  EXPECT_THAT(CumulativeLogCondition({0.5, 0, 2}), ElementsAre(2.5, 2, 2));
  EXPECT_THAT(CumulativeLogCondition({7}), ElementsAre(7));
  EXPECT_THAT(CumulativeLogCondition({}), IsEmpty());
}

// c = 6, 5, 3: depths 0, 1/3, 1; rank = 100 (1 - depth (1 - 40/100)).
TEST(ProgressiveRanksTest, Equation13ByHand) {
  EXPECT_THAT(ProgressiveRanks({1, 2, 3}, MinRank(100, 40)),
              ElementsAre(Both(100), Both(80), Both(40)));
  // To the nearest integer: 100 (1 - 1/3 (1 - 41/100)) = 80.33, with 42 it is 80.67.
  EXPECT_THAT(ProgressiveRanks({1, 2, 3}, MinRank(100, 41)),
              ElementsAre(Both(100), Both(80), Both(41)));
  EXPECT_THAT(ProgressiveRanks({1, 2, 3}, MinRank(100, 42)),
              ElementsAre(Both(100), Both(81), Both(42)));
}

TEST(ProgressiveRanksTest, EndsAreTheFullAndTheLeastRank) {
  const std::vector<double> logs = {0.3, 4, 0.01, 2, 7};
  for (const int32_t min_rank : {1, 8, 95, 96}) {
    const auto ranks = ProgressiveRanks(logs, MinRank(96, min_rank));
    EXPECT_EQ(ranks.front(), Both(96));
    EXPECT_EQ(ranks.back(), Both(min_rank));
    for (size_t l = 1; l < ranks.size(); ++l) EXPECT_LE(ranks[l].key, ranks[l - 1].key) << l;
  }
}

TEST(ProgressiveRanksTest, LayersAboveTheThresholdAreLeftAlone) {
  ProgressiveOptions options = MinRank(100, 40);
  options.threshold = 5;  // of c = 6, 5, 3: not above it is not left alone
  EXPECT_THAT(ProgressiveRanks({1, 2, 3}, options),
              ElementsAre(LeftAlone(100), Both(80), Both(40)));
  options.threshold = 4.9;
  EXPECT_THAT(ProgressiveRanks({1, 2, 3}, options),
              ElementsAre(LeftAlone(100), LeftAlone(100), Both(40)));
}

TEST(ProgressiveRanksTest, TargetIsMetWithinOneRankPerLayer) {
  const std::vector<double> logs = {3, 1, 4, 1, 5, 9, 2, 6};
  for (const double kept : {0.6, 0.7, 0.75, 0.9, 0.99}) {
    const auto ranks = ProgressiveRanks(logs, TargetKept(192, kept));
    const double per_tensor =
        static_cast<double>(Sum(ranks)) / static_cast<double>(2 * logs.size());
    EXPECT_NEAR(per_tensor, 192 * kept, 1) << kept;
    EXPECT_EQ(ranks.front(), Both(192));
  }
  // Layers that are left alone count as kept: the others make up for them.
  ProgressiveOptions options = TargetKept(192, 0.8);
  options.threshold = 25;
  const auto ranks = ProgressiveRanks(logs, options);
  EXPECT_TRUE(ranks[1].left_alone);
  EXPECT_EQ(ranks[1].key, 192);
  EXPECT_NEAR(static_cast<double>(Sum(ranks)) / 16, 192 * 0.8, 1);
}

TEST(ProgressiveRanksTest, AllKeptIsFullRank) {
  for (const LayerRanks& ranks : ProgressiveRanks({3, 1, 4}, TargetKept(192, 1)))
    EXPECT_EQ(ranks, Both(192));
}

// The first layers keep theirs whatever the target is: what min_rank 1 keeps is the least.
TEST(ProgressiveRanksTest, AnUnreachableTargetGivesTheLeast) {
  EXPECT_THAT(ProgressiveRanks({1, 2, 3}, TargetKept(90, 0.1)),
              ElementsAre(Both(90), Both(60), Both(1)));
}

// Equation 13 is 0/0: one layer, or nothing but condition numbers of 1.
TEST(ProgressiveRanksTest, EqualConditionsShareTheTarget) {
  EXPECT_THAT(ProgressiveRanks({5}, TargetKept(100, 0.4)), ElementsAre(Both(40)));
  EXPECT_THAT(ProgressiveRanks({0, 0, 0}, TargetKept(100, 0.4)),
              ElementsAre(Both(40), Both(40), Both(40)));
  EXPECT_THAT(ProgressiveRanks({5}, MinRank(100, 40)), ElementsAre(Both(100)));
}

TEST(UniformRanksTest, TheSameEverywhere) {
  EXPECT_THAT(UniformRanks(2, 192, 0.75), ElementsAre(Both(144), Both(144)));
  EXPECT_THAT(UniformRanks(1, 10, 0.34), ElementsAre(Both(3)));
  EXPECT_THAT(UniformRanks(1, 192, 1), ElementsAre(Both(192)));
  EXPECT_THAT(UniformRanks(0, 192, 1), IsEmpty());
}

// Shares of energy by column: K0 80 10 5 5, V0 40 30 20 10, K1 97 1 1 1, V1 25 25 25 25 %.
const std::vector<std::vector<double>> kKeys = {{16, 2, 1, 1}, {97, 1, 1, 1}};
const std::vector<std::vector<double>> kValues = {{4, 3, 2, 1}, {0.5, 0.5, 0.5, 0.5}};

TEST(EnergyRanksTest, TakesTheLargestSharesFirst) {
  // 8 of 16 columns: one each, then V0's 30, then V1's three of 25.
  EXPECT_THAT(EnergyRanks(kKeys, kValues, 0.5, 1),
              ElementsAre(LayerRanks{1, 2, false}, LayerRanks{1, 4, false}));
  // 12: then V0's 20 and 10 and K0's 10; of the 5s K0's first.
  EXPECT_THAT(EnergyRanks(kKeys, kValues, 0.75, 1),
              ElementsAre(LayerRanks{3, 4, false}, LayerRanks{1, 4, false}));
  EXPECT_THAT(EnergyRanks(kKeys, kValues, 1, 1), ElementsAre(Both(4), Both(4)));
}

TEST(EnergyRanksTest, TakesWholeUnits) {
  // 11 columns are 5 units of two: one each, then V1's second half (50 % against V0's 30).
  EXPECT_THAT(EnergyRanks(kKeys, kValues, 0.7, 2),
              ElementsAre(LayerRanks{2, 2, false}, LayerRanks{2, 4, false}));
  // A width that is no multiple: the last unit is what is left.
  EXPECT_THAT(EnergyRanks({{3, 2, 1}}, {{1, 1, 1}}, 1, 2), ElementsAre(Both(3)));
}

TEST(EnergyRanksTest, EachTensorGetsAUnitAtLeast) {
  EXPECT_THAT(EnergyRanks(kKeys, kValues, 0.01, 2), ElementsAre(Both(2), Both(2)));
  // Also one without any energy.
  EXPECT_THAT(EnergyRanks({{0, 0}}, {{1, 1}}, 0.75, 1), ElementsAre(LayerRanks{1, 2, false}));
}

TEST(EnergyRanksTest, KeepsTheShareUpToAUnit) {
  std::vector<std::vector<double>> keys(5), values(5);
  for (int l = 0; l < 5; ++l) {
    for (int i = 0; i < 64; ++i) {
      keys[l].push_back(1.0 / (1 + i * (l + 1)));
      values[l].push_back(1.0 / (10 + i * (5 - l)));
    }
  }
  for (const double kept : {0.2, 0.5, 0.75, 0.93}) {
    const int64_t sum = Sum(EnergyRanks(keys, values, kept, 8));
    EXPECT_LE(sum, 640 * kept) << kept;
    EXPECT_GT(sum, 640 * kept - 8) << kept;
  }
}

TEST(RoundRankTest, ToTheNearestMultipleThatRuns) {
  EXPECT_EQ(RoundRank(144, 192), 144);
  EXPECT_EQ(RoundRank(147, 192), 144);
  EXPECT_EQ(RoundRank(148, 192), 152);
  EXPECT_EQ(RoundRank(0, 192), 8);
  EXPECT_EQ(RoundRank(1, 192), 8);
  EXPECT_EQ(RoundRank(192, 192), 192);
  EXPECT_EQ(RoundRank(500, 192), 192);
  EXPECT_EQ(RoundRank(3, 8), 8);
}

}  // namespace
}  // namespace lorc
