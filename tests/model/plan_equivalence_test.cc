// A plan at full rank is another way to write the same model: every layout must give the
// uncompressed log-likelihood.

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "runtime/compress/linear_algebra.h"
#include "runtime/model/local_sequences.h"
#include "tests/model/real_model.h"

namespace lorc {
namespace {

// Rows of a random orthogonal matrix [n, n].
std::vector<float> RandomOrthogonal(int64_t n, uint64_t seed) {
  std::vector<double> symmetric(n * n);
  uint64_t state = seed * 2 + 1;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      symmetric[i * n + j] = symmetric[j * n + i] =
          static_cast<double>(state >> 40) * 0x1p-24 - 0.5;
    }
  }
  const auto eigen = SymmetricEigen(symmetric, n);
  EXPECT_TRUE(eigen.ok()) << eigen.status();
  return {eigen->vectors.begin(), eigen->vectors.end()};
}

TensorPlan FullRank(const ModelConfig& config, KvLayoutKind layout, int32_t groups, uint64_t seed) {
  TensorPlan tensor;
  tensor.layout = layout;
  tensor.groups = groups;
  tensor.rank = config.kv_width() / groups;
  // Two segments, so that nothing assumes one.
  tensor.segments = {{SegmentType::kF32, tensor.rank - 16}, {SegmentType::kF32, 16}};
  for (int32_t group = 0; group < groups; ++group) {
    const auto basis = RandomOrthogonal(tensor.rank, seed * 100 + group);
    tensor.encoder.insert(tensor.encoder.end(), basis.begin(), basis.end());
  }
  return tensor;
}

struct Case {
  const char* name;
  KvLayoutKind keys;
  bool per_head;
  int32_t anchor, prefix, window;
  int32_t tokens;
};

std::vector<TokenId> SomeTokens(int32_t count) {
  std::vector<TokenId> tokens(count);
  uint32_t state = 12345;
  for (int32_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    // Of a few hundred tokens, with repetitions from far before.
    tokens[i] =
        i > 300 && state % 3 == 0 ? tokens[i - 300] : static_cast<TokenId>(20 + (state >> 9) % 500);
  }
  return tokens;
}

// Mean negative log-likelihood. Positions below `prompt` are computed as a prompt's, the others as
// generated ones are.
double Nll(ModelExecutor& executor, const std::vector<TokenId>& tokens, int32_t prompt) {
  LocalSequences sequences(executor.kv_geometry());
  const int sequence = sequences.Add();
  const auto length = static_cast<int32_t>(tokens.size());
  std::vector<float> logprobs(length);
  for (int32_t first = 0; first < length; first += executor.max_step_tokens()) {
    const int32_t count = std::min(executor.max_step_tokens(), length - first);
    const auto work = sequences.Prepare(sequence, tokens, prompt, first, count);
    EXPECT_TRUE(work.ok()) << work.status();
    EXPECT_TRUE(executor.Score(*work, std::span(logprobs).subspan(first, count)).ok());
    sequences.Finish(sequence, first + count);
  }
  return -std::accumulate(logprobs.begin(), logprobs.end(), 0.0) / (length - 1);
}

TEST(PlanEquivalenceTest, FullRankGivesTheUncompressedModel) {
  const auto checkpoint = Checkpoint::Open(test::RequiredEnvironment("LORC_TEST_MODEL"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const ModelConfig& config = (*checkpoint)->config();
  constexpr auto kDirect = KvLayoutKind::kDirect;
  constexpr auto kRebuilt = KvLayoutKind::kRebuilt;
  const Case cases[] = {
      {"rebuilt", kRebuilt, false, 0, 0, 0, 600},
      {"rebuilt, window", kRebuilt, false, 0, 16, 64, 600},
      {"rebuilt per head", kRebuilt, true, 0, 0, 32, 300},
      {"direct per head, anchor 128", kDirect, true, 128, 0, 0, 300},
      {"direct per head, anchor 128, window", kDirect, true, 128, 16, 64, 600},
      {"direct joint, anchor 16", kDirect, false, 16, 0, 0, 300},
      {"direct joint, anchor 16, window", kDirect, false, 16, 16, 64, 600},
      {"direct joint, anchor 128", kDirect, false, 128, 0, 0, 300},
      {"direct joint, anchor 128, window, long", kDirect, false, 128, 16, 64, 4096},
      {"direct joint, anchor 1024", kDirect, false, 1024, 0, 0, 300},
      {"direct joint, anchor 1024, window, long", kDirect, false, 1024, 16, 64, 4096},
      {"direct joint, absolute positions", kDirect, false, 0, 16, 64, 300},
  };
  std::map<int32_t, double> uncompressed;
  const auto measure = [&](const KvPlan& plan, int32_t length, int32_t prompt) {
    test::RunOptions options;
    options.max_tokens = length;
    const auto running = test::Run(**checkpoint, plan, options);
    return Nll(*running.executor, SomeTokens(length), prompt);
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    if (!uncompressed.contains(c.tokens)) {
      uncompressed[c.tokens] = measure(KvPlan::Full(config, SegmentType::kF32), c.tokens, c.tokens);
    }
    KvPlan plan;
    plan.anchor = c.anchor;
    plan.exact_prefix = c.prefix;
    plan.exact_window = c.window;
    const int32_t groups = c.per_head ? config.num_kv_heads : 1;
    for (int32_t l = 0; l < config.num_layers; ++l) {
      plan.layers.push_back(
          {FullRank(config, c.keys, groups, 2 * l), FullRank(config, kDirect, groups, 2 * l + 1)});
    }
    ASSERT_TRUE(plan.Validate(config).ok()) << plan.Validate(config);
    EXPECT_NEAR(measure(plan, c.tokens, c.tokens), uncompressed[c.tokens], 1e-4);
    // And as generated positions, where queries absorb the bases.
    if (c.tokens < 4096) {
      EXPECT_NEAR(measure(plan, c.tokens, 1), uncompressed[c.tokens], 1e-4);
    }
  }
}

}  // namespace
}  // namespace lorc
