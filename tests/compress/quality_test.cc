#include "runtime/compress/quality.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/compress/tiny_fixture.h"

namespace lorc {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::SizeIs;

// Differences of the windows 0.1, 0.2, 0.3: mean 0.2, s = 0.1, t(2) = 4.302653.
TEST(Compare, PerplexityIsPairedOverWindows) {
  Quality full, plan;
  full.evaluation.window_nll = {2.0, 3.0, 2.5};
  plan.evaluation.window_nll = {2.1, 3.2, 2.8};
  full.evaluation.passage_nll = {0.1, 0.3};
  plan.evaluation.passage_nll = {0.2, 0.3};
  full.evaluation.position_nll = {1, 2};
  plan.evaluation.position_nll = {1.5, 1.75};
  const QualityChange change = Compare(full, plan);
  const double half = 4.302652730 * 0.1 / std::sqrt(3.0);
  EXPECT_NEAR(change.perplexity.value, std::exp(0.2) - 1, 1e-12);
  EXPECT_NEAR(change.perplexity.interval->low, std::exp(0.2 - half) - 1, 1e-8);
  EXPECT_NEAR(change.perplexity.interval->high, std::exp(0.2 + half) - 1, 1e-8);
  ASSERT_TRUE(change.recall.has_value());
  EXPECT_NEAR(change.recall->value, 0.05, 1e-12);
  EXPECT_NEAR(change.recall->interval->high, 0.05 + 12.7062047 * 0.05, 1e-6);
  EXPECT_EQ(change.position_nll, (std::vector<double>{0.5, -0.25}));
  EXPECT_FALSE(change.accuracy.has_value());
  EXPECT_THAT(change.distances, SizeIs(0));
}

TEST(Compare, AccuracyCountsWhatIsGainedAndLost) {
  Quality full, plan;
  full.evaluation.window_nll = plan.evaluation.window_nll = {1.0};
  full.choices = ChoiceScores{{}, {0, 0, 0, 0}, {1, 1, 1, 1}, {0, 1, 2, 0}};
  plan.choices = ChoiceScores{{}, {0, 1, 2, 1}, {1, 1, 1, 1}, {0, 1, 2, 0}};
  const QualityChange change = Compare(full, plan);
  EXPECT_EQ(change.accuracy->value, 0.25);  // two gained, one lost
  EXPECT_EQ(change.accuracy->interval, ShareDifference(2, 1, 4).interval);
  EXPECT_EQ(change.normalised_accuracy->value, 0);
  EXPECT_EQ(change.same_pick->value, 0.25);
  EXPECT_EQ(AccuracyOf(*full.choices).accuracy.value, 0.5);
  EXPECT_EQ(AccuracyOf(*plan.choices).accuracy.value, 0.75);
  EXPECT_EQ(AccuracyOf(*plan.choices).normalised.value, 0.25);
  EXPECT_FALSE(change.perplexity.interval.has_value());
}

TEST(QualityMeter, MeasuresTheSameModelTwice) {
  const test::TinyFixture fixture;
  QualityOptions options;
  options.evaluation = {.window = 64, .max_windows = 3};
  options.recall_distances = {50, 200};
  options.questions = *EncodeChoices({{"", "the", {" hello", " world"}, 1}}, *fixture.tokenizer,
                                     fixture.config().context_length);
  options.agreement_tokens = 12;
  auto meter = QualityMeter::Make(*fixture.backend, *fixture.checkpoint, DType::kF32,
                                  test::TinyTokens(500, 5), options);
  ASSERT_TRUE(meter.ok()) << meter.status();
  const auto full = meter->MeasureUncompressed(nullptr);
  ASSERT_TRUE(full.ok()) << full.status();
  const auto again = meter->Measure(KvPlan::Full(fixture.config(), SegmentType::kF32), nullptr);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(full->evaluation.window_nll, again->evaluation.window_nll);
  EXPECT_EQ(full->evaluation.num_windows, 3);
  EXPECT_EQ(full->agreement->same_choice, (std::vector<int32_t>{12, 12, 12}));
  EXPECT_EQ(again->agreement->same_choice, full->agreement->same_choice);
  EXPECT_EQ(full->choices->scores, again->choices->scores);
  ASSERT_THAT(full->distances, SizeIs(2));
  EXPECT_THAT(full->distances[0].passage_nll, SizeIs(2));  // 500 / 200
  const QualityChange change = Compare(*full, *again);
  EXPECT_EQ(change.perplexity.value, 0);
  EXPECT_EQ(change.perplexity.interval, (Interval{0, 0}));
  EXPECT_EQ(change.distances[1].value, 0);
  EXPECT_EQ(change.same_pick->value, 1);
  EXPECT_THAT(change.position_nll, Each(0.0));
}

TEST(QualityMeter, RefusesWhatDoesNotFit) {
  const test::TinyFixture fixture;
  const auto status = [&](const QualityOptions& options) {
    return QualityMeter::Make(*fixture.backend, *fixture.checkpoint, DType::kF32,
                              test::TinyTokens(500, 5), options)
        .status()
        .ToString();
  };
  QualityOptions options;
  options.evaluation.window = 513;
  EXPECT_THAT(status(options), HasSubstr("--window: expected 2 to 512 tokens"));
  options.evaluation.window = 64;
  EXPECT_EQ(status(options), "OK");
  options.recall_distances = {493};
  EXPECT_THAT(status(options), HasSubstr("--recall-distances: expected 20 to 492 tokens"));
  options.recall_distances = {};
  options.agreement_tokens = 481;
  EXPECT_THAT(status(options), HasSubstr("--agreement: expected 0 to 480 tokens"));
}

}  // namespace
}  // namespace lorc
