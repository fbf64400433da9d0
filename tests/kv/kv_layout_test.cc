#include "runtime/kv/kv_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/kv/plan_fixture.h"
#include "tests/support/tiny_model.h"

namespace lorc {
namespace {

using testing::HasSubstr;

ModelConfig TinyConfig() { return test::TinyModel().config(); }

TEST(KvPlanTest, FullPlanHasTheFullBytes) {
  const ModelConfig config = TinyConfig();
  const KvPlan plan = KvPlan::Full(config, SegmentType::kBf16);
  EXPECT_TRUE(plan.Validate(config).ok());
  EXPECT_EQ(plan.BytesPerToken(), 2 * config.num_layers * config.kv_width() * 2);
  EXPECT_EQ(KvPlan::Full(config, SegmentType::kF32).BytesPerToken(), 2 * plan.BytesPerToken());
}

TEST(KvPlanTest, ValidateSaysWhatIsWrong) {
  const ModelConfig config = TinyConfig();
  const auto message = [&](const std::function<void(KvPlan&)>& edit) {
    KvPlan plan = test::SmallPlan();
    edit(plan);
    return std::string(plan.Validate(config).message());
  };
  EXPECT_EQ(message([](KvPlan&) {}), "");
  EXPECT_THAT(message([](KvPlan& p) { p.layers.pop_back(); }), HasSubstr("1 layers, the model 2"));
  EXPECT_THAT(message([](KvPlan& p) { p.exact_window = 40; }), HasSubstr("exact_window"));
  EXPECT_THAT(message([](KvPlan& p) { p.anchor = 8; }), HasSubstr("anchor"));
  EXPECT_THAT(message([](KvPlan& p) { p.layers[0].key.groups = 3; }), HasSubstr("groups"));
  EXPECT_THAT(message([](KvPlan& p) { p.layers[0].key.rank = 40; }), HasSubstr("rank 40"));
  EXPECT_THAT(message([](KvPlan& p) { p.layers[0].key.segments[0].width = 12; }),
              HasSubstr("multiples of 8"));
  EXPECT_THAT(message([](KvPlan& p) { p.layers[0].key.segments.pop_back(); }),
              HasSubstr("segments"));
  EXPECT_THAT(message([](KvPlan& p) { p.layers[0].value.layout = KvLayoutKind::kRebuilt; }),
              HasSubstr("only keys"));
  EXPECT_THAT(message([](KvPlan& p) { p.layers[0].key.encoder.pop_back(); }), HasSubstr("bases"));
  EXPECT_THAT(message([](KvPlan& p) { p.layers[0].key.decoder[3] = NAN; }),
              HasSubstr("not finite"));
  EXPECT_THAT(message([](KvPlan& p) { p.layers[1].value.encoder = {1.0f}; }), HasSubstr("full"));
}

TEST(KvPlanTest, BaseIsCheckedByFingerprint) {
  const KvPlan plan = test::SmallPlan();
  EXPECT_TRUE(plan.CheckBase(plan.base_fingerprint, "anything").ok());
  const absl::Status other = plan.CheckBase("ffff", "other");
  EXPECT_EQ(other.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(other.message()), HasSubstr("0123456789abcdef0123456789abcdef"));
  EXPECT_THAT(std::string(other.message()), HasSubstr("ffff"));
}

TEST(KvLayoutTest, BytesFollowFromSegments) {
  const ModelConfig config = TinyConfig();
  const auto layout = MakeKvLayout(test::SmallPlan(), config, 16, DType::kBf16);
  ASSERT_TRUE(layout.ok()) << layout.status();
  EXPECT_EQ(layout->BytesPerToken(), test::SmallPlan().BytesPerToken());
  EXPECT_EQ(layout->geometry.latent_block_bytes, 16 * test::SmallPlan().BytesPerToken());
  EXPECT_EQ(layout->geometry.exact_block_bytes, 16 * 2 * 2 * 32 * 2);
  EXPECT_EQ(layout->geometry.full_bytes_per_token, 2 * 2 * 32 * 2);
  EXPECT_EQ(layout->geometry.prefix_blocks, 1);
  EXPECT_EQ(layout->geometry.window_blocks, 2);
  EXPECT_EQ(layout->layers[0].anchor, 64);
  EXPECT_EQ(layout->layers[1].anchor, 1);  // rebuilt keys are not rotated
  const auto full =
      MakeKvLayout(KvPlan::Full(config, SegmentType::kBf16), config, 16, DType::kBf16);
  EXPECT_EQ(full->geometry.exact_block_bytes, 0);
  EXPECT_EQ(full->layers[0].anchor, 0);
}

// The widths of all segments times their bits, and 4 bytes for each that has a scale.
TEST(KvLayoutTest, MixedSegmentsTakeWhatTheyHold) {
  const KvPlan plan = test::MixedPlan();
  const auto layout = MakeKvLayout(plan, TinyConfig(), 16, DType::kBf16);
  ASSERT_TRUE(layout.ok()) << layout.status();
  const int64_t bytes = (12 + 8 + 6) + (7 + 8) + 2 * 7 + 2 * 12;
  EXPECT_EQ(plan.BytesPerToken(), bytes);
  EXPECT_EQ(layout->BytesPerToken(), bytes);
  EXPECT_EQ(layout->geometry.latent_block_bytes, 16 * bytes);
}

TEST(KvPlanTest, FullPlansOfEveryType) {
  const ModelConfig config = TinyConfig();
  for (const SegmentType type : kSegmentTypes) {
    const KvPlan plan = KvPlan::Full(config, type, 8);
    EXPECT_TRUE(plan.Validate(config).ok()) << Name(type);
    EXPECT_EQ(plan.layers[0].key.segments, (std::vector<CacheSegment>{{type, 8}, {type, 8}}));
    const CacheSegment half{type, 8};  // of a head
    EXPECT_EQ(plan.BytesPerToken(),
              2 * config.num_layers * config.num_kv_heads * 2 * half.BytesPerToken());
  }
  const std::vector<CacheSegment> uneven = {
      {SegmentType::kInt4, 32}, {SegmentType::kInt4, 32}, {SegmentType::kInt4, 16}};
  EXPECT_EQ(EqualSegments(SegmentType::kInt4, 80, 32), uneven);
}

TEST(KvLayoutTest, WindowsAreWholeBlocks) {
  const auto layout = MakeKvLayout(test::SmallPlan(), TinyConfig(), 32, DType::kBf16);
  EXPECT_THAT(std::string(layout.status().message()), HasSubstr("exact prefix of 16"));
  EXPECT_FALSE(MakeKvLayout(test::SmallPlan(), TinyConfig(), 24, DType::kBf16).ok());
}

TEST(KvLayoutTest, WeightsGiveLatentsOnlyWithoutExactTokens) {
  KvPlan plan = test::SmallPlan();
  EXPECT_FALSE(WeightsGiveLatents(plan, plan.layers[1].key, true));
  plan.exact_prefix = plan.exact_window = 0;
  EXPECT_TRUE(WeightsGiveLatents(plan, plan.layers[1].key, true));   // rebuilt key
  EXPECT_FALSE(WeightsGiveLatents(plan, plan.layers[0].key, true));  // RoPE comes first
  EXPECT_TRUE(WeightsGiveLatents(plan, plan.layers[0].value, false));
  EXPECT_FALSE(WeightsGiveLatents(plan, plan.layers[1].value, false));  // full
}

KvGeometry Geometry() {
  KvGeometry geometry;
  geometry.prefix_blocks = 1;
  geometry.window_blocks = 4;
  geometry.latent_block_bytes = 1000;
  geometry.exact_block_bytes = 5000;
  return geometry;
}

TEST(SizePoolsTest, FillsTheBudgetAndNoMore) {
  for (int64_t budget = 300'000; budget < 5'000'000; budget += 77'777) {
    KvGeometry geometry = Geometry();
    const PoolRequest request{budget, 8, 2048, 256};
    ASSERT_TRUE(SizePools(request, &geometry).ok()) << budget;
    const int64_t bytes = geometry.num_latent_blocks * geometry.latent_block_bytes +
                          geometry.num_exact_blocks * geometry.exact_block_bytes;
    EXPECT_LE(bytes, budget);
    EXPECT_GT(bytes, budget - geometry.latent_block_bytes);
    // One longest request always fits.
    EXPECT_GE(geometry.num_latent_blocks, geometry.LatentBlocks(2048));
    EXPECT_GE(geometry.num_exact_blocks, 5 + geometry.ExactHeadroom(256));
    EXPECT_LE(geometry.num_exact_blocks, 8 * 5 + geometry.ExactHeadroom(256));
    // Exact blocks leave room for latents: most of what an ideal split would hold.
    const int64_t ideal = (budget - geometry.ExactHeadroom(256) * geometry.exact_block_bytes) /
                          geometry.BytesPromised(2048);
    EXPECT_GE(ConcurrentSequences(geometry, 2048, 256),
              std::min<int64_t>(8, std::max<int64_t>(1, ideal * 8 / 10)));
  }
}

TEST(SizePoolsTest, TooSmallABudgetIsRefusedWithTheArithmetic) {
  KvGeometry geometry = Geometry();
  // 124 latent blocks, 5 exact ones and 16 of a step.
  const int64_t needed = 124 * 1000 + (5 + 16) * 5000;
  EXPECT_TRUE(SizePools({needed, 8, 2048, 256}, &geometry).ok());
  const absl::Status refused = SizePools({needed - 1, 8, 2048, 256}, &geometry);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr(std::to_string(needed)));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--kv-budget-bytes"));
}

TEST(SizePoolsTest, WithoutExactTokensAllIsLatent) {
  KvGeometry geometry;
  geometry.latent_block_bytes = 1000;
  ASSERT_TRUE(SizePools({100'500, 8, 1024, 256}, &geometry).ok());
  EXPECT_EQ(geometry.num_exact_blocks, 0);
  EXPECT_EQ(geometry.num_latent_blocks, 100);
  EXPECT_EQ(ConcurrentSequences(geometry, 512, 256), 3);
}

}  // namespace
}  // namespace lorc
