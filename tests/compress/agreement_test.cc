#include "runtime/compress/agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/compress/score_sequence.h"
#include "runtime/model/local_sequences.h"
#include "tests/compress/tiny_fixture.h"

namespace lorc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

constexpr int32_t kGenerated = 24;

struct Answer {
  std::vector<TokenId> tokens;  // prompt, then generated
  std::vector<float> logprobs;  // of the generated ones
};

// The prompt in one step, then a step per token, as a server does it.
Answer Generate(ModelExecutor& executor, const std::vector<TokenId>& prompt) {
  SamplingParams greedy;
  greedy.num_logprobs = 0;
  LocalSequences sequences(executor.kv_geometry());
  const int sequence = sequences.Add();
  Answer answer = {prompt, {}};
  const auto prompt_size = static_cast<int32_t>(prompt.size());
  for (int32_t first = 0; std::ssize(answer.logprobs) < kGenerated;) {
    const auto count = static_cast<int32_t>(answer.tokens.size()) - first;
    const auto work =
        sequences.Prepare(sequence, answer.tokens, prompt_size, first, count, &greedy);
    EXPECT_TRUE(work.ok()) << work.status();
    StepResult result;
    EXPECT_TRUE(executor.Execute({&*work, 1}, {&result, 1}).ok());
    first += count;
    sequences.Finish(sequence, first);
    answer.tokens.push_back(result.token);
    answer.logprobs.push_back(result.chosen.logprob);
  }
  return answer;
}

std::vector<std::vector<TokenId>> Prompts() {
  return {test::TinyTokens(40, 1), test::TinyTokens(97, 2), test::TinyTokens(1, 3)};
}

// Half the numbers of keys and values, exact 16 + 16: a model that differs, but not wildly.
KvPlan HalfPlan(const ModelConfig& config) {
  TensorPlan tensor;
  tensor.layout = KvLayoutKind::kDirect;
  tensor.groups = 1;
  tensor.rank = config.kv_width() / 2;
  tensor.segments = {{SegmentType::kF32, tensor.rank}};
  tensor.encoder.resize(static_cast<size_t>(tensor.rank) * config.kv_width());
  for (int32_t i = 0; i < tensor.rank; ++i) tensor.encoder[i * config.kv_width() + i] = 1;
  KvPlan plan;
  plan.name = "half";
  plan.method = "lorc";
  plan.exact_prefix = 16;
  plan.exact_window = 16;
  plan.anchor = 128;
  plan.layers.assign(config.num_layers, {tensor, tensor});
  return plan;
}

class AgreementTest : public testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<ModelExecutor> Open(int32_t max_step_tokens) const {
    if (!GetParam()) return fixture_.MakeExecutor(max_step_tokens);
    OfflineOptions offline;
    offline.weight_type = DType::kF32;
    offline.max_sequence_tokens = fixture_.config().context_length;
    offline.max_step_tokens = max_step_tokens;
    auto executor = MakeOfflineModel(*fixture_.backend, *fixture_.checkpoint,
                                     HalfPlan(fixture_.config()), offline, nullptr);
    EXPECT_TRUE(executor.ok()) << executor.status();
    return *std::move(executor);
  }

  const test::TinyFixture fixture_;
};

INSTANTIATE_TEST_SUITE_P(Caches, AgreementTest, testing::Bool(), [](const auto& test) {
  return std::string(test.param ? "half" : "full");
});

// The claim behind "eval and a server agree": bit for bit, in whatever chunks.
TEST_P(AgreementTest, ScoresOfAnAnswerAreThoseOfItsGeneration) {
  const auto executor = Open(128);
  const auto in_chunks = Open(7);
  for (const auto& prompt : Prompts()) {
    const Answer answer = Generate(*executor, prompt);
    for (ModelExecutor* scorer : {executor.get(), in_chunks.get()}) {
      const auto scores =
          ScoreSequence(*scorer, answer.tokens, static_cast<int32_t>(prompt.size()));
      ASSERT_TRUE(scores.ok()) << scores.status();
      ASSERT_EQ(scores->size(), answer.tokens.size() - 1);
      EXPECT_EQ(std::vector(scores->end() - kGenerated, scores->end()), answer.logprobs);
    }
  }
}

TEST_P(AgreementTest, AModelAgreesWithItself) {
  const auto executor = Open(128);
  const auto continuations = ContinueGreedily(*executor, Prompts(), kGenerated, nullptr);
  ASSERT_TRUE(continuations.ok()) << continuations.status();
  for (size_t i = 0; i < continuations->size(); ++i) {
    EXPECT_EQ((*continuations)[i].tokens, Generate(*executor, Prompts()[i]).tokens);
    EXPECT_EQ((*continuations)[i].num_prompt_tokens, std::ssize(Prompts()[i]));
  }
  const auto agreement = MeasureAgreement(*Open(7), *continuations, nullptr);
  ASSERT_TRUE(agreement.ok()) << agreement.status();
  EXPECT_EQ(agreement->num_tokens, kGenerated);
  EXPECT_NEAR(agreement->identical, 1, 1e-12);
  EXPECT_NEAR(agreement->same_choice_share, 1, 1e-12);
  EXPECT_NEAR(agreement->mean_common_prefix, kGenerated, 1e-9);
}

// Against generating freely, token by token.
TEST(Agreement, CommonPrefixIsThatOfTwoContinuations) {
  const test::TinyFixture fixture;
  const auto full = fixture.MakeExecutor(128);
  OfflineOptions offline;
  offline.weight_type = DType::kF32;
  offline.max_sequence_tokens = fixture.config().context_length;
  const auto half = MakeOfflineModel(*fixture.backend, *fixture.checkpoint,
                                     HalfPlan(fixture.config()), offline, nullptr);
  ASSERT_TRUE(half.ok()) << half.status();
  std::vector<std::vector<TokenId>> prompts;
  for (uint32_t seed = 0; seed < 8; ++seed) prompts.push_back(test::TinyTokens(60, seed));
  const auto continuations = ContinueGreedily(*full, prompts, kGenerated, nullptr);
  ASSERT_TRUE(continuations.ok()) << continuations.status();
  const auto agreement = MeasureAgreement(**half, *continuations, nullptr);
  ASSERT_TRUE(agreement.ok()) << agreement.status();
  int identical = 0;
  double prefixes = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const Answer free = Generate(**half, prompts[i]);
    int32_t prefix = 0;
    while (prefix < kGenerated &&
           free.tokens[60 + prefix] == (*continuations)[i].tokens[60 + prefix]) {
      ++prefix;
    }
    EXPECT_EQ(agreement->common_prefix[i], prefix);
    EXPECT_GE(agreement->same_choice[i], prefix);
    EXPECT_EQ(agreement->same_choice[i] == kGenerated, prefix == kGenerated);
    identical += prefix == kGenerated ? 1 : 0;
    prefixes += prefix;
  }
  EXPECT_NEAR(agreement->identical, identical / 8.0, 1e-12);
  EXPECT_NEAR(agreement->mean_common_prefix, prefixes / 8, 1e-9);
  EXPECT_LT(identical, 8) << "half the numbers changed nothing, which shows nothing";
}

TEST(Agreement, PromptsAreTheFirstHalvesOfWindows) {
  std::vector<TokenId> tokens(200);
  for (int32_t i = 0; i < 200; ++i) tokens[i] = i;
  const auto prompts = AgreementPrompts(tokens, {.num_tokens = 4, .window = 6, .max_windows = 2});
  EXPECT_THAT(prompts, ElementsAre(ElementsAre(0, 1, 2), ElementsAre(6, 7, 8)));
  EXPECT_THAT(AgreementPrompts(tokens, {.num_tokens = 4, .window = 6}), SizeIs(16));
}

TEST(Agreement, RefusesContinuationsThatDoNotFit) {
  EXPECT_TRUE(CheckAgreement({.num_tokens = 448, .window = 128}, 512).ok());
  EXPECT_TRUE(CheckAgreement({.num_tokens = 0, .window = 128}, 512).ok());
  for (const int32_t tokens : {449, -1}) {
    EXPECT_THAT(CheckAgreement({.num_tokens = tokens, .window = 128}, 512).ToString(),
                HasSubstr("--agreement: expected 0 to 448 tokens"));
  }
}

}  // namespace
}  // namespace lorc
