#include "runtime/compress/methods/method.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "runtime/kv/rope.h"

namespace lorc {
namespace {

ModelConfig SmallConfig() {
  ModelConfig config;
  config.num_layers = 1;
  config.hidden_size = 24;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.context_length = 256;
  return config;
}

std::vector<float> Random(int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

struct Fixture {
  ModelConfig config = SmallConfig();
  std::vector<float> weight = Random(config.kv_width() * config.hidden_size, 1);
  std::vector<float> gain = Random(config.hidden_size, 2);
  std::vector<float> output = Random(config.hidden_size * config.query_width(), 3);
  LayerStatistics statistics;
  TensorSource source;  // reads the numbers above

  explicit Fixture(bool is_key, KvLayoutKind layout = KvLayoutKind::kRebuilt) {
    source.config = &config;
    source.is_key = is_key;
    source.layout = layout;
    source.anchor = 16;
    source.read = [this](TensorRole role) {
      if (role == TensorRole::kAttentionNorm) return gain;
      return role == TensorRole::kAttentionOutput ? output : weight;
    };
    source.statistics = &statistics;
  }
};

double At(const std::vector<double>& upper, int64_t n, int64_t i, int64_t j) {
  return upper[std::min(i, j) * n + std::max(i, j)];
}

TEST(SecondMomentTest, OfWeightsScalesTheInputs) {
  Fixture fixture(/*is_key=*/false);
  const int64_t n = fixture.config.kv_width();
  const int64_t columns = fixture.config.hidden_size;
  fixture.statistics.inputs.resize(columns);
  for (int64_t c = 0; c < columns; ++c) fixture.statistics.inputs[c] = 0.5 + static_cast<double>(c);
  for (const MomentSource from :
       {MomentSource::kWeights, MomentSource::kGain, MomentSource::kInputs}) {
    const auto moment = SecondMoment(fixture.source, from, false);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i; j < n; ++j) {
        double expected = 0;
        for (int64_t c = 0; c < columns; ++c) {
          const double scale = from == MomentSource::kWeights ? 1.0
                               : from == MomentSource::kGain
                                   ? static_cast<double>(fixture.gain[c]) * fixture.gain[c]
                                   : fixture.statistics.inputs[c];
          expected += scale * fixture.weight[i * columns + c] * fixture.weight[j * columns + c];
        }
        EXPECT_NEAR(moment[i * n + j], expected, 1e-9) << Name(from) << " " << i << ", " << j;
      }
    }
  }
}

// Direct keys stand rotated in the cache: the mean over the positions of a chunk, by hand.
TEST(SecondMomentTest, OfWeightsIsRotatedForDirectKeys) {
  const Fixture before(/*is_key=*/true);
  const Fixture after(/*is_key=*/true, KvLayoutKind::kDirect);
  const int64_t n = before.config.kv_width();
  const int64_t d = before.config.head_dim;
  const auto plain = SecondMoment(before.source, MomentSource::kWeights, false);
  const auto rotated = SecondMoment(after.source, MomentSource::kWeights, false);
  const auto frequency = InverseFrequencies(before.config);
  std::vector<double> expected(n * n, 0.0);
  for (int32_t t = 0; t < after.source.anchor; ++t) {
    std::vector<double> turn(n * n, 0.0);  // R
    for (int64_t head = 0; head < n; head += d) {
      for (int64_t j = 0; j < d / 2; ++j) {
        const double angle = t * frequency[j];
        const int64_t a = head + j, b = a + d / 2;
        turn[a * n + a] = turn[b * n + b] = std::cos(angle);
        turn[a * n + b] = -std::sin(angle);
        turn[b * n + a] = std::sin(angle);
      }
    }
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < n; ++k) {
          for (int64_t l = 0; l < n; ++l) {
            sum += turn[i * n + k] * At(plain, n, k, l) * turn[j * n + l];
          }
        }
        expected[i * n + j] += sum / after.source.anchor;
      }
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) {
      EXPECT_NEAR(rotated[i * n + j], expected[i * n + j], 1e-9) << i << ", " << j;
    }
  }
}

TEST(QueryOutputMetricTest, SumsTheGroupsQueries) {
  Fixture fixture(/*is_key=*/true, KvLayoutKind::kDirect);
  const int64_t n = fixture.config.kv_width();
  const int64_t d = fixture.config.head_dim;
  for (int64_t i = 0; i < fixture.config.num_heads * d * d; ++i) {
    fixture.statistics.queries.push_back(static_cast<double>(i));
  }
  const auto metric = QueryOutputMetric(fixture.source);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) {
      double expected = 0;
      if (i / d == j / d) {  // two query heads to each KV head
        for (int64_t head = i / d * 2; head < i / d * 2 + 2; ++head) {
          expected += fixture.statistics.queries[head * d * d + i % d * d + j % d];
        }
      }
      EXPECT_EQ(metric[i * n + j], expected) << i << ", " << j;
    }
  }
  fixture.source.layout = KvLayoutKind::kRebuilt;
  const auto averaged = QueryOutputMetric(fixture.source);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) {
      const int64_t pair = i % d < d / 2 ? i + d / 2 : i - d / 2;
      const double expected = i == j ? (metric[i * n + i] + metric[pair * n + pair]) / 2 : 0.0;
      EXPECT_EQ(averaged[i * n + j], expected) << i << ", " << j;
    }
  }
}

TEST(QueryOutputMetricTest, SumsTheGroupsOutputProjections) {
  const Fixture fixture(/*is_key=*/false);
  const int64_t n = fixture.config.kv_width();
  const int64_t d = fixture.config.head_dim;
  const int64_t width = fixture.config.query_width();
  const auto metric = QueryOutputMetric(fixture.source);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) {
      double expected = 0;
      for (int64_t head = i / d * 2; i / d == j / d && head < i / d * 2 + 2; ++head) {
        for (int64_t row = 0; row < fixture.config.hidden_size; ++row) {
          expected += static_cast<double>(fixture.output[row * width + head * d + i % d]) *
                      fixture.output[row * width + head * d + j % d];
        }
      }
      EXPECT_NEAR(metric[i * n + j], expected, 1e-9) << i << ", " << j;
    }
  }
}

TEST(MethodsTest, AreFoundByName) {
  for (const Method& method : Methods()) EXPECT_EQ(FindMethod(method.name), &method);
  EXPECT_EQ(FindMethod("palu"), nullptr);
}

}  // namespace
}  // namespace lorc
