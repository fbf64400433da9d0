// Against the reference implementation's outputs of the real model in float32 (transformers;
// tests/data says what). The same model as a Hugging Face folder is tested where the environment
// variable LORC_TEST_HF_MODEL names one.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <string_view>
#include <nlohmann/json.hpp>

#include "runtime/compress/evaluate.h"
#include "runtime/model/local_sequences.h"
#include "tests/model/real_model.h"

namespace lorc {
namespace {

// Where the reference's best two tokens are closer than this, another choice is honest.
constexpr double kMargin = 0.02;

struct Golden {
  std::string name, rendered;
  std::vector<TokenId> ids, greedy;
  std::vector<double> margins;
  double prompt_nll = NAN;  // NaN: the prompt has one token
};

std::vector<Golden> LoadGoldens() {
  std::ifstream file(test::RequiredEnvironment("LORC_TEST_DATA") + "/smollm2_goldens.json");
  const auto json = nlohmann::json::parse(file);
  std::vector<Golden> goldens;
  for (const auto& row : json) {
    Golden golden{row["name"], row["rendered"], row["ids"], row["greedy"], row["margins"], NAN};
    if (!row["prompt_nll"].is_null()) golden.prompt_nll = row["prompt_nll"];
    goldens.push_back(golden);
  }
  return goldens;
}

std::vector<TokenId> Greedy(ModelExecutor& executor, const Golden& golden) {
  LocalSequences sequences(executor.kv_geometry());
  const int sequence = sequences.Add();
  std::vector<TokenId> tokens = golden.ids;
  const auto prompt = static_cast<int32_t>(tokens.size());
  const SamplingParams sampling;
  int32_t computed = 0;
  while (tokens.size() < golden.ids.size() + golden.greedy.size()) {
    const auto count = static_cast<int32_t>(tokens.size()) - computed;
    const auto work = sequences.Prepare(sequence, tokens, prompt, computed, count, &sampling);
    EXPECT_TRUE(work.ok()) << work.status();
    StepResult result;
    EXPECT_TRUE(executor.Execute({&*work, 1}, {&result, 1}).ok());
    EXPECT_TRUE(result.status.ok()) << result.status;
    computed += count;
    sequences.Finish(sequence, computed);
    tokens.push_back(result.token);
  }
  return {tokens.begin() + prompt, tokens.end()};
}

constexpr char kGguf[] = "LORC_TEST_MODEL";
constexpr char kFolder[] = "LORC_TEST_HF_MODEL";

// Where the model is, weights' type, and the bound on the prompts' mean negative log-likelihood.
using Case = std::tuple<const char*, DType, double>;

class GoldenTest : public testing::TestWithParam<Case> {};

TEST_P(GoldenTest, MatchesTheReference) {
  const auto& [variable, type, nll_bound] = GetParam();
  if (std::string_view(variable) == kFolder && std::getenv(kFolder) == nullptr) {
    GTEST_SKIP() << kFolder << " is not set";
  }
  const auto checkpoint = Checkpoint::Open(test::RequiredEnvironment(variable));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const KvPlan plan = KvPlan::Full((*checkpoint)->config(), SegmentTypeOf(ExactType(type)));
  test::RunOptions options;
  options.weight_type = type;
  options.max_tokens = 256;
  const auto running = test::Run(**checkpoint, plan, options);
  auto vocabulary = (*checkpoint)->ReadVocabulary();
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  const auto tokenizer = Tokenizer::Create(*std::move(vocabulary));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (const Golden& golden : LoadGoldens()) {
    SCOPED_TRACE(golden.name);
    EXPECT_EQ((*tokenizer)->Encode(golden.rendered, /*parse_special=*/true), golden.ids);
    if (!std::isnan(golden.prompt_nll)) {
      const auto logprobs = ScoreSequence(*running.executor, golden.ids);
      ASSERT_TRUE(logprobs.ok()) << logprobs.status();
      const double nll = -std::accumulate(logprobs->begin(), logprobs->end(), 0.0) /
                         static_cast<double>(logprobs->size());
      EXPECT_NEAR(nll, golden.prompt_nll, nll_bound);
    }
    if (type != DType::kF32) continue;
    const auto greedy = Greedy(*running.executor, golden);
    for (size_t t = 0; t < greedy.size(); ++t) {
      if (greedy[t] == golden.greedy[t]) continue;
      EXPECT_LE(golden.margins[t], kMargin) << "token " << t;
      break;  // after an honest difference the continuations have nothing in common
    }
  }
}

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  const bool gguf = std::string_view(std::get<0>(info.param)) == kGguf;
  return (gguf ? "gguf_" : "folder_") + std::string(Name(std::get<1>(info.param)));
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest,
                         testing::Values(Case{kGguf, DType::kF32, 1e-3},
                                         Case{kGguf, DType::kBf16, 1e-2},
                                         Case{kGguf, DType::kInt8, 1e-1},
                                         Case{kFolder, DType::kF32, 1e-3},
                                         Case{kFolder, DType::kBf16, 1e-2}),
                         CaseName);

}  // namespace
}  // namespace lorc
