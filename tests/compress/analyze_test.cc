#include "runtime/compress/analyze.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <set>

#include "runtime/compress/calibration_text.h"
#include "runtime/compress/effective_rank.h"
#include "runtime/compress/linear_algebra.h"
#include "runtime/compress/ranks.h"
#include "tests/compress/held_out_text.h"
#include "tests/compress/tiny_fixture.h"

namespace lorc {
namespace {

using testing::AllOf;
using testing::HasSubstr;

AnalysisRequest SmallRequest() {
  AnalysisRequest request;
  request.texts = {{"prose", std::string(test::kHeldOutText)}};
  request.window = 128;
  request.statistics_windows = 4;
  request.measure_windows = 2;
  request.levels = {0.5};
  request.anchor = 64;
  request.weight_type = DType::kF32;
  request.num_threads = 1;
  return request;
}

absl::StatusOr<Analysis> TryAnalyze(const test::TinyFixture& tiny, const AnalysisRequest& request) {
  return Analyze(*tiny.backend, *tiny.checkpoint, *tiny.tokenizer, request, nullptr);
}

Analysis Analysed(const test::TinyFixture& tiny, const AnalysisRequest& request) {
  auto analysis = TryAnalyze(tiny, request);
  EXPECT_TRUE(analysis.ok()) << analysis.status();
  return *std::move(analysis);
}

SplitText Split(const test::TinyFixture& tiny, const AnalysisRequest& request) {
  const auto windows =
      CutWindows(tiny.tokenizer->Encode(request.texts[0].text, false), request.window);
  auto split =
      SplitWindows(windows, request.window, request.statistics_windows, request.measure_windows);
  EXPECT_TRUE(split.ok()) << split.status();
  return *std::move(split);
}

Statistics Collect(const test::TinyFixture& tiny, const AnalysisRequest& request) {
  StatisticsOptions options;
  options.anchor = request.anchor;
  options.gradient_windows = request.gradient_windows;
  auto statistics =
      CollectStatistics(*tiny.checkpoint, Split(tiny, request).calibration, options, nullptr);
  EXPECT_TRUE(statistics.ok()) << statistics.status();
  return *std::move(statistics);
}

// |y|^2 summed over tokens is the trace of the moment and the sum of squared singular values; the
// sum of their fourth powers is the squared Frobenius norm of the moment.
void ExpectSpectrumOf(const std::vector<double>& moment, int64_t n,
                      const TensorSpectrum& spectrum) {
  ASSERT_EQ(std::ssize(spectrum.singular_values), n);
  double trace = 0, norm = 0;
  for (int64_t i = 0; i < n; ++i) {
    trace += moment[i * n + i];
    norm += moment[i * n + i] * moment[i * n + i];
    for (int64_t j = i + 1; j < n; ++j) norm += 2 * moment[i * n + j] * moment[i * n + j];
  }
  double squares = 0, fourths = 0;
  std::vector<double> energies;
  for (const double s : spectrum.singular_values) {
    energies.push_back(s * s);
    squares += s * s;
    fourths += s * s * s * s;
  }
  EXPECT_NEAR(squares, trace, 1e-11 * trace);
  EXPECT_NEAR(fourths, norm, 1e-11 * norm);
  EXPECT_TRUE(std::is_sorted(energies.rbegin(), energies.rend()));
  EXPECT_NEAR(spectrum.effective_rank, EffectiveRank(energies), 1e-9);
  EXPECT_DOUBLE_EQ(spectrum.normalised_effective_rank() * static_cast<double>(n),
                   spectrum.effective_rank);
  for (size_t i = 0; i < kEnergyShares.size(); ++i) {
    double kept = 0;
    int32_t rank = 0;
    while (kept < kEnergyShares[i] * squares) kept += energies[rank++];
    EXPECT_EQ(spectrum.energy_ranks[i], rank);
  }
}

TEST(AnalyzeTest, SpectraAreThoseOfTheTextsMoments) {
  const test::TinyFixture tiny;
  const AnalysisRequest request = SmallRequest();
  const Analysis analysis = Analysed(tiny, request);
  const int64_t n = tiny.config().kv_width();
  EXPECT_EQ(analysis.kv_width, n);
  ASSERT_EQ(analysis.texts.size(), 1u);
  const TextAnalysis& text = analysis.texts[0];
  EXPECT_EQ(text.name, "prose");
  EXPECT_EQ(text.num_statistics_tokens, 4 * 128);
  EXPECT_EQ(text.num_measured_tokens, 2 * 128);
  EXPECT_TRUE(text.losses.empty());
  EXPECT_FALSE(text.layer_correlation.has_value());
  const Statistics statistics = Collect(tiny, request);
  ASSERT_EQ(std::ssize(text.layers), tiny.config().num_layers);
  for (int32_t l = 0; l < tiny.config().num_layers; ++l) {
    const KvMoments& all = statistics.layers[l].all;
    ExpectSpectrumOf(all.unrotated_keys, n, text.layers[l].keys);
    ExpectSpectrumOf(all.anchored_keys, n, text.layers[l].rotated_keys);
    ExpectSpectrumOf(all.values, n, text.layers[l].values);
    // Rotations keep lengths.
    const auto energy = [](const TensorSpectrum& spectrum) {
      return std::inner_product(spectrum.singular_values.begin(), spectrum.singular_values.end(),
                                spectrum.singular_values.begin(), 0.0);
    };
    const double keys = energy(text.layers[l].keys);
    EXPECT_NEAR(energy(text.layers[l].rotated_keys), keys, 1e-5 * keys);
  }
}

// cond(W)^2 = cond(W W^T).
TEST(AnalyzeTest, ConditionsAreThoseOfTheWeights) {
  const test::TinyFixture tiny;
  const Analysis analysis = Analysed(tiny, SmallRequest());
  const int64_t n = tiny.config().kv_width();
  const int64_t columns = tiny.config().hidden_size;
  std::vector<double> logs;
  for (int32_t l = 0; l < tiny.config().num_layers; ++l) {
    double log = 0;
    for (const TensorRole role : {TensorRole::kKey, TensorRole::kValue}) {
      const std::vector<float>& weight = tiny.model.Values(role, l);
      std::vector<double> gram(n * n, 0.0);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = i; j < n; ++j)
          for (int64_t c = 0; c < columns; ++c)
            gram[i * n + j] +=
                static_cast<double>(weight[i * columns + c]) * weight[j * columns + c];
      const auto eigen = SymmetricEigen(gram, n);
      ASSERT_TRUE(eigen.ok()) << eigen.status();
      const double expected = std::sqrt(eigen->values.front() / eigen->values.back());
      const LayerConditions& conditions = analysis.conditions[l];
      EXPECT_NEAR(role == TensorRole::kKey ? conditions.key : conditions.value, expected,
                  1e-9 * expected);
      log += std::log(expected);
    }
    logs.push_back(log);
  }
  EXPECT_NEAR(analysis.conditions[1].cumulative_log, logs[1], 1e-8);
  EXPECT_NEAR(analysis.conditions[0].cumulative_log, logs[0] + logs[1], 1e-8);
}

TEST(AnalyzeTest, NothingIsLostWhereEverythingIsKept) {
  const test::TinyFixture tiny;
  for (const KvLayoutKind keys : {KvLayoutKind::kRebuilt, KvLayoutKind::kDirect}) {
    AnalysisRequest request = SmallRequest();
    request.keys = keys;
    request.levels = {1, 0.75, 0.25};
    const TextAnalysis text = Analysed(tiny, request).texts[0];
    EXPECT_GT(text.perplexity, 1);
    ASSERT_EQ(text.truncations.size(), 3u);
    const Truncation& whole = text.truncations[0];
    EXPECT_EQ(whole.level, 1);
    EXPECT_EQ(whole.rank, 32);
    // Two rotations of keys and values in float32, each with some 32 * 2^-24 of rounding.
    EXPECT_NEAR(whole.nd_ppl.value, 0, 1e-4);
    EXPECT_EQ(text.truncations[1].rank, 24);
    EXPECT_EQ(text.truncations[2].rank, 8);
    for (const Truncation& truncation : text.truncations) {
      EXPECT_NEAR(truncation.nd_ppl.value,
                  (truncation.perplexity - text.perplexity) / text.perplexity, 1e-9);
      EXPECT_TRUE(truncation.nd_ppl.interval.has_value());  // two windows
    }
    EXPECT_GT(std::abs(text.truncations[2].nd_ppl.value), 1e-3);
  }
}

TEST(AnalyzeTest, TruncatesOneLayerAtATime) {
  test::TinyModelOptions options;
  options.num_layers = kLeastCorrelationPoints;
  const test::TinyFixture tiny(nullptr, options);
  AnalysisRequest request = SmallRequest();
  request.levels = {};
  request.per_layer = 0.25;
  const TextAnalysis text = Analysed(tiny, request).texts[0];
  EXPECT_TRUE(text.truncations.empty());
  ASSERT_EQ(text.layer_truncations.size(), 5u);
  std::vector<double> losses;
  for (const Truncation& truncation : text.layer_truncations) {
    EXPECT_EQ(truncation.rank, 8);
    losses.push_back(truncation.nd_ppl.value);
  }
  EXPECT_EQ(std::set<double>(losses.begin(), losses.end()).size(), 5u);  // five models
  ASSERT_TRUE(text.layer_correlation.has_value());
  const Correlation expected = Correlate(text.LayerNers(KvLayoutKind::kRebuilt), losses);
  EXPECT_EQ(text.layer_correlation->num_points, 5);
  EXPECT_EQ(text.layer_correlation->pearson, expected.pearson);
  EXPECT_EQ(text.layer_correlation->spearman, expected.spearman);

  request.per_layer = 1;
  const Analysis whole = Analysed(tiny, request);
  for (const Truncation& truncation : whole.texts[0].layer_truncations) {
    EXPECT_NEAR(truncation.nd_ppl.value, 0, 1e-4);
  }
}

// The curve at r is what the plan of rank r is predicted to lose of that tensor.
TEST(AnalyzeTest, LossCurvesAreWhatPlansPredict) {
  const test::TinyFixture tiny;
  AnalysisRequest request = SmallRequest();
  request.levels = {};
  request.gradient_windows = 2;
  const Analysis analysis = Analysed(tiny, request);
  const std::vector<LayerLoss>& losses = analysis.texts[0].losses;
  ASSERT_EQ(std::ssize(losses), tiny.config().num_layers);
  const size_t n = tiny.config().kv_width();
  const Statistics statistics = Collect(tiny, request);
  CompressionOptions options;
  options.anchor = request.anchor;
  options.rank_rule = RankRule::kUniform;
  options.latent_type = SegmentType::kF32;
  const auto spectra = ComputeWeightSpectra(*tiny.checkpoint, nullptr);
  ASSERT_TRUE(spectra.ok()) << spectra.status();
  const auto bases = ComputeBases(*tiny.checkpoint, &statistics, options, nullptr);
  ASSERT_TRUE(bases.ok()) << bases.status();
  for (const double kept : {0.25, 0.5, 1.0}) {
    options.target_kept = kept;
    const auto built = BuildPlan(tiny.config(), *spectra, *bases, options);
    ASSERT_TRUE(built.ok()) << built.status();
    const auto rank = static_cast<size_t>(kept * static_cast<double>(n));
    double sum = 0;
    for (const LayerLoss& layer : losses) sum += layer.keys.at(rank) + layer.values.at(rank);
    EXPECT_NEAR(sum, built->predicted_loss, 1e-12 + 1e-9 * sum);
  }
  for (const LayerLoss& layer : losses) {
    for (const std::vector<double>* curve : {&layer.keys, &layer.values}) {
      ASSERT_EQ(curve->size(), n + 1);
      EXPECT_TRUE(std::is_sorted(curve->rbegin(), curve->rend()));
      EXPECT_GT(curve->front(), 0);
      EXPECT_EQ(curve->back(), 0);
    }
  }
}

TEST(AnalyzeTest, TextsAreComparedOnTheSameNumberOfTokens) {
  const test::TinyFixture tiny;
  AnalysisRequest request = SmallRequest();
  request.texts.push_back({"brief", std::string(test::kHeldOutText.substr(1000, 420))});
  request.own_text = true;
  const Analysis analysis = Analysed(tiny, request);
  ASSERT_EQ(analysis.texts.size(), 3u);
  EXPECT_EQ(analysis.texts[1].name, "brief");
  EXPECT_EQ(analysis.texts[2].name, kOwnTextName);
  EXPECT_LT(analysis.texts[1].num_statistics_tokens, 4 * 128);
  for (const TextAnalysis& text : analysis.texts) {
    EXPECT_EQ(text.num_statistics_tokens, analysis.texts[1].num_statistics_tokens);
    EXPECT_EQ(text.num_measured_tokens, analysis.texts[1].num_measured_tokens);
  }
  EXPECT_NE(analysis.texts[0].layers[0].keys.effective_rank,
            analysis.texts[1].layers[0].keys.effective_rank);
  ASSERT_EQ(analysis.text_correlations.size(), 1u);  // a level
  EXPECT_EQ(analysis.text_correlations[0].num_points, 3);
  EXPECT_FALSE(analysis.text_correlations[0].spearman.has_value());
}

TEST(AnalyzeTest, SaysWhatATextLacks) {
  const test::TinyFixture tiny;
  AnalysisRequest request = SmallRequest();
  request.texts.push_back({"haiku", "the world of dew is a world of dew"});
  auto refused = TryAnalyze(tiny, request);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()),
              AllOf(HasSubstr("haiku has "), HasSubstr("at least 256 are needed"),
                    HasSubstr("2 windows of 128")));

  // Wider than a window: statistics of 256 numbers need two windows of 128 tokens.
  test::TinyModelOptions wide;
  wide.num_kv_heads = wide.num_heads = 16;
  wide.hidden_size = 256;
  request.texts.pop_back();
  request.texts[0].text.resize(256);
  refused = TryAnalyze(test::TinyFixture(nullptr, wide), request);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("at least 384 are needed"));
  request.statistics_windows = 1;
  refused = TryAnalyze(test::TinyFixture(nullptr, wide), request);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()),
              AllOf(HasSubstr("--calibrate-windows"), HasSubstr("256 tokens")));
}

TEST(AnalyzeTest, NamesTheOptionThatIsWrong) {
  const test::TinyFixture tiny;
  const auto expect = [&](const char* part, const auto& edit) {
    AnalysisRequest request = SmallRequest();
    edit(request);
    const auto refused = TryAnalyze(tiny, request);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr(part));
  };
  expect("--window: expected 32 to 512", [](AnalysisRequest& r) { r.window = 513; });
  expect("--window: expected more than the 80", [](AnalysisRequest& r) {
    r.window = 64;
    r.gradient_windows = 1;
  });
  expect("--levels: expected shares in (0, 1], got 0", [](AnalysisRequest& r) { r.levels = {0}; });
  expect("--levels", [](AnalysisRequest& r) { r.levels = {0.5, std::nan("")}; });
  expect("--per-layer", [](AnalysisRequest& r) { r.per_layer = 1.5; });
  expect("--anchor", [](AnalysisRequest& r) { r.anchor = 7; });
}

TEST(AnalyzeTest, NamesTheWeightThatIsNotFinite) {
  const test::TinyFixture tiny([](test::GgufBuilder& gguf) {
    const float nan = std::nanf("");
    std::memcpy(gguf.FindTensor("blk.1.attn_v.weight").data.data() + 40, &nan, sizeof(nan));
  });
  const auto refused = TryAnalyze(tiny, SmallRequest());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("layer 1 W_v: "));
}

}  // namespace
}  // namespace lorc
