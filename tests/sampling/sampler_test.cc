#include "runtime/sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/ops/elementwise.h"

namespace lorc {
namespace {

constexpr int64_t kVocabulary = 1000;

// Weights as the kernel makes them, from logits.
struct Weights {
  std::vector<float> weights, block_sums;

  explicit Weights(const std::vector<float>& logits, float temperature = 1.0f) {
    const float top = *std::max_element(logits.begin(), logits.end());
    for (const float logit : logits) weights.push_back(std::exp((logit - top) / temperature));
    for (size_t begin = 0; begin < weights.size(); begin += kWeightBlock) {
      const size_t end = std::min<size_t>(weights.size(), begin + kWeightBlock);
      block_sums.push_back(std::accumulate(weights.begin() + begin, weights.begin() + end, 0.0f));
    }
  }

  TokenId Draw(const SamplingParams& params, double uniform) const {
    return lorc::Draw(params, weights, block_sums, 1.0f, uniform);
  }
};

std::vector<float> RandomLogits(uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> logits(kVocabulary);
  for (float& logit : logits) logit = normal(generator);
  return logits;
}

// The tokens that the parameters keep and their shares, sorted by probability, as the header
// defines them.
std::vector<std::pair<TokenId, double>> Expected(const std::vector<float>& logits,
                                                 const SamplingParams& params) {
  std::vector<std::pair<TokenId, double>> tokens;
  const float top = *std::max_element(logits.begin(), logits.end());
  for (size_t v = 0; v < logits.size(); ++v) {
    tokens.emplace_back(v, std::exp((static_cast<double>(logits[v]) - top) / params.temperature));
  }
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (params.top_k > 0 && params.top_k < std::ssize(tokens)) tokens.resize(params.top_k);
  double whole = 0;
  for (const auto& token : tokens) whole += token.second;
  if (params.top_p < 1) {
    double mass = 0;
    size_t count = 0;
    while (count < tokens.size() && mass < params.top_p * whole) mass += tokens[count++].second;
    tokens.resize(std::max<size_t>(1, count));
  }
  std::erase_if(tokens, [&](const auto& token) { return token.second < params.min_p; });
  whole = 0;
  for (const auto& token : tokens) whole += token.second;
  for (auto& token : tokens) token.second /= whole;
  return tokens;
}

class DrawTest : public testing::TestWithParam<SamplingParams> {};

TEST_P(DrawTest, DrawsFromWhatTheParametersKeep) {
  const SamplingParams params = GetParam();
  const auto logits = RandomLogits(3);
  const Weights weights(logits, params.temperature);
  const auto expected = Expected(logits, params);
  std::vector<int> counts(kVocabulary, 0);
  constexpr int kDraws = 40000;
  for (int i = 0; i < kDraws; ++i) ++counts[weights.Draw(params, (i + 0.5) / kDraws)];
  int kept = 0;
  for (const auto& [token, share] : expected) {
    // Uniforms are evenly spaced: counts are off by rounding alone, at both ends of the token's
    // interval.
    EXPECT_NEAR(counts[token], share * kDraws, 2.0 + share * kDraws * 1e-3) << token;
    kept += counts[token];
  }
  EXPECT_EQ(kept, kDraws);
}

SamplingParams Params(float temperature, int32_t top_k, float top_p, float min_p) {
  SamplingParams params;
  params.temperature = temperature;
  params.top_k = top_k;
  params.top_p = top_p;
  params.min_p = min_p;
  return params;
}

INSTANTIATE_TEST_SUITE_P(Params, DrawTest,
                         testing::Values(Params(1, 0, 1, 0), Params(0.5, 0, 1, 0),
                                         Params(2, 0, 1, 0), Params(1, 1, 1, 0),
                                         Params(1, 40, 1, 0), Params(1, 5000, 1, 0),
                                         Params(1, 0, 0.9f, 0), Params(1, 0, 0.999f, 0),
                                         Params(1, 0, 0.01f, 0), Params(1, 20, 0.8f, 0),
                                         Params(1, 0, 1, 0.05f), Params(0.7f, 50, 0.95f, 0.02f)));

TEST(DrawTest, EdgesOfTheUnitInterval) {
  const Weights weights(RandomLogits(5));
  for (const double uniform : {0.0, 1.0 - 0x1p-53}) {
    const TokenId token = weights.Draw(SamplingParams(), uniform);
    EXPECT_TRUE(token >= 0 && token < kVocabulary);
    EXPECT_GT(weights.weights[token], 0.0f);
  }
}

TEST(DrawTest, NeverDrawsWhatHasNoWeight) {
  std::vector<float> logits(kVocabulary, -INFINITY);
  logits[123] = 2.0f;
  const Weights weights(logits);
  for (const SamplingParams& params :
       {Params(1, 0, 1, 0), Params(1, 10, 1, 0), Params(1, 0, 0.9f, 0), Params(1, 0, 1, 0.1f)}) {
    for (const double uniform : {0.0, 0.5, 0.9999999})
      EXPECT_EQ(weights.Draw(params, uniform), 123);
  }
}

TEST(ChangeLogitsTest, PenaltiesAsDocumented) {
  SamplingParams params;
  params.repetition_penalty = 2.0f;
  params.presence_penalty = 0.5f;
  params.frequency_penalty = 0.25f;
  EXPECT_TRUE(ChangesLogits(params, 0));
  std::vector<float> logits = {4.0f, -4.0f, 4.0f, 1.0f, 1.0f};
  const TokenId known[] = {0, 1, 2, 2, 3};  // prompt 0 1, generated 2 2 3
  ChangeLogits(params, known, 2, logits);
  EXPECT_FLOAT_EQ(logits[0], 2.0f);                // in the prompt: repetition alone
  EXPECT_FLOAT_EQ(logits[1], -8.0f);               // negative logits are multiplied
  EXPECT_FLOAT_EQ(logits[2], 2.0f - 0.5f - 0.5f);  // twice generated
  EXPECT_FLOAT_EQ(logits[3], 0.5f - 0.5f - 0.25f);
  EXPECT_FLOAT_EQ(logits[4], 1.0f);
}

TEST(ChangeLogitsTest, SuppressesUntilTheLeastLength) {
  SamplingParams params;
  params.min_tokens = 2;
  params.suppressed_tokens = {1, 700, -3};
  std::vector<float> logits(4, 1.0f);
  const TokenId known[] = {0, 2, 2};
  EXPECT_TRUE(ChangesLogits(params, 1));
  ChangeLogits(params, std::span(known).first(2), 1, logits);
  EXPECT_EQ(logits[1], -INFINITY);
  EXPECT_EQ(logits[0], 1.0f);
  EXPECT_FALSE(ChangesLogits(params, 2));
}

TEST(FindLargestTest, TheFirstOfEquals) {
  std::vector<float> logits = RandomLogits(3);
  logits[700] = logits[90] = logits[91] = 100.0f;
  EXPECT_EQ(FindLargest(logits).token, 90);
  EXPECT_EQ(FindLargest(logits).logit, 100.0f);
  const std::vector<float> suppressed(4, -HUGE_VALF);
  EXPECT_EQ(FindLargest(suppressed).token, 0);
}

TEST(TopLogprobsTest, BestFirstTiesById) {
  const std::vector<float> logits = {1.0f, 3.0f, 2.0f, 3.0f, -1.0f};
  const auto top = TopLogprobs(logits, 4.0f, 3);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].token, 1);
  EXPECT_EQ(top[1].token, 3);
  EXPECT_EQ(top[2].token, 2);
  EXPECT_FLOAT_EQ(top[2].logprob, -2.0f);
  EXPECT_EQ(TopLogprobs(logits, 4.0f, 20).size(), 5u);
  EXPECT_TRUE(TopLogprobs(logits, 4.0f, 0).empty());
}

TEST(UniformTest, EvenAndReproducible) {
  EXPECT_EQ(UniformAt(1, 2), UniformAt(1, 2));
  EXPECT_NE(UniformAt(1, 2), UniformAt(1, 3));
  EXPECT_NE(UniformAt(1, 2), UniformAt(2, 2));
  double sum = 0;
  std::vector<int> buckets(10, 0);
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    const double u = UniformAt(i / 100, i % 100);
    ASSERT_TRUE(u >= 0 && u < 1);
    sum += u;
    ++buckets[static_cast<int>(u * 10)];
  }
  EXPECT_NEAR(sum / kCount, 0.5, 0.005);
  for (const int count : buckets) EXPECT_NEAR(count, kCount / 10, 500);
}

}  // namespace
}  // namespace lorc
