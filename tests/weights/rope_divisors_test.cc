#include "runtime/weights/rope_divisors.h"

#include <gtest/gtest.h>

#include "runtime/weights/checkpoint.h"
#include "tests/support/files.h"
#include "tests/support/tiny_model.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

ModelConfig Llama31() {
  ModelConfig config;
  config.head_dim = 128;
  config.rope_base = 500000.0;
  config.rope_scaling = {.type = RopeScaling::Type::kLlama3, .factor = 8.0};
  return config;
}

TEST(RopeDivisorsTest, PlainAndLinear) {
  ModelConfig config;
  config.head_dim = 8;
  EXPECT_EQ(RopeFrequencyDivisors(config), (std::vector<double>{1, 1, 1, 1}));
  config.rope_scaling = {.type = RopeScaling::Type::kLinear, .factor = 4.0};
  EXPECT_EQ(RopeFrequencyDivisors(config), (std::vector<double>{4, 4, 4, 4}));
  config.rope_scaling = {.type = RopeScaling::Type::kPerPair, .divisors = {1, 2, 3, 4}};
  EXPECT_EQ(RopeFrequencyDivisors(config), (std::vector<double>{1, 2, 3, 4}));
}

// Ratios of transformers' inv_freq without and with rope_type llama3 (rope_theta 500000, factor 8,
// low 1, high 4, original 8192, head_dim 128); transformers works in single precision.
TEST(RopeDivisorsTest, Llama3AgreesWithTransformers) {
  const std::vector<double> divisors = RopeFrequencyDivisors(Llama31());
  ASSERT_EQ(divisors.size(), 64u);
  EXPECT_EQ(divisors[0], 1.0);
  EXPECT_EQ(divisors[28], 1.0);
  EXPECT_EQ(divisors[35], 8.0);
  EXPECT_EQ(divisors[63], 8.0);
  const double blended[] = {1.2074839, 1.5534145, 2.0263131, 2.6945304, 3.6842537, 5.2573272};
  for (size_t j = 0; j < 6; ++j) EXPECT_NEAR(divisors[29 + j], blended[j], 2e-6) << "pair " << j;
}

TEST(RopeDivisorsTest, AGgufFileAndAFolderAgree) {
  const test::TempFolder folder;
  const RopeScaling scaling = {
      .type = RopeScaling::Type::kLlama3, .factor = 32.0, .original_context_length = 256};
  const test::TinyModel model(
      {.num_heads = 1, .num_kv_heads = 1, .head_dim = 64, .rope_scaling = scaling});
  ASSERT_OK(test::WriteTinyGguf(model, {}, folder.File("m.gguf")));
  ASSERT_OK(test::WriteTinyHf(model, {}, folder.path()));
  const auto gguf = Checkpoint::Open(folder.File("m.gguf"));
  const auto hf = Checkpoint::Open(folder.path());
  ASSERT_OK(gguf);
  ASSERT_OK(hf);
  EXPECT_EQ((*gguf)->config().rope_scaling.type, RopeScaling::Type::kPerPair);
  EXPECT_EQ((*hf)->config().rope_scaling.type, RopeScaling::Type::kLlama3);
  const std::vector<double> from_gguf = RopeFrequencyDivisors((*gguf)->config());
  const std::vector<double> from_hf = RopeFrequencyDivisors((*hf)->config());
  int between = 0;
  for (size_t j = 0; j < from_hf.size(); ++j) {
    // The converter works in single precision.
    EXPECT_NEAR(from_gguf[j], from_hf[j], 1e-5 * from_hf[j]) << "pair " << j;
    between += from_hf[j] > 1.0 && from_hf[j] < 32.0;
  }
  EXPECT_GE(between, 2) << "the case should reach the blended range";
}

}  // namespace
}  // namespace lorc
