#include "runtime/compress/recall.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "runtime/compress/evaluate.h"
#include "tests/compress/tiny_fixture.h"

namespace lorc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// Token i is i, so that a sequence says where its parts are from.
std::vector<TokenId> Counting(int32_t count) {
  std::vector<TokenId> tokens(count);
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

std::vector<TokenId> Joined(std::initializer_list<std::pair<int32_t, int32_t>> ranges) {
  std::vector<TokenId> tokens;
  for (const auto& [begin, end] : ranges) {
    for (int32_t i = begin; i < end; ++i) tokens.push_back(i);
  }
  return tokens;
}

TEST(Recall, SequencesOfAWindowAreTheLaboratorys) {
  const auto sequences = RecallSequences(Counting(17 * 1024 + 5), 1024);
  ASSERT_THAT(sequences, SizeIs(8));
  for (int32_t i = 0; i < 8; ++i) {
    const int32_t other = (i + 5) % 16 * 1024;
    EXPECT_EQ(sequences[i], Joined({{i * 1024, i * 1024 + 320},
                                    {other + 320, other + 704},
                                    {i * 1024, i * 1024 + 320}}));
  }
}

TEST(Recall, SequencesOfAShortTextAndWindow) {
  const auto sequences = RecallSequences(Counting(3 * 64), 64);
  EXPECT_THAT(sequences, ElementsAre(Joined({{0, 20}, {128 + 20, 128 + 44}, {0, 20}})));
  EXPECT_THAT(RecallSequences(Counting(127), 64), IsEmpty());
  EXPECT_THAT(RecallSequences(Counting(64), 3), IsEmpty());  // no token would be said twice
}

TEST(Recall, SequencesOfADistance) {
  DistanceOptions options;
  options.distances = {3776, 700};
  EXPECT_EQ(options.passage(), 320);
  EXPECT_EQ(options.longest_tokens(), 4096);
  const auto tokens = Counting(3 * 3776);
  EXPECT_EQ(DistanceSequences(tokens, options, 3776)[0], Joined({{0, 3776}, {0, 320}}));
  // The same passages at all distances.
  const auto near = DistanceSequences(tokens, options, 700);
  ASSERT_THAT(near, SizeIs(3));
  for (int32_t i = 0; i < 3; ++i) {
    const int32_t first = i * 3776;
    EXPECT_EQ(near[i], Joined({{first, first + 700}, {first, first + 320}}));
  }
  EXPECT_THAT(DistanceSequences(Counting(20 * 3776), options, 700), SizeIs(8));
}

TEST(Recall, PassagesOfADistanceShrinkButDoNotGrow) {
  EXPECT_EQ((DistanceOptions{.distances = {}, .window = 64}).passage(), 20);
  EXPECT_EQ((DistanceOptions{.distances = {}, .window = 4096}).passage(), 320);
  EXPECT_EQ((DistanceOptions{.distances = {}, .window = 2}).passage(), 1);
}

TEST(Recall, RefusesDistancesThatDoNotFit) {
  const auto check = [](int32_t distance, int64_t text, int32_t context) {
    return CheckDistances({.distances = {400, distance}, .window = 1024}, text, context);
  };
  EXPECT_TRUE(check(320, 9000, 8192).ok());
  EXPECT_TRUE(check(8192 - 320, 9000, 8192).ok());
  EXPECT_THAT(check(319, 9000, 8192).ToString(), HasSubstr("expected 320 to 7872 tokens"));
  EXPECT_THAT(check(7873, 9000, 8192).ToString(), HasSubstr("got 7873"));
  EXPECT_TRUE(check(5000, 5000, 8192).ok());
  EXPECT_THAT(check(5001, 5000, 8192).ToString(), HasSubstr("expected 320 to 5000 tokens"));
  EXPECT_THAT(check(400, 300, 8192).ToString(), HasSubstr("none fits"));
  EXPECT_THAT(check(400, 5000, 639).ToString(), HasSubstr("none fits"));
}

// Mean of -ln p over the last 320 - 21 tokens, from the log-probabilities one by one.
TEST(Recall, IsTheMeanOfTheSecondCopyWithoutItsBeginning) {
  const test::TinyFixture fixture;
  const auto executor = fixture.MakeExecutor(64);
  DistanceOptions options;
  options.window = 128;  // passages of 40
  options.distances = {150};
  const auto tokens = test::TinyTokens(2 * 150, 7);
  const auto measured = MeasureDistances(*executor, tokens, options, nullptr);
  ASSERT_TRUE(measured.ok()) << measured.status();
  ASSERT_THAT(*measured, SizeIs(1));
  ASSERT_THAT((*measured)[0].passage_nll, SizeIs(2));
  double mean = 0;
  for (int i = 0; i < 2; ++i) {
    std::vector<TokenId> sequence(tokens.begin() + i * 150, tokens.begin() + (i + 1) * 150);
    sequence.insert(sequence.end(), tokens.begin() + i * 150, tokens.begin() + i * 150 + 40);
    const auto logprobs = ScoreSequence(*executor, sequence);
    ASSERT_TRUE(logprobs.ok()) << logprobs.status();
    double sum = 0;
    for (int t = 150 + 21; t < 190; ++t) sum -= (*logprobs)[t - 1];
    EXPECT_NEAR((*measured)[0].passage_nll[i], sum / 19, 1e-12);
    mean += sum / 19 / 2;
  }
  EXPECT_NEAR((*measured)[0].nll, mean, 1e-12);
  EXPECT_EQ((*measured)[0].distance, 150);
}

TEST(Recall, OfAnEvaluationIsTheMeanOfItsPassages) {
  const test::TinyFixture fixture;
  const auto executor = fixture.MakeExecutor(64);
  const auto tokens = test::TinyTokens(5 * 128, 3);
  const auto evaluation = Evaluate(*executor, tokens, {.window = 128}, nullptr);
  ASSERT_TRUE(evaluation.ok()) << evaluation.status();
  ASSERT_THAT(evaluation->passage_nll, SizeIs(2));
  EXPECT_EQ(evaluation->num_recall_passages, 2);
  EXPECT_NEAR(evaluation->recall, (evaluation->passage_nll[0] + evaluation->passage_nll[1]) / 2,
              1e-12);
  const auto sequences = RecallSequences(tokens, 128);
  const auto first = CopyNll(*executor, sequences[0], 40);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(evaluation->passage_nll[0], *first);
}

}  // namespace
}  // namespace lorc
