#include "kernels/ops/elementwise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/reference/reference_ops.h"
#include "tests/kernels/backend_fixture.h"

namespace lorc {
namespace {

// Of types of the output.
class RmsNormTest : public BackendTest {
 protected:
  // out [num_rows, width]; `rows` may be nullptr.
  std::vector<float> Run(const std::vector<float>& x, const int32_t* rows, int64_t num_rows,
                         const std::vector<float>& gain) {
    DeviceValues device_x(backend(), DType::kF32, x);
    DeviceValues device_gain(backend(), DType::kF32, gain);
    // One element more than needed: it must stay as it is.
    const auto width = std::ssize(gain);
    auto out = DeviceValues::Poisoned(backend(), type(), num_rows * width + 1);
    backend().RmsNorm({num_rows, width, device_x.floats(), rows, device_gain.floats(), 1e-5f,
                       out.data(), type()});
    auto values = out.Read();
    EXPECT_TRUE(std::isnan(values.back()));
    values.pop_back();
    return values;
  }

  std::vector<double> Bound(const std::vector<double>& expected, double relative_f32) const {
    const double relative = relative_f32 + (type() == DType::kBf16 ? 0x1p-8 : 0.0);
    std::vector<double> bound(expected.size());
    for (size_t i = 0; i < bound.size(); ++i) bound[i] = std::abs(expected[i]) * relative + 1e-30;
    return bound;
  }
};

TEST_P(RmsNormTest, MatchesTheReference) {
  ForEachTarget(backend(), [&](const std::string& target) {
    for (const int64_t width : {1, 8, 13, 64, 100, 576, 4096}) {
      const auto x = RandomNormal(5 * width, width, 3.0f);
      const auto gain = RandomNormal(width, 2);
      const auto expected = reference::RmsNorm(x, gain, 5, width, 1e-5);
      ExpectWithin(Run(x, nullptr, 5, gain), expected, Bound(expected, 0x1p-24 * (width + 8)),
                   target);
    }
  });
}

TEST_P(RmsNormTest, GathersRows) {
  const int64_t width = 24;
  const auto x = RandomNormal(6 * width, 3);
  const std::vector<float> gain(width, 1.0f);
  const int32_t rows[] = {5, 0, 5};
  const auto all = Run(x, nullptr, 6, gain);
  const auto some = Run(x, rows, 3, gain);
  for (int i = 0; i < 3; ++i) {
    for (int64_t k = 0; k < width; ++k) EXPECT_EQ(some[i * width + k], all[rows[i] * width + k]);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, RmsNormTest,
                         testing::Values(BackendCase{"cpu", DType::kF32},
                                         BackendCase{"cpu", DType::kBf16},
                                         BackendCase{"cuda", DType::kF32},
                                         BackendCase{"cuda", DType::kBf16}),
                         NameOf);

class RowStatsTest : public BackendTest {
 protected:
  struct Stats {
    std::vector<int32_t> argmax;
    std::vector<float> max, log_sum_exp;
  };

  // `stride` floats from row to row.
  Stats Run(const std::vector<float>& logits, int64_t width, int64_t stride) {
    const int64_t rows = std::ssize(logits) / stride;
    DeviceValues device(backend(), DType::kF32, logits);
    Stats stats{std::vector<int32_t>(rows, -1), std::vector<float>(rows, NAN),
                std::vector<float>(rows, NAN)};
    backend().RowStats({rows, width, device.floats(), stride, stats.argmax.data(), stats.max.data(),
                        stats.log_sum_exp.data()});
    return stats;
  }
};

TEST_P(RowStatsTest, MatchesTheReference) {
  ForEachTarget(backend(), [&](const std::string& target) {
    for (const int64_t width : {1, 7, 64, 1001, 49152}) {
      for (const int64_t stride : {width, width + 3}) {
        const auto logits = RandomNormal(4 * stride, width, 5.0f);
        const Stats stats = Run(logits, width, stride);
        for (int t = 0; t < 4; ++t) {
          const float* row = logits.data() + t * stride;
          const auto top = std::max_element(row, row + width);
          EXPECT_EQ(stats.argmax[t], top - row) << target;
          EXPECT_EQ(stats.max[t], *top) << target;
          EXPECT_NEAR(stats.log_sum_exp[t], reference::LogSumExp(row, width), 2e-5) << target;
        }
      }
    }
  });
}

TEST_P(RowStatsTest, TiesGoToTheFirstAndBadValuesShow) {
  std::vector<float> logits(5000, 1.0f);
  logits[37] = logits[80] = logits[4000] = 2.0f;
  EXPECT_EQ(Run(logits, 5000, 5000).argmax[0], 37);
  for (const float bad : {NAN, HUGE_VALF}) {
    for (const int64_t where : {0, 3, 4999}) {
      auto copy = logits;
      copy[where] = bad;
      const Stats stats = Run(copy, 5000, 5000);
      EXPECT_FALSE(std::isfinite(stats.log_sum_exp[0])) << bad << " at " << where;
      EXPECT_TRUE(stats.argmax[0] >= 0 && stats.argmax[0] < 5000);
    }
  }
  const Stats nothing = Run(std::vector<float>(300, NAN), 100, 100);
  for (int t = 0; t < 3; ++t) {
    EXPECT_FALSE(std::isfinite(nothing.log_sum_exp[t]));
    EXPECT_TRUE(nothing.argmax[t] >= 0 && nothing.argmax[t] < 100);
  }
}

TEST_P(RowStatsTest, TokensThatCanNotBeDoNoHarm) {
  std::vector<float> logits(1000, -HUGE_VALF);
  logits[700] = 3.0f;
  const Stats stats = Run(logits, 1000, 1000);
  EXPECT_EQ(stats.argmax[0], 700);
  EXPECT_EQ(stats.log_sum_exp[0], 3.0f);
}

class WeightsTest : public BackendTest {};

TEST_P(WeightsTest, MatchesTheReference) {
  ForEachTarget(backend(), [&](const std::string& target) {
    for (const int64_t width : {1, 255, 256, 1001}) {
      const auto logits = RandomNormal(3 * width, width, 5.0f);
      const int64_t num_blocks = (width + kWeightBlock - 1) / kWeightBlock;
      auto x = logits;
      std::vector<float> sums(3 * num_blocks, NAN);
      const float max[] = {20.0f, 21.0f, 22.0f};
      const float scale[] = {1.0f, 0.0f, 0.5f};
      backend().Weights({3, width, x.data(), width, max, scale, sums.data()});
      for (int64_t t = 0; t < 3; ++t) {
        for (int64_t b = 0; b < num_blocks; ++b) {
          double sum = 0;
          for (int64_t v = b * kWeightBlock; v < std::min(width, (b + 1) * kWeightBlock); ++v) {
            const float given = logits[t * width + v];
            const double weight = std::exp((given - max[t]) * static_cast<double>(scale[t]));
            sum += weight;
            if (t == 1) {
              EXPECT_EQ(x[t * width + v], given);
            } else {
              EXPECT_NEAR(x[t * width + v], weight, weight * 1e-5 + 1e-37) << target;
            }
          }
          if (t != 1) {
            EXPECT_NEAR(sums[t * num_blocks + b], sum, sum * 1e-5) << target;
          }
        }
      }
    }
  });
}

constexpr BackendCase kBackends[] = {{"cpu", DType::kF32}, {"cuda", DType::kF32}};
INSTANTIATE_TEST_SUITE_P(Backends, RowStatsTest, testing::ValuesIn(kBackends), NameOf);
INSTANTIATE_TEST_SUITE_P(Backends, WeightsTest, testing::ValuesIn(kBackends), NameOf);

// Of types of the table.
class EmbedTest : public BackendTest {};

TEST_P(EmbedTest, ReadsRowsOfThePackedTable) {
  const auto table = RandomNormal(70 * 40, 1);
  const auto packed = backend().MakeMatrix(SourceOf(table, 70, 40), type());
  ASSERT_TRUE(packed.ok()) << packed.status();
  const int32_t tokens[] = {69, 0, 33};
  auto device_out = DeviceValues::Poisoned(backend(), DType::kF32, 3 * 40);
  backend().Embed({packed->get(), 3, tokens, device_out.floats()});
  const auto out = device_out.Read();
  for (int t = 0; t < 3; ++t) {
    float largest = 0;
    for (int k = 0; k < 40; ++k) largest = std::max(largest, std::abs(table[tokens[t] * 40 + k]));
    for (int k = 0; k < 40; ++k) {
      const float expected = table[tokens[t] * 40 + k];
      const float bound = type() == DType::kF32    ? 0
                          : type() == DType::kBf16 ? std::abs(expected) * 0x1p-8f
                                                   : largest / 127 * 0.5001f;
      EXPECT_NEAR(out[t * 40 + k], expected, bound);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, EmbedTest,
                         testing::Values(BackendCase{"cpu", DType::kF32},
                                         BackendCase{"cpu", DType::kBf16},
                                         BackendCase{"cpu", DType::kInt8},
                                         BackendCase{"cuda", DType::kBf16}),
                         NameOf);

}  // namespace
}  // namespace lorc
