#include "runtime/kv/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace lorc {
namespace {

ModelConfig Config() {
  ModelConfig config;
  config.head_dim = 128;
  config.rope_base = 500000.0;
  return config;
}

TEST(RopeTest, PlainAndLinear) {
  ModelConfig config = Config();
  const auto plain = InverseFrequencies(config);
  ASSERT_EQ(plain.size(), 64u);
  EXPECT_DOUBLE_EQ(plain[0], 1.0);
  EXPECT_NEAR(plain[32], std::pow(500000.0, -0.5), 1e-15);
  config.rope_scaling.type = RopeScaling::Type::kLinear;
  config.rope_scaling.factor = 4;
  for (size_t j = 0; j < plain.size(); ++j) {
    EXPECT_DOUBLE_EQ(InverseFrequencies(config)[j], plain[j] / 4);
  }
}

// Llama 3.1: factor 8, low 1, high 4, original context 8192.
TEST(RopeTest, Llama3KeepsShortWavelengthsAndDividesLongOnes) {
  ModelConfig config = Config();
  const auto plain = InverseFrequencies(config);
  config.rope_scaling = {RopeScaling::Type::kLlama3, 8.0, 1.0, 4.0, 8192, {}};
  const auto scaled = InverseFrequencies(config);
  int kept = 0, divided = 0;
  for (size_t j = 0; j < plain.size(); ++j) {
    const double wavelength = 2 * std::numbers::pi / plain[j];
    if (wavelength < 2048) {
      EXPECT_DOUBLE_EQ(scaled[j], plain[j]);
      ++kept;
    } else if (wavelength > 8192) {
      EXPECT_DOUBLE_EQ(scaled[j], plain[j] / 8);
      ++divided;
    } else {
      EXPECT_LT(scaled[j], plain[j]);
      EXPECT_GT(scaled[j], plain[j] / 8);
    }
  }
  EXPECT_GT(kept, 20);
  EXPECT_GT(divided, 20);
}

TEST(RopeTest, DivisorsPerPair) {
  ModelConfig config = Config();
  config.head_dim = 8;
  config.rope_scaling.type = RopeScaling::Type::kPerPair;
  config.rope_scaling.divisors = {1, 2, 4, 8};
  const auto frequencies = InverseFrequencies(config);
  config.rope_scaling.type = RopeScaling::Type::kNone;
  for (size_t j = 0; j < 4; ++j) {
    EXPECT_DOUBLE_EQ(frequencies[j] * std::pow(2.0, j), InverseFrequencies(config)[j]);
  }
}

TEST(RopeTest, TablesHoldCosinesAndSines) {
  const ModelConfig config = Config();
  std::vector<float> cosines(10 * 64), sines(10 * 64);
  FillRopeTables(config, 10, cosines.data(), sines.data());
  const auto frequencies = InverseFrequencies(config);
  for (int n = 0; n < 10; ++n) {
    for (int j = 0; j < 64; ++j) {
      EXPECT_FLOAT_EQ(cosines[n * 64 + j], static_cast<float>(std::cos(n * frequencies[j])));
      EXPECT_FLOAT_EQ(sines[n * 64 + j], static_cast<float>(std::sin(n * frequencies[j])));
    }
  }
}

}  // namespace
}  // namespace lorc
