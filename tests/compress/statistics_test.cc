#include "runtime/compress/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "runtime/compress/statistics_file.h"
#include "runtime/sampling/sampler.h"
#include "tests/compress/model_pass.h"
#include "tests/compress/reference_llama.h"
#include "tests/compress/tiny_fixture.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using Windows = std::vector<std::vector<TokenId>>;

Windows SomeWindows() {
  return {test::TinyTokens(100, 1), test::TinyTokens(37, 2), test::TinyTokens(12, 3),
          test::TinyTokens(100, 4)};
}

Statistics Collect(const test::TinyFixture& tiny, const Windows& windows,
                   const StatisticsOptions& options) {
  auto statistics = CollectStatistics(*tiny.checkpoint, windows, options, nullptr);
  EXPECT_TRUE(statistics.ok()) << statistics.status();
  return *std::move(statistics);
}

void AddOuter(const std::vector<double>& y, std::vector<double>& sum) {
  const int64_t n = std::ssize(y);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = i; j < n; ++j) sum[i * n + j] += y[i] * y[j];
}

// `bound` as a share of the largest element.
void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected,
                double bound) {
  ASSERT_EQ(actual.size(), expected.size());
  double largest = 0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], bound * largest) << i;
}

void ExpectNear(const KvMoments& actual, const KvMoments& expected, double bound) {
  ExpectNear(actual.unrotated_keys, expected.unrotated_keys, bound);
  ExpectNear(actual.anchored_keys, expected.anchored_keys, bound);
  ExpectNear(actual.values, expected.values, bound);
}

void AddToken(const ModelConfig& config, const std::vector<double>& key,
              const std::vector<double>& value, int64_t turn, KvMoments& moments) {
  AddOuter(key, moments.unrotated_keys);
  AddOuter(test::Rotated(config, key, turn), moments.anchored_keys);
  AddOuter(value, moments.values);
}

// Sums of products whose factors went through a layer and a half in float32: for each layer sums of
// D, D, F, T and d numbers, 2^-24 for every one of them at worst.
constexpr double kFloat32 = 2 * 1.5 * (64 + 64 + 96 + 100 + 16) * 0x1p-24;

struct Case {
  int32_t anchor, prefix;
};

class MomentsTest : public testing::TestWithParam<Case> {};

TEST_P(MomentsTest, EqualPlainFormulas) {
  const auto [anchor, prefix] = GetParam();
  const test::TinyFixture tiny;
  const ModelConfig& config = tiny.config();
  const int64_t d = config.head_dim;
  const Windows windows = SomeWindows();
  StatisticsOptions options;
  options.anchor = anchor;
  options.exact_prefix = prefix;
  const Statistics actual = Collect(tiny, windows, options);

  std::vector<LayerStatistics> expected = EmptyLayerStatistics(config, false);
  int64_t num_far = 0;
  for (const auto& window : windows) {
    const auto run = test::RunReference(tiny.model, window, 0, 0, {});
    num_far += std::max<int64_t>(0, std::ssize(window) - prefix);
    for (int32_t l = 0; l < config.num_layers; ++l) {
      const test::ReferenceLayer& layer = run.layers[l];
      for (int64_t t = 0; t < std::ssize(window); ++t) {
        const int64_t turn = anchor > 0 ? t % anchor : t;
        AddToken(config, layer.keys[t], layer.values[t], turn, expected[l].all);
        if (t >= prefix) AddToken(config, layer.keys[t], layer.values[t], turn, expected[l].far);
        for (int64_t i = 0; i < config.hidden_size; ++i) {
          expected[l].inputs[i] += layer.inputs[t][i] * layer.inputs[t][i];
        }
        for (int64_t chunk = 0; chunk <= t; chunk += anchor > 0 ? anchor : t + 1) {
          const std::vector<double> turned = test::Rotated(config, layer.queries[t], t - chunk);
          for (int64_t head = 0; head < config.num_heads; ++head) {
            std::vector<double> sum(d * d);
            AddOuter({turned.begin() + head * d, turned.begin() + (head + 1) * d}, sum);
            for (int64_t i = 0; i < d * d; ++i) expected[l].queries[head * d * d + i] += sum[i];
          }
        }
      }
    }
  }
  EXPECT_EQ(actual.num_tokens, 249);
  EXPECT_EQ(actual.num_far_tokens, num_far);
  EXPECT_EQ(actual.num_gradient_tokens, 0);
  EXPECT_EQ(actual.anchor, anchor);
  EXPECT_EQ(actual.exact_prefix, prefix);
  for (int32_t l = 0; l < config.num_layers; ++l) {
    ExpectNear(actual.layers[l].all, expected[l].all, kFloat32);
    ExpectNear(actual.layers[l].far, expected[l].far, kFloat32);
    ExpectNear(actual.layers[l].inputs, expected[l].inputs, kFloat32);
    ExpectNear(actual.layers[l].queries, expected[l].queries, kFloat32);
    EXPECT_TRUE(actual.layers[l].gradients.values.empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, MomentsTest,
                         testing::Values(Case{0, 16}, Case{16, 0}, Case{32, 16}, Case{256, 48}));

// The gradients themselves are tested with the pass; here which tokens of which windows are summed,
// and how.
TEST(GradientsTest, AreSummedBeyondThePrefixOfTheChosenWindows) {
  const test::TinyFixture tiny;
  const ModelConfig& config = tiny.config();
  const int64_t n = config.kv_width();
  const Windows windows = SomeWindows();
  StatisticsOptions options;
  options.anchor = 32;
  options.exact_prefix = 16;
  options.exact_window = 32;
  options.gradient_windows = 3;  // 0, 1 and 2
  options.seed = 9;
  const Statistics actual = Collect(tiny, windows, options);
  std::vector<KvMoments> expected(config.num_layers,
                                  EmptyLayerStatistics(config, true)[0].gradients);
  for (uint64_t w = 0; w < 3; ++w) {
    const auto gradients =
        test::RunPass(*tiny.checkpoint, windows[w], {16, 32}, 1,
                      [&](int64_t t, std::span<const float> weights, double total) {
                        return DrawLabel(weights, total, UniformAt(9, (w << 32) + t));
                      });
    for (int32_t l = 0; l < config.num_layers; ++l) {
      for (int64_t t = 16; t < std::ssize(windows[w]); ++t) {
        const auto row = [&](const std::vector<float>& rows) {
          return std::vector<double>(rows.begin() + t * n, rows.begin() + (t + 1) * n);
        };
        AddToken(config, row(gradients.keys[l]), row(gradients.values[l]), t % 32, expected[l]);
      }
    }
  }
  EXPECT_EQ(actual.num_gradient_tokens, 84 + 21);
  EXPECT_EQ(actual.num_far_tokens, 84 + 21 + 84);
  for (int32_t l = 0; l < config.num_layers; ++l) {
    // Sums of at most 100 products in float32.
    ExpectNear(actual.layers[l].gradients, expected[l], 2 * 100 * 0x1p-24);
  }

  options.seed = 10;
  EXPECT_NE(Collect(tiny, windows, options).layers[0].gradients.values,
            actual.layers[0].gradients.values);
}

void ExpectSame(const KvMoments& a, const KvMoments& b) {
  EXPECT_EQ(a.unrotated_keys, b.unrotated_keys);
  EXPECT_EQ(a.anchored_keys, b.anchored_keys);
  EXPECT_EQ(a.values, b.values);
}

void ExpectSame(const Statistics& a, const Statistics& b) {
  EXPECT_EQ(a.anchor, b.anchor);
  EXPECT_EQ(a.exact_prefix, b.exact_prefix);
  EXPECT_EQ(a.exact_window, b.exact_window);
  EXPECT_EQ(a.num_tokens, b.num_tokens);
  EXPECT_EQ(a.num_far_tokens, b.num_far_tokens);
  EXPECT_EQ(a.num_gradient_tokens, b.num_gradient_tokens);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t l = 0; l < a.layers.size(); ++l) {
    EXPECT_EQ(a.layers[l].inputs, b.layers[l].inputs);
    EXPECT_EQ(a.layers[l].queries, b.layers[l].queries);
    ExpectSame(a.layers[l].all, b.layers[l].all);
    ExpectSame(a.layers[l].far, b.layers[l].far);
    ExpectSame(a.layers[l].gradients, b.layers[l].gradients);
  }
}

TEST(CollectStatisticsTest, IsTheSameInAnyBatchesAndWithAnyThreads) {
  const test::TinyFixture tiny;
  StatisticsOptions options;
  options.gradient_windows = 2;
  options.num_threads = 1;
  const Statistics together = Collect(tiny, SomeWindows(), options);
  options.num_threads = 3;
  options.batch_bytes = 1;
  ExpectSame(Collect(tiny, SomeWindows(), options), together);
}

TEST(CollectStatisticsTest, ProgressEndsAtOne) {
  const test::TinyFixture tiny;
  StatisticsOptions options;
  options.gradient_windows = 2;
  options.batch_bytes = 1;
  double last = 0;
  const auto statistics =
      CollectStatistics(*tiny.checkpoint, SomeWindows(), options, [&last](double share) {
        EXPECT_GT(share, last);
        last = share;
      });
  ASSERT_OK(statistics);
  EXPECT_NEAR(last, 1, 1e-9);
}

TEST(CollectStatisticsTest, NoWindowsNoMoments) {
  const test::TinyFixture tiny;
  StatisticsOptions options;
  options.gradient_windows = 2;
  const Statistics statistics = Collect(tiny, {}, options);
  EXPECT_EQ(statistics.num_tokens, 0);
  EXPECT_EQ(statistics.layers[0].all.values, std::vector<double>(32 * 32, 0.0));
  EXPECT_EQ(statistics.layers[0].gradients.values, std::vector<double>(32 * 32, 0.0));
}

TEST(CollectStatisticsTest, RefusesWhatCannotBeRun) {
  const test::TinyFixture tiny;
  const auto expect_refused = [&tiny](const Windows& windows, const StatisticsOptions& options,
                                      const std::string& message) {
    EXPECT_THAT(CollectStatistics(*tiny.checkpoint, windows, options, nullptr),
                test::IsInvalid({message}));
  };
  expect_refused({{}}, {}, "window 0: expected 1 to 512 tokens, got 0");
  expect_refused({{5}, test::TinyTokens(513, 1)}, {}, "window 1: expected 1 to 512 tokens");
  expect_refused({{5, -1}}, {}, "token -1");
  expect_refused({{288}}, {}, "token 288");
  expect_refused({}, {.anchor = 24}, "anchor");
  expect_refused({}, {.exact_prefix = -16}, "prefix");
  expect_refused({}, {.exact_window = 1}, "window");
  expect_refused({}, {.gradient_windows = -1}, "gradients");
  expect_refused({}, {.num_threads = -1}, "threads");
}

TEST(CollectStatisticsTest, NamesWhatIsNotFinite) {
  const auto expect_named = [](const std::vector<std::string>& tensors, float value,
                               const std::string& layer, const std::string& what) {
    const test::TinyFixture tiny([&](test::GgufBuilder& gguf) {
      for (const std::string& tensor : tensors) {
        std::memcpy(gguf.FindTensor(tensor).data.data() + 7 * sizeof(float), &value, sizeof(float));
      }
    });
    StatisticsOptions options;
    options.gradient_windows = 1;
    EXPECT_THAT(CollectStatistics(*tiny.checkpoint, {{0, 5, 6, 7}}, options, nullptr),
                test::IsInvalid({layer, what, "not finite"}))
        << tensors[0];
  };
  const float infinity = std::numeric_limits<float>::infinity();
  expect_named({"token_embd.weight"}, std::nanf(""), "", "embedding");
  expect_named({"blk.0.attn_norm.weight"}, std::nanf(""), "layer 0", "norm");
  expect_named({"blk.1.attn_k.weight"}, infinity, "layer 1", "W_k");
  expect_named({"blk.1.ffn_down.weight"}, -infinity, "layer 1", "W_down");
  expect_named({"output.weight"}, std::nanf(""), "", "output");
  // Finite weights, but their products are not.
  const float most = std::numeric_limits<float>::max();
  expect_named({"blk.0.attn_k.weight"}, most, "layer 0", "activations");
  expect_named({"blk.1.ffn_down.weight"}, most, "layer 1", "activations");
  expect_named({"output_norm.weight", "output.weight"}, most, "", "output");
}

class ResumeTest : public testing::Test {
 protected:
  ResumeTest() {
    options_.anchor = 32;
    options_.gradient_windows = 2;
    options_.seed = 3;
    options_.batch_bytes = 1;  // every window is a batch
    options_.resume_path = tiny_.folder.File("statistics.safetensors");
  }

  // Leaves the file as an interruption after the first batches does: the progress callback is the
  // only way into a run, so a copy is taken there.
  void Interrupt(int64_t windows_done) {
    const std::string copy = tiny_.folder.File("copy");
    const auto statistics =
        CollectStatistics(*tiny_.checkpoint, SomeWindows(), options_, [&](double) {
          const auto done = ReadStatistics(options_.resume_path, tiny_.config());
          if (!done.ok() || done->windows_done != windows_done) return;
          EXPECT_OK(test::WriteFile(copy, test::ReadFile(options_.resume_path)));
        });
    EXPECT_OK(statistics);
    EXPECT_OK(test::WriteFile(options_.resume_path, test::ReadFile(copy)));
    EXPECT_EQ(ReadStatistics(options_.resume_path, tiny_.config())->windows_done, windows_done);
  }

  test::TinyFixture tiny_;
  StatisticsOptions options_;
};

TEST_F(ResumeTest, GivesTheSameBitForBit) {
  StatisticsOptions plain = options_;
  plain.resume_path = "";
  const Statistics expected = Collect(tiny_, SomeWindows(), plain);
  for (const int64_t done : {1, 2, 3}) {
    Interrupt(done);
    ExpectSame(Collect(tiny_, SomeWindows(), options_), expected);
    // Now it is complete: nothing is run.
    int calls = 0;
    const auto again = CollectStatistics(*tiny_.checkpoint, SomeWindows(), options_,
                                         [&calls](double) { ++calls; });
    ASSERT_OK(again);
    ExpectSame(*again, expected);
    EXPECT_EQ(calls, 0);
    std::filesystem::remove(options_.resume_path);
  }
}

// Several anchors in one pass, from files that are not equally far.
TEST_F(ResumeTest, AnchorsTogetherAreAsEachAlone) {
  std::vector<StatisticsOptions> all(3, options_);
  std::vector<Statistics> alone;
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].anchor = std::vector<int32_t>{32, 0, 64}[i];
    all[i].resume_path = "";
    alone.push_back(Collect(tiny_, SomeWindows(), all[i]));
  }
  Interrupt(2);
  all[0].resume_path = options_.resume_path;
  all[2].resume_path = tiny_.folder.File("of 64");
  const auto together = CollectStatisticsTogether(*tiny_.checkpoint, SomeWindows(), all, nullptr);
  ASSERT_OK(together);
  ASSERT_EQ(together->size(), 3);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ((*together)[i].anchor, all[i].anchor);
    ExpectSame((*together)[i], alone[i]);
  }
  for (const size_t i : {0, 2}) {
    const auto file = ReadStatistics(all[i].resume_path, tiny_.config());
    ASSERT_OK(file);
    EXPECT_EQ(file->windows_done, std::ssize(SomeWindows()));
    ExpectSame(file->statistics, alone[i]);
  }
}

TEST_F(ResumeTest, RefusesAnotherRunsFile) {
  Collect(tiny_, SomeWindows(), options_);
  const std::string before = test::ReadFile(options_.resume_path);
  const auto expect_refused = [&](const test::TinyFixture& tiny, const Windows& windows,
                                  StatisticsOptions options, const std::string& what) {
    options.resume_path = options_.resume_path;
    EXPECT_THAT(CollectStatistics(*tiny.checkpoint, windows, options, nullptr),
                test::FailsWith(absl::StatusCode::kFailedPrecondition,
                                std::vector<std::string>{options_.resume_path, what}));
    EXPECT_EQ(CheckResume(*tiny.checkpoint, windows, options).message(),
              CollectStatistics(*tiny.checkpoint, windows, options, nullptr).status().message());
  };
  EXPECT_OK(CheckResume(*tiny_.checkpoint, SomeWindows(), options_));
  test::TinyModelOptions other;
  other.seed = 2;
  expect_refused(test::TinyFixture(nullptr, other), SomeWindows(), options_, "another model");
  Windows windows = SomeWindows();
  ++windows[3][99];
  expect_refused(tiny_, windows, options_, "another text");
  windows.pop_back();
  expect_refused(tiny_, windows, options_, "another text");
  const auto expect_option = [&](auto member, auto value, const std::string& what) {
    StatisticsOptions options = options_;
    options.*member = value;
    expect_refused(tiny_, SomeWindows(), options, what);
  };
  expect_option(&StatisticsOptions::anchor, 64, "anchor 32");
  expect_option(&StatisticsOptions::exact_prefix, 0, "exact prefix 16");
  expect_option(&StatisticsOptions::exact_window, 16, "exact window 64");
  expect_option(&StatisticsOptions::gradient_windows, 1, "2 windows with gradients");
  expect_option(&StatisticsOptions::seed, 4, "seed 3");
  EXPECT_EQ(test::ReadFile(options_.resume_path), before);
}

}  // namespace
}  // namespace lorc
