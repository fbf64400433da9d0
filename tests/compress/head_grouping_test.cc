#include "runtime/compress/head_grouping.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace lorc {
namespace {

constexpr int32_t kHeads = 6;
constexpr int32_t kDim = 4;

// Heads h and h + 3 give the same vectors up to size, other heads none in common.
std::vector<double> PairedMoment() {
  constexpr int64_t n = kHeads * kDim;
  std::vector<double> moment(n * n, 0.0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) {
      const int64_t a = i / kDim, b = j / kDim;
      if (a % 3 != b % 3 || i % kDim != j % kDim) continue;
      moment[i * n + j] = (1.0 + static_cast<double>(a)) * (1.0 + static_cast<double>(b)) *
                          static_cast<double>(1 + i % kDim);
    }
  }
  return moment;
}

TEST(HeadSimilarityTest, IsOneForTheSameVectorsOfAnySize) {
  const auto similarity = HeadSimilarity(PairedMoment(), kHeads, kDim);
  for (int32_t a = 0; a < kHeads; ++a) {
    for (int32_t b = 0; b < kHeads; ++b) {
      EXPECT_NEAR(similarity[a * kHeads + b], a % 3 == b % 3 ? 1.0 : 0.0, 1e-12) << a << b;
    }
  }
}

TEST(SimilarHeadsTogetherTest, PutsPairsIntoGroups) {
  const auto order = SimilarHeadsTogether(HeadSimilarity(PairedMoment(), kHeads, kDim), 3);
  ASSERT_EQ(order.size(), kHeads);
  EXPECT_EQ(std::set<int32_t>(order.begin(), order.end()).size(), kHeads);
  for (size_t i = 0; i < order.size(); i += 2) EXPECT_EQ(order[i] % 3, order[i + 1] % 3) << i;
}

TEST(SimilarHeadsTogetherTest, AnyNumberOfGroupsGivesAPermutation) {
  std::vector<double> similarity(64);
  for (int32_t a = 0; a < 8; ++a) {
    for (int32_t b = 0; b < 8; ++b) similarity[a * 8 + b] = a == b ? 1.0 : 1.0 / (1 + a * b % 7);
  }
  for (const int32_t groups : {1, 2, 4, 8}) {
    const auto order = SimilarHeadsTogether(similarity, groups);
    EXPECT_EQ(std::set<int32_t>(order.begin(), order.end()).size(), 8) << groups;
  }
}

}  // namespace
}  // namespace lorc
