#include "runtime/compress/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/compress/tiny_fixture.h"

namespace lorc {
namespace {

using Windows = std::vector<std::vector<TokenId>>;

Moments Collect(ModelExecutor& executor, const Windows& windows, int32_t anchor) {
  auto moments = CollectMoments(executor, windows, anchor, nullptr);
  EXPECT_TRUE(moments.ok()) << moments.status();
  return *std::move(moments);
}

// What layer 0 computes from a token, in double precision: W rms_norm(embedding) [g*d].
std::vector<double> FirstLayer(const test::TinyModel& model, TensorRole role, TokenId token) {
  const ModelConfig& config = model.config();
  const int64_t d = config.hidden_size;
  const float* x = model.Values(TensorRole::kTokenEmbedding, 0).data() + token * d;
  const auto& gain = model.Values(TensorRole::kAttentionNorm, 0);
  const auto& weight = model.Values(role, 0);
  double square = 0;
  for (int64_t i = 0; i < d; ++i) square += static_cast<double>(x[i]) * x[i];
  const double scale = 1 / std::sqrt(square / static_cast<double>(d) + config.rms_norm_epsilon);
  std::vector<double> y(config.kv_width(), 0.0);
  for (int64_t r = 0; r < std::ssize(y); ++r)
    for (int64_t i = 0; i < d; ++i) y[r] += weight[r * d + i] * (x[i] * scale * gain[i]);
  return y;
}

// RoPE in half-split order, every head.
void Rotate(const ModelConfig& config, int64_t position, std::vector<double>& key) {
  const int64_t half = config.head_dim / 2;
  for (int64_t head = 0; head < config.num_kv_heads; ++head) {
    for (int64_t j = 0; j < half; ++j) {
      const double exponent = -2.0 * static_cast<double>(j) / config.head_dim;
      const double angle = static_cast<double>(position) * std::pow(config.rope_base, exponent);
      double& a = key[head * config.head_dim + j];
      double& b = key[head * config.head_dim + j + half];
      const double rotated = a * std::cos(angle) - b * std::sin(angle);
      b = b * std::cos(angle) + a * std::sin(angle);
      a = rotated;
    }
  }
}

void AddOuter(const std::vector<double>& y, std::vector<double>& sum) {
  const int64_t n = std::ssize(y);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) sum[i * n + j] += y[i] * y[j];
}

// The upper triangles. `bound` as a share of the largest element.
void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected,
                double bound) {
  ASSERT_EQ(actual.size(), expected.size());
  const auto n = static_cast<int64_t>(std::sqrt(actual.size()));
  double largest = 0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = i; j < n; ++j)
      ASSERT_NEAR(actual[i * n + j], expected[i * n + j], bound * largest) << i << ", " << j;
}

// Of a product of two sums of 64 numbers in float32, inputs rounded: 2 (64 + 8) 2^-24, and 8 for
// cancellation inside the sums.
constexpr double kFloat32 = 8 * 2 * 72 * 0x1p-24;

class FirstLayerTest : public testing::TestWithParam<int32_t> {};

TEST_P(FirstLayerTest, EqualsADirectComputation) {
  const int32_t anchor = GetParam();
  const test::TinyFixture tiny;
  const ModelConfig& config = tiny.config();
  const Windows windows = {test::TinyTokens(100, 1), test::TinyTokens(37, 2),
                           test::TinyTokens(100, 3)};
  // Steps of 24 tokens cut windows and chunks of the anchor in many places.
  const auto executor = tiny.MakeExecutor(24);
  const Moments moments = Collect(*executor, windows, anchor);

  const auto square = static_cast<size_t>(config.kv_width()) * config.kv_width();
  LayerMoments expected{std::vector<double>(square), std::vector<double>(square),
                        std::vector<double>(square)};
  for (const auto& window : windows) {
    for (int64_t t = 0; t < std::ssize(window); ++t) {
      std::vector<double> key = FirstLayer(tiny.model, TensorRole::kKey, window[t]);
      AddOuter(key, expected.unrotated_keys);
      Rotate(config, anchor > 0 ? t % anchor : t, key);
      AddOuter(key, expected.anchored_keys);
      AddOuter(FirstLayer(tiny.model, TensorRole::kValue, window[t]), expected.values);
    }
  }
  EXPECT_EQ(moments.num_tokens, 237);
  EXPECT_EQ(moments.anchor, anchor);
  ASSERT_EQ(moments.layers.size(), 2);
  ExpectNear(moments.layers[0].unrotated_keys, expected.unrotated_keys, kFloat32);
  ExpectNear(moments.layers[0].anchored_keys, expected.anchored_keys, kFloat32);
  ExpectNear(moments.layers[0].values, expected.values, kFloat32);
}

INSTANTIATE_TEST_SUITE_P(Anchors, FirstLayerTest, testing::Values(0, 16, 64, 256));

// Later layers see attention: windows must not see each other, nor steps matter.
TEST(CollectMomentsTest, AddsUpOverWindowsAndSteps) {
  const test::TinyFixture tiny;
  const Windows windows = {test::TinyTokens(90, 4), test::TinyTokens(90, 5)};
  const auto whole_windows = tiny.MakeExecutor(128);
  const Moments first = Collect(*whole_windows, {windows[0]}, 32);
  const Moments second = Collect(*whole_windows, {windows[1]}, 32);
  const Moments both = Collect(*whole_windows, windows, 32);
  const Moments in_steps = Collect(*tiny.MakeExecutor(7), windows, 32);
  EXPECT_EQ(both.num_tokens, 180);
  for (size_t l = 0; l < both.layers.size(); ++l) {
    for (const auto part :
         {&LayerMoments::unrotated_keys, &LayerMoments::anchored_keys, &LayerMoments::values}) {
      std::vector<double> sum = first.layers[l].*part;
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += (second.layers[l].*part)[i];
      ExpectNear(both.layers[l].*part, sum, 1e-12);
      ExpectNear(in_steps.layers[l].*part, both.layers[l].*part, kFloat32);
    }
  }
}

TEST(CollectMomentsTest, IsDeterministic) {
  const test::TinyFixture tiny;
  const Windows windows = {test::TinyTokens(90, 4)};
  const auto executor = tiny.MakeExecutor(64);
  const Moments first = Collect(*executor, windows, 32);
  const Moments second = Collect(*executor, windows, 32);
  EXPECT_EQ(first.layers[1].anchored_keys, second.layers[1].anchored_keys);
  EXPECT_EQ(first.layers[1].values, second.layers[1].values);
}

TEST(CollectMomentsTest, NoWindowsNoMoments) {
  const test::TinyFixture tiny;
  const Moments moments = Collect(*tiny.MakeExecutor(64), {}, 32);
  EXPECT_EQ(moments.num_tokens, 0);
  EXPECT_EQ(moments.layers[0].values, std::vector<double>(32 * 32, 0.0));
}

}  // namespace
}  // namespace lorc
