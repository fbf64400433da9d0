#include "runtime/compress/build_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "runtime/compress/compress.h"
#include "runtime/compress/linear_algebra.h"
#include "runtime/kv/plan_file.h"
#include "tests/compress/tiny_fixture.h"

namespace lorc {
namespace {

using testing::AllOf;
using testing::HasSubstr;

CompressionOptions LorcOptions() {
  CompressionOptions options;
  options.method = "lorc";
  options.keys = KvLayoutKind::kRebuilt;
  options.rank_rule = RankRule::kProgressive;
  options.min_rank = 8;
  options.latent_type = SegmentType::kBf16;
  options.exact_prefix = 0;
  options.exact_window = 0;
  return options;
}

CompressionOptions KvCoreOptions() {
  CompressionOptions options;
  options.method = "kv-core";
  return options;
}

std::vector<LayerSpectra> Spectra(const test::TinyFixture& tiny) {
  auto spectra = ComputeWeightSpectra(*tiny.checkpoint, nullptr);
  EXPECT_TRUE(spectra.ok()) << spectra.status();
  return *std::move(spectra);
}

Statistics SomeStatistics(const test::TinyFixture& tiny, int32_t anchor) {
  StatisticsOptions options;
  options.anchor = anchor;
  options.gradient_windows = 1;
  options.num_threads = 1;
  auto statistics =
      CollectStatistics(*tiny.checkpoint, {test::TinyTokens(300, 1)}, options, nullptr);
  EXPECT_TRUE(statistics.ok()) << statistics.status();
  return *std::move(statistics);
}

ModelBases Bases(const test::TinyFixture& tiny, const Statistics& statistics,
                 const CompressionOptions& options) {
  auto bases = ComputeBases(*tiny.checkpoint, &statistics, options, nullptr);
  EXPECT_TRUE(bases.ok()) << bases.status();
  return *std::move(bases);
}

BuiltPlan Build(const test::TinyFixture& tiny, const CompressionOptions& options) {
  const Statistics statistics = SomeStatistics(tiny, options.anchor);
  auto built = BuildPlan(tiny.config(), Spectra(tiny), Bases(tiny, statistics, options), options);
  EXPECT_TRUE(built.ok()) << built.status();
  return *std::move(built);
}

// decoder encoder [width, width] of a group.
std::vector<double> Projection(const TensorPlan& tensor, int32_t group, int64_t width) {
  const std::vector<float> decoder = tensor.FullDecoder(static_cast<int32_t>(width));
  const float* down = tensor.encoder.data() + group * tensor.rank * width;
  const float* up = decoder.data() + group * tensor.rank * width;
  std::vector<double> product(width * width, 0.0);
  for (int64_t i = 0; i < width; ++i)
    for (int64_t r = 0; r < tensor.rank; ++r)
      for (int64_t j = 0; j < width; ++j)
        product[i * width + j] +=
            static_cast<double>(up[i * tensor.rank + r]) * down[r * width + j];
  return product;
}

// trace(P C) of a symmetric C whose upper triangle holds: sum over tokens of |P y|^2.
double Energy(const std::vector<double>& projection, const std::vector<double>& moment, int64_t n,
              int64_t first, int64_t width) {
  double sum = 0;
  for (int64_t i = 0; i < width; ++i)
    for (int64_t j = 0; j < width; ++j)
      sum +=
          projection[i * width + j] * moment[(first + std::min(i, j)) * n + first + std::max(i, j)];
  return sum;
}

// Bases are stored in float32, so projections are off by some 32 x 2^-24.
constexpr double kBasis = 1e-5;

// W_k = U_r S_r V_r^T, by another way to U than the plan's: the eigenvectors of W W^T.
TEST(LorcPlanTest, ProjectsTheWeightsOntoTheirLeadingDirections) {
  const test::TinyFixture tiny;
  const int64_t n = tiny.config().kv_width();
  const int64_t columns = tiny.config().hidden_size;
  const BuiltPlan built = Build(tiny, LorcOptions());
  for (int32_t l = 0; l < tiny.config().num_layers; ++l) {
    for (const TensorRole role : {TensorRole::kKey, TensorRole::kValue}) {
      const LayerPlan& layer = built.plan.layers[l];
      const TensorPlan& tensor = role == TensorRole::kKey ? layer.key : layer.value;
      const std::vector<float>& weight = tiny.model.Values(role, l);
      std::vector<double> gram(n * n, 0.0);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j)
          for (int64_t c = 0; c < columns; ++c)
            gram[i * n + j] +=
                static_cast<double>(weight[i * columns + c]) * weight[j * columns + c];
      const auto eigen = SymmetricEigen(gram, n);
      ASSERT_TRUE(eigen.ok()) << eigen.status();
      const std::vector<double> projection = Projection(tensor, 0, n);
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          double expected = 0;
          for (int64_t r = 0; r < tensor.rank; ++r)
            expected += eigen->vectors[r * n + i] * eigen->vectors[r * n + j];
          EXPECT_NEAR(projection[i * n + j], expected, kBasis) << l << ": " << i << ", " << j;
        }
      }
      const auto& s2 = eigen->values;  // singular values squared
      const double kept = std::accumulate(s2.begin(), s2.begin() + tensor.rank, 0.0);
      EXPECT_NEAR(tensor.facts.kept_energy, kept / std::accumulate(s2.begin(), s2.end(), 0.0),
                  1e-9);
      EXPECT_NEAR(tensor.facts.condition_number, std::sqrt(s2.front() / s2.back()), 1e-6);
    }
  }
}

TEST(LorcPlanTest, RanksFollowTheSchedule) {
  const test::TinyFixture tiny;
  const BuiltPlan built = Build(tiny, LorcOptions());
  const KvPlan& plan = built.plan;
  EXPECT_EQ(plan.method, "lorc");
  EXPECT_EQ(plan.anchor, 0);  // its keys are rebuilt
  EXPECT_EQ(built.ranks[0].key, 32);
  EXPECT_EQ(built.ranks[1].key, 8);
  EXPECT_EQ(plan.layers[0].key.rank, 32);
  EXPECT_EQ(plan.layers[1].value.rank, 8);
  EXPECT_EQ(plan.layers[1].key.layout, KvLayoutKind::kRebuilt);
  EXPECT_EQ(plan.layers[1].value.layout, KvLayoutKind::kDirect);
  EXPECT_EQ(plan.BytesPerToken(), 2 * (32 + 8) * 2);

  CompressionOptions options = LorcOptions();
  options.threshold = 0;  // any layer has more
  const KvPlan left_alone = Build(tiny, options).plan;
  EXPECT_EQ(left_alone.layers[1].key.layout, KvLayoutKind::kFull);
  EXPECT_TRUE(left_alone.layers[1].key.encoder.empty());
}

// The best of its rank for the tokens: what it loses is the eigenvalues it leaves out.
TEST(KvCorePlanTest, KeepsTheLargestEigenvaluesOfEveryGroup) {
  const test::TinyFixture tiny;
  const int64_t n = tiny.config().kv_width();
  for (const int32_t groups : {1, 2}) {
    CompressionOptions options = KvCoreOptions();
    options.groups = groups;
    options.target_kept = 0.5;
    options.anchor = 64;
    const Statistics statistics = SomeStatistics(tiny, options.anchor);
    const auto built =
        BuildPlan(tiny.config(), Spectra(tiny), Bases(tiny, statistics, options), options);
    ASSERT_TRUE(built.ok()) << built.status();
    EXPECT_EQ(built->plan.anchor, 64);
    const int64_t width = n / groups;
    for (int32_t l = 0; l < tiny.config().num_layers; ++l) {
      for (const bool is_key : {true, false}) {
        const LayerPlan& layer = built->plan.layers[l];
        const TensorPlan& tensor = is_key ? layer.key : layer.value;
        const auto& moment =
            is_key ? statistics.layers[l].all.anchored_keys : statistics.layers[l].all.values;
        ASSERT_EQ(tensor.groups, groups);
        ASSERT_EQ(tensor.rank, 16 / groups);
        double kept = 0, total = 0;
        for (int32_t group = 0; group < groups; ++group) {
          std::vector<double> block;
          for (int64_t i = 0; i < width; ++i)
            for (int64_t j = 0; j < width; ++j)
              block.push_back(moment[(group * width + i) * n + group * width + j]);
          const auto eigen = SymmetricEigen(block, width);
          ASSERT_TRUE(eigen.ok()) << eigen.status();
          const double best =
              std::accumulate(eigen->values.begin(), eigen->values.begin() + tensor.rank, 0.0);
          const auto projection = Projection(tensor, group, width);
          const double energy = Energy(projection, moment, n, group * width, width);
          EXPECT_NEAR(energy, best, kBasis * best);
          kept += best;
          total += std::accumulate(eigen->values.begin(), eigen->values.end(), 0.0);
        }
        EXPECT_NEAR(tensor.facts.kept_energy, kept / total, 1e-9);
      }
    }
  }
}

TEST(BuildPlanTest, FullRankIsTheIdentity) {
  const test::TinyFixture tiny;
  CompressionOptions lorc = LorcOptions();
  lorc.min_rank = 32;
  std::vector<CompressionOptions> cases = {lorc};
  for (const Method& method : Methods()) {
    for (const int32_t groups : {1, 2}) {
      CompressionOptions options;
      options.method = method.name;
      options.groups = groups;
      options.target_kept = 1;
      cases.push_back(options);
    }
  }
  for (const CompressionOptions& options : cases) {
    SCOPED_TRACE(options.method);
    const KvPlan plan = Build(tiny, options).plan;
    const int64_t width = tiny.config().kv_width() / options.groups;
    for (const LayerPlan& layer : plan.layers) {
      for (const TensorPlan* tensor : {&layer.key, &layer.value}) {
        ASSERT_EQ(tensor->rank, width);
        EXPECT_NEAR(tensor->facts.kept_energy, 1, 1e-12);
        for (int32_t group = 0; group < options.groups; ++group) {
          const auto projection = Projection(*tensor, group, width);
          for (int64_t i = 0; i < width * width; ++i)
            EXPECT_NEAR(projection[i], i / width == i % width, 10 * kBasis);
        }
      }
    }
  }
}

TEST(BuildPlanTest, SegmentsCutTheRank) {
  const test::TinyFixture tiny;
  CompressionOptions options = KvCoreOptions();
  options.segment_width = 16;
  const TensorPlan key = Build(tiny, options).plan.layers[0].key;
  EXPECT_EQ(key.rank, 24);
  const std::vector<CacheSegment> expected = {{SegmentType::kInt8, 16}, {SegmentType::kInt8, 8}};
  EXPECT_EQ(key.segments, expected);
  EXPECT_EQ(key.BytesPerToken(), 24 + 2 * 4);
  options.latent_type = SegmentType::kBf16;
  EXPECT_EQ(Build(tiny, options).plan.layers[0].key.segments.size(), 1);
}

TEST(BuildPlanTest, FullKeepsAllNumbers) {
  const test::TinyFixture tiny;
  CompressionOptions options;
  options.method = "full";
  options.latent_type = SegmentType::kInt3;
  options.segment_width = 8;
  const auto plan = BuildFullPlan(tiny.config(), options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->method, "full");
  EXPECT_EQ(plan->exact_prefix, options.exact_prefix);
  EXPECT_EQ(plan->exact_window, options.exact_window);
  EXPECT_EQ(plan->anchor, 0);
  EXPECT_EQ(plan->BytesPerToken(), 2 * 2 * 2 * 2 * (3 + 4));
  options.latent_type = SegmentType::kFp8;
  EXPECT_EQ(BuildFullPlan(tiny.config(), options)->layers[0].key.segments.size(), 1);
  options.exact_window = 40;
  EXPECT_THAT(std::string(BuildFullPlan(tiny.config(), options).status().message()),
              HasSubstr("--exact-window"));
}

TEST(BuildPlanTest, MixedBitsKeepToTheBytes) {
  const test::TinyFixture tiny;
  CompressionOptions options;
  options.segment_width = 8;
  const ByteRange range = MixedByteRange(tiny.config(), options);
  EXPECT_EQ(range.least, 4 * (2 + 4));  // K and V of two layers, a segment of 2 bits each
  for (const int64_t bytes : {range.least, int64_t{90}, int64_t{150}}) {
    options.bytes_per_token = bytes;
    const BuiltPlan built = Build(tiny, options);
    EXPECT_LE(built.plan.BytesPerToken(), bytes);
    EXPECT_GT(built.plan.BytesPerToken(), bytes - 8);  // less than any step would take
    EXPECT_GT(built.predicted_loss, 0);
  }
  options.bytes_per_token = range.least - 1;
  const Statistics statistics = SomeStatistics(tiny, options.anchor);
  const auto built =
      BuildPlan(tiny.config(), Spectra(tiny), Bases(tiny, statistics, options), options);
  EXPECT_EQ(built.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(built.status().message()), HasSubstr(std::to_string(range.least)));
}

// Half the Fisher information's share of what is left out, in nats per token: by hand from the
// plan's own bases.
TEST(BuildPlanTest, PredictsTheLossOfWhatItLeavesOut) {
  const test::TinyFixture tiny;
  CompressionOptions options;
  options.target_kept = 0.5;
  options.latent_type = SegmentType::kF32;
  const Statistics statistics = SomeStatistics(tiny, options.anchor);
  const auto built =
      BuildPlan(tiny.config(), Spectra(tiny), Bases(tiny, statistics, options), options);
  ASSERT_TRUE(built.ok()) << built.status();
  const int64_t n = tiny.config().kv_width();
  double loss = 0;
  for (int32_t l = 0; l < tiny.config().num_layers; ++l) {
    const LayerStatistics& layer = statistics.layers[l];
    for (const bool is_key : {true, false}) {
      const auto& c = is_key ? layer.far.anchored_keys : layer.far.values;
      const auto& g = is_key ? layer.gradients.anchored_keys : layer.gradients.values;
      const auto p =
          Projection(is_key ? built->plan.layers[l].key : built->plan.layers[l].value, 0, n);
      const auto at = [n](const std::vector<double>& m, int64_t i, int64_t j) {
        return m[std::min(i, j) * n + std::max(i, j)];
      };
      // tr(G (I - P) C (I - P)^T)
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j)
          for (int64_t k = 0; k < n; ++k)
            for (int64_t m = 0; m < n; ++m)
              loss +=
                  at(g, i, j) * ((j == k) - p[j * n + k]) * at(c, k, m) * ((i == m) - p[i * n + m]);
    }
  }
  loss *= 0.5 / static_cast<double>(statistics.num_far_tokens) /
          static_cast<double>(statistics.num_gradient_tokens);
  EXPECT_NEAR(built->predicted_loss, loss, 1e-3 * loss);
}

TEST(BuildPlanTest, SimilarHeadsAreReordered) {
  const test::TinyFixture tiny;
  CompressionOptions options = KvCoreOptions();
  options.group_similar_heads = true;
  const KvPlan plan = Build(tiny, options).plan;
  for (const LayerPlan& layer : plan.layers) {
    EXPECT_THAT(layer.head_order, testing::UnorderedElementsAre(0, 1));
  }
  EXPECT_TRUE(WritePlan(plan, tiny.folder.File("ordered")).ok());
  const auto read = ReadPlan(tiny.folder.File("ordered"));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->layers[1].head_order, plan.layers[1].head_order);
}

TEST(BuildPlanTest, OptionsAreChecked) {
  const test::TinyFixture tiny;
  const auto message = [&](CompressionOptions options,
                           const std::function<void(CompressionOptions&)>& edit) {
    edit(options);
    const absl::Status status = options.Validate(tiny.config());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  const CompressionOptions kv_core = KvCoreOptions(), lorc = LorcOptions();
  EXPECT_TRUE(kv_core.Validate(tiny.config()).ok());
  EXPECT_TRUE(lorc.Validate(tiny.config()).ok());
  for (const double kept : {0.0, -1.0, 1.5, double{NAN}}) {
    EXPECT_THAT(message(kv_core, [&](auto& o) { o.target_kept = kept; }),
                AllOf(HasSubstr("--target-kept"), HasSubstr("(0, 1]"), HasSubstr("got ")));
  }
  EXPECT_THAT(message(kv_core, [](auto& o) { o.groups = 3; }), HasSubstr("divisor of 2"));
  EXPECT_THAT(message(kv_core, [](auto& o) { o.groups = 0; }), HasSubstr("got 0"));
  EXPECT_THAT(message(kv_core, [](auto& o) { o.anchor = 7; }), HasSubstr("--anchor"));
  EXPECT_THAT(message(kv_core, [](auto& o) { o.anchor = 1 << 24; }), HasSubstr("up to 1048576"));
  EXPECT_THAT(message(kv_core, [](auto& o) { o.exact_window = -16; }), HasSubstr("got -16"));
  EXPECT_THAT(message(kv_core, [](auto& o) { o.segment_width = 12; }), HasSubstr("got 12"));
  EXPECT_THAT(message(kv_core, [](auto& o) { o.min_rank = 8; }), HasSubstr("progressive"));
  EXPECT_THAT(message(lorc, [](auto& o) { o.min_rank = 33; }), HasSubstr("1 to 32, got 33"));
  EXPECT_THAT(message(lorc, [](auto& o) { o.threshold = NAN; }), HasSubstr("--threshold"));
  EXPECT_THAT(message(kv_core, [](auto& o) { o.tail_energy = 1; }), HasSubstr("--tail-energy"));
  EXPECT_THAT(message(kv_core, [](auto& o) { o.method = "palu"; }),
              AllOf(HasSubstr("full, lorc, kv-core, kq-svd, think, loss"), HasSubstr("got palu")));
}

// The first of two layers keeps all: half of the ranks are out of reach.
TEST(BuildPlanTest, ProgressiveRanksSayWhatTheyCannotReach) {
  const test::TinyFixture tiny;
  CompressionOptions options = LorcOptions();
  options.min_rank.reset();
  options.target_kept = 0.4;
  const absl::Status status = CheckSpectra(tiny.config(), Spectra(tiny), options);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("--target-kept"), HasSubstr("0.516"), HasSubstr("--ranks uniform")));
  options.target_kept = 0.6;
  EXPECT_TRUE(CheckSpectra(tiny.config(), Spectra(tiny), options).ok());
}

void SetFloats(test::GgufBuilder& gguf, const std::string& tensor, size_t first, size_t count,
               float value) {
  std::string& data = gguf.FindTensor(tensor).data;
  for (size_t i = first; i < first + count; ++i)
    std::memcpy(data.data() + i * sizeof(float), &value, sizeof(float));
}

TEST(BuildPlanTest, WeightsThatAreNotFiniteAreNamed) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::nanf(""), infinity}) {
    const test::TinyFixture tiny(
        [&](test::GgufBuilder& gguf) { SetFloats(gguf, "blk.1.attn_v.weight", 70, 1, bad); });
    const auto spectra = ComputeWeightSpectra(*tiny.checkpoint, nullptr);
    EXPECT_EQ(spectra.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(spectra.status().message()),
                AllOf(HasSubstr("layer 1 W_v"), HasSubstr("finite"), HasSubstr("row 1, column 6")));
    CompressRequest request;
    request.window = 96;
    const auto compressed =
        Compress(*tiny.backend, *tiny.checkpoint, *tiny.tokenizer, request, nullptr);
    EXPECT_THAT(std::string(compressed.status().message()), HasSubstr("layer 1 W_v"));
  }
  // Other tensors are found where the model is loaded.
  const test::TinyFixture tiny(
      [](test::GgufBuilder& gguf) { SetFloats(gguf, "blk.1.ffn_up.weight", 5, 1, std::nanf("")); });
  CompressRequest request;
  request.window = 96;
  const auto compressed =
      Compress(*tiny.backend, *tiny.checkpoint, *tiny.tokenizer, request, nullptr);
  EXPECT_EQ(compressed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(compressed.status().message()),
              AllOf(HasSubstr("layer 1"), HasSubstr("not finite")));
}

// A weight of zeros has no condition number; kv-core does without.
TEST(BuildPlanTest, WeightsWithoutFullRank) {
  const test::TinyFixture tiny(
      [](test::GgufBuilder& gguf) { SetFloats(gguf, "blk.0.attn_k.weight", 0, 32 * 64, 0); });
  const absl::Status status = CheckSpectra(tiny.config(), Spectra(tiny), LorcOptions());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("layer 0 W_k"), HasSubstr("--ranks uniform")));
  const BuiltPlan built = Build(tiny, KvCoreOptions());
  EXPECT_EQ(built.plan.layers[0].key.facts.condition_number, 0);
  EXPECT_TRUE(WritePlan(built.plan, tiny.folder.File("plan")).ok());
  EXPECT_TRUE(ReadPlan(tiny.folder.File("plan")).ok());
}

CompressRequest TinyRequest() {
  CompressRequest request;
  request.window = 64;
  request.calibration_windows = 3;
  request.gradient_windows = 2;
  request.measure_windows = 2;
  request.weight_type = DType::kF32;
  request.options.exact_window = 16;
  return request;
}

TEST(CompressTest, TextsThatAreTooShortAreRefused) {
  const test::TinyFixture tiny;
  CompressRequest request = TinyRequest();
  request.text = "the world";
  const auto result = Compress(*tiny.backend, *tiny.checkpoint, *tiny.tokenizer, request, nullptr);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(result.status().message()),
              AllOf(HasSubstr("0 whole windows"), HasSubstr("at least 2"),
                    HasSubstr("longer text or a smaller --window")));
}

TEST(CompressTest, IsDeterministicAndSaysWhatItMeasured) {
  const test::TinyFixture tiny;
  CompressRequest request = TinyRequest();  // without text: the model writes its own
  std::vector<std::string> headers;
  for (int i = 0; i < 2; ++i) {
    const auto result =
        Compress(*tiny.backend, *tiny.checkpoint, *tiny.tokenizer, request, nullptr);
    ASSERT_TRUE(result.ok()) << result.status();
    headers.push_back(PlanHeaderJson(result->plan));
    EXPECT_EQ(result->plan.measured.num_tokens, 2 * 64);
    EXPECT_EQ(result->plan.measured.perplexity, result->compressed.perplexity);
    EXPECT_EQ(result->plan.base_fingerprint, tiny.checkpoint->Fingerprint());
    EXPECT_GT(result->full.num_recall_passages, 0);
  }
  EXPECT_EQ(headers[0], headers[1]);
  request.seed = 1;
  const auto other = Compress(*tiny.backend, *tiny.checkpoint, *tiny.tokenizer, request, nullptr);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_NE(PlanHeaderJson(other->plan), headers[0]);
}

}  // namespace
}  // namespace lorc
