#include "kernels/cpu/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cpu/cpu_matrix.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/reference/reference_ops.h"
#include "tests/kernels/kernel_test_util.h"

namespace lorc {
namespace {

constexpr int64_t kWidths[] = {1, 8, 13, 64, 100, 576};

class ElementwiseTest : public testing::TestWithParam<DType> {
 protected:
  // Runs `op(out pointer)` with an output of the parameter's type and returns it as floats.
  template <typename Op>
  std::vector<float> Collect(int64_t count, const Op& op) {
    if (GetParam() == DType::kF32) {
      std::vector<float> out(count, NAN);
      op(out.data());
      return out;
    }
    std::vector<bf16_t> out(count, 0x7fc0);
    op(out.data());
    std::vector<float> values(count);
    for (int64_t i = 0; i < count; ++i) values[i] = Bf16ToF32(out[i]);
    return values;
  }

  std::vector<double> Bound(const std::vector<double>& expected, double relative_f32) const {
    const double relative = relative_f32 + (GetParam() == DType::kBf16 ? 0x1p-8 : 0.0);
    std::vector<double> bound(expected.size());
    for (size_t i = 0; i < bound.size(); ++i) bound[i] = std::abs(expected[i]) * relative + 1e-30;
    return bound;
  }

  ThreadPool pool_{2};
};

TEST_P(ElementwiseTest, RmsNormMatchesTheReference) {
  ForEachInstructionSet([&](const std::string& target) {
    for (const int64_t width : kWidths) {
      const auto x = RandomNormal(5 * width, width, 3.0f);
      const auto gain = RandomNormal(width, 2);
      const auto expected = reference::RmsNorm(x, gain, 5, width, 1e-5);
      const auto actual = Collect(5 * width, [&](void* out) {
        CpuRmsNorm({5, width, x.data(), nullptr, gain.data(), 1e-5f, out, GetParam()}, pool_);
      });
      ExpectWithin(actual, expected, Bound(expected, 0x1p-24 * (width + 8)), target);
    }
  });
}

TEST_P(ElementwiseTest, RmsNormGathersRows) {
  const int64_t width = 24;
  const auto x = RandomNormal(6 * width, 3);
  const std::vector<float> gain(width, 1.0f);
  const int32_t rows[] = {5, 0, 5};
  const auto all = Collect(6 * width, [&](void* out) {
    CpuRmsNorm({6, width, x.data(), nullptr, gain.data(), 1e-5f, out, GetParam()}, pool_);
  });
  const auto some = Collect(3 * width, [&](void* out) {
    CpuRmsNorm({3, width, x.data(), rows, gain.data(), 1e-5f, out, GetParam()}, pool_);
  });
  for (int i = 0; i < 3; ++i) {
    for (int64_t k = 0; k < width; ++k) EXPECT_EQ(some[i * width + k], all[rows[i] * width + k]);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, ElementwiseTest, testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& test) { return Name(test.param); });

TEST(RowStatsTest, MatchesTheReference) {
  ThreadPool pool(2);
  ForEachInstructionSet([&](const std::string& target) {
    for (const int64_t width : {1, 7, 64, 1001}) {
      const auto logits = RandomNormal(4 * width, width, 5.0f);
      int32_t argmax[4];
      float max[4], log_sum_exp[4];
      CpuRowStats({4, width, logits.data(), width, argmax, max, log_sum_exp}, pool);
      for (int t = 0; t < 4; ++t) {
        const float* row = logits.data() + t * width;
        const auto top = std::max_element(row, row + width);
        EXPECT_EQ(argmax[t], top - row) << target;
        EXPECT_EQ(max[t], *top) << target;
        EXPECT_NEAR(log_sum_exp[t], reference::LogSumExp(row, width), 2e-5) << target;
      }
    }
  });
}

TEST(RowStatsTest, TiesGoToTheFirstAndBadValuesShow) {
  ThreadPool pool(1);
  std::vector<float> logits(100, 1.0f);
  logits[37] = logits[80] = 2.0f;
  int32_t argmax;
  float max, log_sum_exp;
  CpuRowStats({1, 100, logits.data(), 100, &argmax, &max, &log_sum_exp}, pool);
  EXPECT_EQ(argmax, 37);
  for (const float bad : {NAN, HUGE_VALF}) {
    for (const int64_t where : {3, 99}) {
      auto copy = logits;
      copy[where] = bad;
      CpuRowStats({1, 100, copy.data(), 100, &argmax, &max, &log_sum_exp}, pool);
      EXPECT_FALSE(std::isfinite(log_sum_exp)) << bad << " at " << where;
      EXPECT_TRUE(argmax >= 0 && argmax < 100);
    }
  }
}

TEST(WeightsTest, MatchesTheReference) {
  ThreadPool pool(2);
  ForEachInstructionSet([&](const std::string& target) {
    for (const int64_t width : {1, 255, 256, 1001}) {
      const auto logits = RandomNormal(3 * width, width, 5.0f);
      const int64_t num_blocks = (width + kWeightBlock - 1) / kWeightBlock;
      auto x = logits;
      std::vector<float> sums(3 * num_blocks, NAN);
      const float max[] = {20.0f, 21.0f, 22.0f};
      const float scale[] = {1.0f, 0.0f, 0.5f};
      CpuWeights({3, width, x.data(), width, max, scale, sums.data()}, pool);
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

TEST(EmbedTest, ReadsRowsOfThePackedTable) {
  ThreadPool pool(2);
  const auto table = RandomNormal(70 * 40, 1);
  for (const DType type : {DType::kF32, DType::kBf16, DType::kInt8}) {
    const auto packed = CpuMatrix::Pack(SourceOf(table, 70, 40), type, nullptr, pool);
    ASSERT_TRUE(packed.ok());
    const int32_t tokens[] = {69, 0, 33};
    std::vector<float> out(3 * 40);
    CpuEmbed({packed->get(), 3, tokens, out.data()}, pool);
    for (int t = 0; t < 3; ++t) {
      float largest = 0;
      for (int k = 0; k < 40; ++k) largest = std::max(largest, std::abs(table[tokens[t] * 40 + k]));
      for (int k = 0; k < 40; ++k) {
        const float expected = table[tokens[t] * 40 + k];
        const float bound = type == DType::kF32    ? 0
                            : type == DType::kBf16 ? std::abs(expected) * 0x1p-8f
                                                   : largest / 127 * 0.5001f;
        EXPECT_NEAR(out[t * 40 + k], expected, bound);
      }
    }
  }
}

}  // namespace
}  // namespace lorc
