// Far gradients of the real model against figures of an independent program (torch, float64, by
// automatic differentiation with respect to copies of K and V that only far queries read): the
// first 512 tokens of the held-out text, each position's label the next token and the last one's
// the first, exact prefix 16, exact window 64.
#include <gtest/gtest.h>

#include <vector>

#include "runtime/tokenizer/tokenizer.h"
#include "tests/compress/held_out_text.h"
#include "tests/compress/model_pass.h"
#include "tests/model/real_model.h"

namespace lorc {
namespace {

constexpr int64_t kTokens = 512;
constexpr FarRule kRule = {16, 64};

// Nats, all positions.
constexpr double kLoss = 1936.3676;
// Sums over layers' tokens beyond the prefix of squared gradients.
const std::vector<double> kKeyTraces = {
    0.4027865, 0.8603756, 2.47195,  6.020103,  1.948459, 3.986325,  6.936813, 6.614655,
    9.679816,  6.278286,  1.589102, 0.5413602, 1.097127, 0.4640206, 3.494816, 3.996685,
    0.7122214, 4.756424,  1.626196, 4.420321,  13.94855, 3.288888,  2.521454, 12.81112,
    6.314427,  0.4541383, 1.416227, 0.2606406, 1.21918,  2.473911};
const std::vector<double> kValueTraces = {
    245.0392,  17.20561,   18.43047,  91.56632,   84.36498,  71.62483,  52.88944,  62.95473,
    41.16362,  18.09022,   13.40311,  1.957238,   2.252488,  0.489073,  2.819063,  3.28119,
    0.8730959, 3.115354,   0.524232,  0.9832795,  2.574341,  0.9372671, 0.4937934, 1.201794,
    0.4543388, 0.05973341, 0.1830737, 0.04378736, 0.2771179, 0.1330343};

double Trace(const std::vector<float>& rows, int64_t width) {
  double sum = 0;
  for (size_t i = kRule.prefix_tokens * width; i < rows.size(); ++i) {
    sum += static_cast<double>(rows[i]) * rows[i];
  }
  return sum;
}

TEST(FarGradientFiguresTest, LossAndTraces) {
  const auto checkpoint = Checkpoint::Open(test::RequiredEnvironment("LORC_TEST_MODEL"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto tokenizer = Tokenizer::Create(*(*checkpoint)->ReadVocabulary());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::vector<TokenId> tokens = (*tokenizer)->Encode(test::kHeldOutText, /*parse_special=*/false);
  ASSERT_GE(tokens.size(), kTokens);
  tokens.resize(kTokens);
  std::vector<TokenId> labels(tokens.begin() + 1, tokens.end());
  labels.push_back(tokens[0]);
  const test::FarGradients gradients =
      test::RunPass(**checkpoint, tokens, kRule, 2, test::GivenLabels(labels));
  double loss = 0;
  for (const float value : gradients.log_probabilities) loss -= value;
  // Float32 through 30 layers: measured 2e-8 of the loss and 5e-6 of the traces.
  EXPECT_NEAR(loss, kLoss, 1e-6 * kLoss);
  const int64_t width = (*checkpoint)->config().kv_width();
  ASSERT_EQ(gradients.keys.size(), kKeyTraces.size());
  for (size_t l = 0; l < kKeyTraces.size(); ++l) {
    EXPECT_NEAR(Trace(gradients.keys[l], width), kKeyTraces[l], 1e-4 * kKeyTraces[l]) << l;
    EXPECT_NEAR(Trace(gradients.values[l], width), kValueTraces[l], 1e-4 * kValueTraces[l]) << l;
  }
}

}  // namespace
}  // namespace lorc
