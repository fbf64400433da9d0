#include "runtime/compress/plan_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace lorc {
namespace {

// A model whose loss is `scale` times what is predicted, and the bytes that were measured.
struct FakeModel {
  double scale = 1;
  double recall_scale = 10;
  std::vector<int64_t> measured = {};

  static double Predicted(int64_t bytes) { return std::exp(-static_cast<double>(bytes) / 500); }
  MeasuredCost Cost(int64_t bytes) const {
    return {scale * Predicted(bytes), recall_scale * Predicted(bytes)};
  }
  PlanSearch Search() {
    PlanSearch search;
    search.least_bytes = 100;
    search.most_bytes = 20000;
    search.predict = [](int64_t bytes) { return Predicted(bytes); };
    search.measure = [this](int64_t bytes) {
      measured.push_back(bytes);
      return Cost(bytes);
    };
    return search;
  }
};

class SmallestBytesTest : public testing::TestWithParam<double> {};

TEST_P(SmallestBytesTest, FindsTheSmallestOfAnyScale) {
  FakeModel model{.scale = GetParam()};
  const QualityLimit limit{.max_perplexity_increase = 0.01, .max_recall_increase = {}};
  const auto bytes = SmallestBytes(model.Search(), limit);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_LE(model.Cost(*bytes).loss, std::log1p(0.01));
  // 5 % fewer would not keep the limit, unless there are none.
  if (*bytes > 110) {
    EXPECT_GT(model.Cost(static_cast<int64_t>(0.95 * static_cast<double>(*bytes))).loss,
              std::log1p(0.01));
  }
  EXPECT_THAT(model.measured, testing::Contains(*bytes));
  EXPECT_LE(model.measured.size(), 7);
}

INSTANTIATE_TEST_SUITE_P(Scales, SmallestBytesTest, testing::Values(1e-6, 0.01, 0.3, 1, 4, 50));

TEST(SmallestBytesTest, RecallMayBeWhatLimits) {
  FakeModel model{.scale = 0.01, .recall_scale = 3};
  const QualityLimit limit{.max_perplexity_increase = 0.01, .max_recall_increase = 0.03};
  const auto bytes = SmallestBytes(model.Search(), limit);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_LE(model.Cost(*bytes).recall, 0.03);
  EXPECT_GT(model.Cost(static_cast<int64_t>(0.95 * static_cast<double>(*bytes))).recall, 0.03);
}

TEST(SmallestBytesTest, SaysWhatTheLargestCosts) {
  FakeModel model;
  PlanSearch search = model.Search();
  search.measure = [](int64_t) { return MeasuredCost{0.5, 0.1}; };
  const auto bytes = SmallestBytes(search, QualityLimit());
  EXPECT_EQ(bytes.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(bytes.status().message(), testing::HasSubstr("20000 bytes"));
  EXPECT_THAT(bytes.status().message(), testing::HasSubstr("+64.87 %"));
}

TEST(SmallestBytesTest, NoisyGainsAreFine) {
  FakeModel model;
  PlanSearch search = model.Search();
  search.measure = [](int64_t) { return MeasuredCost{-0.001, -0.01}; };
  const auto bytes = SmallestBytes(search, QualityLimit());
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_LE(*bytes, 250);
}

}  // namespace
}  // namespace lorc
