// Forward and far gradients of the float32 passes against plain formulas in double precision.
#include "runtime/compress/layer_pass.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "runtime/compress/evaluate.h"
#include "tests/compress/model_pass.h"
#include "tests/compress/reference_llama.h"
#include "tests/compress/tiny_fixture.h"

namespace lorc {
namespace {

struct Case {
  const char* name;
  int32_t num_tokens, prefix, window;
  bool scaled_and_tied = false;
  int num_directions = 3;  // random ones, and of single numbers
  int num_elements = 8;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

test::TinyModelOptions ModelOf(const Case& c) {
  test::TinyModelOptions options;
  if (c.num_tokens > 1000) options.num_layers = 1;  // to be quick
  if (!c.scaled_and_tied) return options;
  options.tied_embeddings = true;
  options.rope_scaling.type = RopeScaling::Type::kLlama3;
  options.rope_scaling.factor = 8;
  options.rope_scaling.original_context_length = 32;
  return options;
}

// A sum of k products in float32 is off by at most k 2^-24 of the sum of their sizes. The longest
// chain to a gradient: logits (D), softmax (V), back (V), then for each of two layers the FFN
// (D, D, 2F), attention (T, d) and projections (D, D + 2 g d).
double Float32(const ModelConfig& config, int64_t num_tokens) {
  const int64_t layer = 4 * config.hidden_size + 2 * config.ffn_size + config.head_dim +
                        2 * config.kv_width() + num_tokens;
  return static_cast<double>(config.hidden_size + 2 * config.vocabulary_size + 2 * layer) * 0x1p-24;
}

class FarGradientsTest : public testing::TestWithParam<Case> {};

TEST_P(FarGradientsTest, AreTheLossesDerivativesByWhatFarQueriesRead) {
  const Case& c = GetParam();
  const test::TinyFixture tiny(nullptr, ModelOf(c));
  const ModelConfig& config = tiny.config();
  const int64_t n = config.kv_width();
  const std::vector<TokenId> tokens = test::TinyTokens(c.num_tokens, 11);
  const std::vector<TokenId> labels = test::TinyTokens(c.num_tokens, 12);
  const test::FarGradients actual =
      test::RunPass(*tiny.checkpoint, tokens, {c.prefix, c.window}, 2, test::GivenLabels(labels));

  const auto loss = [&](const std::vector<test::FarOffsets>& offsets) {
    const auto run = test::RunReference(tiny.model, tokens, c.prefix, c.window, offsets);
    double sum = 0;
    for (int64_t t = 0; t < c.num_tokens; ++t) sum -= run.log_probabilities[t][labels[t]];
    return sum;
  };
  const auto run = test::RunReference(tiny.model, tokens, c.prefix, c.window, {});
  const double bound = Float32(config, c.num_tokens);
  for (int64_t t = 0; t < c.num_tokens; ++t) {
    const double expected = run.log_probabilities[t][labels[t]];
    EXPECT_NEAR(actual.log_probabilities[t], expected, bound * std::abs(expected)) << t;
  }

  std::mt19937 random(5);
  for (int32_t l = 0; l < config.num_layers; ++l) {
    for (const bool is_key : {true, false}) {
      const std::vector<float>& gradient = is_key ? actual.keys[l] : actual.values[l];
      // Along `direction` by central differences. The loss is some hundred nats, so its rounding
      // costs 1e-13 / 1e-4; the cubic term is about 1e-8 of what the direction's size asks for.
      const auto expect_along = [&](const test::Rows& direction, const std::string& what) {
        constexpr double kStep = 1e-4;
        const auto at = [&](double step) {
          std::vector<test::FarOffsets> offsets(config.num_layers);
          test::Rows rows = direction;
          for (auto& row : rows)
            for (double& value : row) value *= step;
          (is_key ? offsets[l].keys : offsets[l].values) = rows;
          return loss(offsets);
        };
        double along = 0;
        double size = 0;
        for (int64_t t = 0; t < c.num_tokens; ++t) {
          for (int64_t i = 0; i < n; ++i) {
            along += gradient[t * n + i] * direction[t][i];
            size = std::max(size, std::abs(direction[t][i] * gradient[t * n + i]));
          }
        }
        double largest = 0;
        for (const float value : gradient) largest = std::max<double>(largest, std::abs(value));
        // The errors of a direction's elements have random signs.
        double norm = 0;
        for (const auto& row : direction)
          for (const double value : row) norm += value * value;
        EXPECT_NEAR((at(kStep) - at(-kStep)) / (2 * kStep), along,
                    bound * std::sqrt(norm) * largest + 1e-7 * std::max(1.0, norm))
            << "layer " << l << (is_key ? " keys, " : " values, ") << what;
      };
      for (int i = 0; i < c.num_directions; ++i) {
        test::Rows direction(c.num_tokens, std::vector<double>(n));
        for (auto& row : direction)
          for (double& value : row) value = random() % 2 == 0 ? 1 : -1;
        expect_along(direction, "everywhere");
      }
      for (int i = 0; i < c.num_elements; ++i) {
        test::Rows direction(c.num_tokens, std::vector<double>(n));
        const auto t = static_cast<int64_t>(random() % c.num_tokens);
        direction[t][random() % n] = 1;
        expect_along(direction, "token " + std::to_string(t));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, FarGradientsTest,
                         testing::Values(Case{"everything", 75, 0, 0}, Case{"prefix", 75, 16, 0},
                                         Case{"window", 90, 0, 32}, Case{"both", 150, 16, 48},
                                         Case{"one_block", 80, 32, 16},
                                         Case{"scaled_and_tied", 70, 16, 16, true},
                                         // More rows than the FFN takes at once.
                                         Case{"long", 1050, 16, 64, false, 1, 0}),
                         [](const auto& of) { return std::string(of.param.name); });

TEST(FarGradientsTest, AreZeroWhereNoQueryIsFar) {
  const test::TinyFixture tiny;
  const std::vector<TokenId> tokens = test::TinyTokens(100, 3);
  const auto gradients =
      test::RunPass(*tiny.checkpoint, tokens, {16, 48}, 1, test::GivenLabels(tokens));
  const int64_t n = tiny.config().kv_width();
  for (const auto* of : {&gradients.keys, &gradients.values}) {
    for (const std::vector<float>& layer : *of) {
      for (int64_t t = 0; t < 100; ++t) {
        // The last query is in block 6 and reads the latents of blocks 1 to 3.
        const bool is_far = t >= 16 && t < 64;
        bool zero = true;
        for (int64_t i = 0; i < n; ++i) zero = zero && layer[t * n + i] == 0;
        EXPECT_EQ(zero, !is_far) << t;
      }
    }
  }
}

TEST(PassTest, DoesNotDependOnTheNumberOfThreads) {
  const test::TinyFixture tiny;
  const std::vector<TokenId> tokens = test::TinyTokens(300, 3);
  const auto one = test::RunPass(*tiny.checkpoint, tokens, {16, 48}, 1, test::GivenLabels(tokens));
  const auto three =
      test::RunPass(*tiny.checkpoint, tokens, {16, 48}, 3, test::GivenLabels(tokens));
  EXPECT_EQ(one.log_probabilities, three.log_probabilities);
  EXPECT_EQ(one.keys, three.keys);
  EXPECT_EQ(one.values, three.values);
}

TEST(PassTest, GivesTheExecutorsLogProbabilities) {
  for (const bool tied : {false, true}) {
    test::TinyModelOptions options;
    options.tied_embeddings = tied;
    options.context_length = 1200;
    const test::TinyFixture tiny(nullptr, options);
    const std::vector<TokenId> tokens = test::TinyTokens(1100, 3);
    std::vector<TokenId> next(tokens.begin() + 1, tokens.end());
    next.push_back(tokens[0]);
    const auto pass = test::RunPass(*tiny.checkpoint, tokens, {}, 1, test::GivenLabels(next));
    const auto expected = ScoreSequence(*tiny.MakeExecutor(128), tokens);
    ASSERT_TRUE(expected.ok()) << expected.status();
    const double bound = Float32(tiny.config(), 1100);
    for (int64_t t = 0; t < 1099; ++t) {
      EXPECT_NEAR(pass.log_probabilities[t], (*expected)[t], bound * std::abs((*expected)[t])) << t;
    }
  }
}

// Evenly spaced draws give every share to within one.
TEST(DrawLabelTest, DrawsInProportion) {
  const std::vector<float> weights = {0, 1, 0, 2, 5, 0};
  std::vector<int> counts(weights.size());
  for (int i = 0; i < 20'000; ++i) ++counts[DrawLabel(weights, 8, i / 20'000.0)];
  for (size_t i = 0; i < weights.size(); ++i) EXPECT_NEAR(counts[i], 2500 * weights[i], 1) << i;
  // A total that rounding made too large still gives a number that can be drawn.
  EXPECT_EQ(DrawLabel(weights, 8.1, 0.999999), 4);
}

}  // namespace
}  // namespace lorc
