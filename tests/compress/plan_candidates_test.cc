#include "runtime/compress/plan_candidates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/compress/compress.h"
#include "runtime/kv/kv_layout.h"
#include "tests/compress/held_out_text.h"
#include "tests/compress/tiny_fixture.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using testing::HasSubstr;

// ---- Costs, of two layers, four query heads and two KV heads of 16

TensorPlan Tensor(KvLayoutKind layout, int32_t groups, int32_t rank) {
  TensorPlan tensor;
  tensor.layout = layout;
  tensor.groups = groups;
  tensor.rank = rank;
  tensor.segments = {{SegmentType::kInt8, rank}};
  tensor.encoder.resize(32 * rank);
  tensor.decoder.resize(32 * rank);
  return tensor;
}

KvPlan Plan(KvLayoutKind keys, int32_t groups, int32_t key_rank, int32_t value_rank) {
  KvPlan plan;
  plan.method = "loss";
  plan.exact_prefix = 16;
  plan.exact_window = 64;
  plan.anchor = keys == KvLayoutKind::kDirect ? 128 : 0;
  plan.layers.assign(
      2, {Tensor(keys, groups, key_rank), Tensor(KvLayoutKind::kDirect, groups, value_rank)});
  return plan;
}

DecodeCost Cost(const KvPlan& plan, int64_t context) {
  const auto cost = FindDecodeCost(plan, test::TinyModel().config(), DType::kBf16, context);
  EXPECT_OK(cost);
  return cost.value_or(DecodeCost());
}

TEST(DecodeCostTest, OfAFullCache) {
  const DecodeCost cost = Cost(KvPlan::Full(test::TinyModel().config(), SegmentType::kBf16), 300);
  EXPECT_EQ(cost.multiply_adds, 2 * 300 * 4 * 16 * 2);
  EXPECT_EQ(cost.cache_bytes, 300 * 2 * 2 * 32 * 2);
}

// Of 404 tokens block 25 is being filled, so blocks 22 to 25 are the window's and 1 to 21 latent.
constexpr int64_t kLatent = 21 * 16;
constexpr int64_t kExact = 404 - kLatent;

TEST(DecodeCostTest, OfDirectKeys) {
  const DecodeCost cost = Cost(Plan(KvLayoutKind::kDirect, 1, 24, 8), 404);
  const int64_t exact = 2 * 4 * 16 * kExact;
  const int64_t scores = 4 * 24 * kLatent + 3 * 4 * 16 * 24;  // positions 16..351: three chunks
  const int64_t sums = 4 * 8 * kLatent + 4 * 16 * 8;
  const int64_t encoders = 32 * (24 + 8);
  EXPECT_EQ(cost.multiply_adds, 2 * (exact + scores + sums + encoders));
  EXPECT_EQ(cost.cache_bytes, 2 * (kLatent * (24 + 4 + 8 + 4) + kExact * 2 * 32 * 2));
  // A group for each KV head: as many columns per query head, encoders half as tall.
  const DecodeCost heads = Cost(Plan(KvLayoutKind::kDirect, 2, 16, 8), 404);
  EXPECT_EQ(heads.multiply_adds,
            2 * (exact + 4 * (16 + 8) * kLatent + 4 * 16 * (3 * 16 + 8) + 32 * (16 + 8)));
}

TEST(DecodeCostTest, OfRebuiltKeys) {
  const int64_t attention = 2 * 4 * 16 * 404;
  // One group of s = 2 heads: s d r for each latent token.
  EXPECT_EQ(Cost(Plan(KvLayoutKind::kRebuilt, 1, 24, 8), 404).multiply_adds,
            2 * (attention + 2 * 16 * (24 + 8) * kLatent + 32 * (24 + 8)));
  // Two groups of one.
  EXPECT_EQ(Cost(Plan(KvLayoutKind::kRebuilt, 2, 16, 8), 404).multiply_adds,
            2 * (attention + 2 * 1 * 16 * (16 + 8) * kLatent + 32 * (16 + 8)));
}

TEST(DecodeCostTest, OfAShortContextIsExact) {
  const DecodeCost cost = Cost(Plan(KvLayoutKind::kDirect, 1, 24, 8), 40);
  EXPECT_EQ(cost.multiply_adds, 2 * (2 * 4 * 16 * 40 + 32 * (24 + 8)));
  EXPECT_EQ(cost.cache_bytes, 40 * 2 * 2 * 32 * 2);
}

// ---- The list

class PlanCandidatesTest : public testing::Test {
 protected:
  PlanCandidatesTest() {
    options_.segment_width = 8;
    options_.bytes_per_token = 100;
    search_.context = 512;
    search_.keys = {KvLayoutKind::kDirect, KvLayoutKind::kRebuilt};
  }

  absl::StatusOr<std::vector<KvPlanCandidate>> List(int32_t window = 1024) const {
    return ListCandidates(tiny_.config(), options_, search_, DType::kBf16, window);
  }

  // Blocks of 16 tokens: bytes of exact ones, and of latents at 100 bytes.
  static constexpr int64_t kExactBlock = 16 * 2 * 2 * 32 * 2;
  static constexpr int64_t kAsked = 28 * 16 * 100 + 5 * kExactBlock;

  test::TinyFixture tiny_;
  CompressionOptions options_;
  CandidateSearch search_;
};

TEST_F(PlanCandidatesTest, ShareTheBytesOfASequence) {
  const auto listed = List();
  ASSERT_OK(listed);
  ASSERT_EQ(listed->size(), 4 * 3 + 4);
  std::map<int32_t, int64_t> latent_blocks = {{32, 30}, {64, 28}, {128, 24}, {256, 16}};
  for (const KvPlanCandidate& candidate : *listed) {
    const int32_t window = candidate.exact_window;
    SCOPED_TRACE(window);
    const int64_t exact = (window / 16 + 1) * kExactBlock;
    if (window == 256) {
      EXPECT_THAT(candidate.excluded, HasSubstr("leave 0 bytes per token, at least 24"));
      continue;
    }
    EXPECT_EQ(candidate.excluded, "");
    EXPECT_EQ(candidate.bytes_per_token, (kAsked - exact) / (16 * latent_blocks.at(window)));
    if (window == 64) {
      EXPECT_EQ(candidate.bytes_per_token, 100);
    }
  }
}

TEST_F(PlanCandidatesTest, TheOptionsOwnAreAmongThem) {
  options_.exact_window = 48;
  options_.anchor = 64;
  search_.keys = {KvLayoutKind::kDirect};
  const auto listed = List();
  ASSERT_OK(listed);
  EXPECT_EQ(listed->size(), 5 * 4);
  const auto own = std::find_if(listed->begin(), listed->end(), [](const KvPlanCandidate& one) {
    return one.exact_window == 48 && one.anchor == 64;
  });
  ASSERT_NE(own, listed->end());
  EXPECT_EQ(own->bytes_per_token, 100);
}

TEST_F(PlanCandidatesTest, WindowsTooShortForThemExclude) {
  const auto listed = List(144);
  ASSERT_OK(listed);
  for (const KvPlanCandidate& candidate : *listed) {
    if (candidate.exact_window == 128) {
      EXPECT_THAT(candidate.excluded, HasSubstr("no tokens beyond the exact ones in --window 144"));
    } else if (candidate.exact_window < 128) {
      EXPECT_EQ(candidate.excluded.empty(), candidate.anchor <= 144) << candidate.excluded;
    }
  }
  EXPECT_THAT(List(40), test::FailsWith(absl::StatusCode::kFailedPrecondition,
                                        std::vector<std::string>{
                                            "no candidate is left", "--window",
                                            "rebuilt keys, window 32, anchor 0: no tokens"}));
}

TEST_F(PlanCandidatesTest, PassesShareWindows) {
  const auto listed = List(288);  // without anchor 1024 and window 256
  ASSERT_OK(listed);
  StatisticsOptions gather;
  gather.gradient_windows = 3;
  gather.resume_path = "file";
  const auto passes = CandidatePasses(*listed, gather);
  ASSERT_EQ(passes.size(), 3);
  for (const auto& pass : passes) {
    ASSERT_EQ(pass.size(), 2);
    EXPECT_EQ(pass[0].anchor, 128);
    EXPECT_EQ(pass[1].anchor, 256);
    EXPECT_EQ(pass[0].exact_window, pass[1].exact_window);
    EXPECT_EQ(pass[0].gradient_windows, 3);
  }
  EXPECT_EQ(passes[1][1].resume_path, "file.window64.anchor256");
}

TEST_F(PlanCandidatesTest, RefusesWhatItCannotCompare) {
  const auto refused = [&](const std::vector<std::string>& parts) {
    EXPECT_THAT(List(), test::IsInvalid(parts));
  };
  for (const int32_t context : {80, 0, -1, 513}) {
    search_.context = context;
    refused({"--context: expected more than the 80", "512", "got " + std::to_string(context)});
  }
  search_.context = 512;
  for (const double most : {0.0, -1.0, HUGE_VAL, std::nan("")}) {
    search_.max_decode_macs = most;
    refused({"--max-decode-macs"});
  }
  search_.max_decode_macs.reset();
  options_.method = "kv-core";
  refused({"--search: expected method loss", "got kv-core"});
  options_.method = "full";
  refused({"--search: expected method loss", "got full"});
  options_.method = "loss";
  options_.bytes_per_token.reset();
  refused({"--search: expected --bytes-per-token", "rank options"});
}

// ---- The search

class SearchTest : public PlanCandidatesTest {
 protected:
  SearchTest() {
    request_.options = options_;
    request_.search = search_;
    request_.text = test::kHeldOutText;
    request_.window = 288;
    request_.calibration_windows = 2;
    request_.gradient_windows = 1;
    request_.measure_windows = 2;
  }

  absl::StatusOr<CompressResult> Search() {
    return Compress(*tiny_.backend, *tiny_.checkpoint, *tiny_.tokenizer, request_, nullptr);
  }

  CompressRequest request_;
};

TEST_F(SearchTest, WritesTheBestThatWasMeasured) {
  const auto result = Search();
  ASSERT_OK(result);
  std::vector<double> left_out, measured;
  const KvPlanCandidate* best = nullptr;
  const KvPlanCandidate* chosen = nullptr;
  for (const KvPlanCandidate& candidate : result->candidates) {
    if (!candidate.excluded.empty()) {
      EXPECT_FALSE(candidate.chosen || candidate.measured.has_value());
      continue;
    }
    // Within one step, a segment's, of what was asked for.
    EXPECT_LE(candidate.bytes_per_sequence, kAsked);
    EXPECT_GE(candidate.bytes_per_sequence, kAsked - 480 * 16);
    EXPECT_GT(candidate.predicted_loss, 0);
    EXPECT_GT(candidate.cost.multiply_adds, 0);
    const bool asked = candidate.keys == KvLayoutKind::kDirect && candidate.exact_window == 64 &&
                       candidate.anchor == 256;
    if (asked) {
      EXPECT_TRUE(candidate.measured.has_value());
    } else {
      (candidate.measured ? measured : left_out).push_back(candidate.predicted_loss);
    }
    if (candidate.chosen) chosen = &candidate;
    if (candidate.measured &&
        (best == nullptr || candidate.measured->perplexity < best->measured->perplexity)) {
      best = &candidate;
    }
  }
  ASSERT_EQ(measured.size(), 2);
  EXPECT_EQ(left_out.size(), 3 * 2 + 3 - 3);
  EXPECT_LE(*std::max_element(measured.begin(), measured.end()),
            *std::min_element(left_out.begin(), left_out.end()));
  ASSERT_NE(chosen, nullptr);
  EXPECT_EQ(chosen, best);
  const KvPlan& plan = result->plan;
  EXPECT_EQ(plan.exact_window, chosen->exact_window);
  EXPECT_EQ(plan.anchor, chosen->anchor);
  EXPECT_EQ(plan.layers[0].key.layout, chosen->keys);
  EXPECT_EQ(plan.BytesPerToken(), chosen->bytes_per_token);
  EXPECT_EQ(plan.measured.perplexity, chosen->measured->perplexity);
  EXPECT_EQ(plan.measured.predicted_loss, chosen->predicted_loss);
  EXPECT_EQ(plan.options.at("search"), "for a context of 512 tokens");
}

// What is asked for directly is what the search makes of it.
TEST_F(SearchTest, ACandidateIsThePlanOfItsOptions) {
  const auto searched = Search();
  ASSERT_OK(searched);
  const auto& list = searched->candidates;
  const auto chosen =
      std::find_if(list.begin(), list.end(), [](const KvPlanCandidate& one) { return one.chosen; });
  ASSERT_NE(chosen, list.end());
  request_.search.reset();
  request_.options.keys = chosen->keys;
  request_.options.exact_window = chosen->exact_window;
  request_.options.anchor = chosen->anchor;
  request_.options.bytes_per_token = chosen->bytes_per_token;
  const auto direct =
      Compress(*tiny_.backend, *tiny_.checkpoint, *tiny_.tokenizer, request_, nullptr);
  ASSERT_OK(direct);
  EXPECT_EQ(direct->plan.measured.perplexity, searched->plan.measured.perplexity);
  EXPECT_EQ(direct->plan.measured.predicted_loss, searched->plan.measured.predicted_loss);
  EXPECT_EQ(direct->plan.layers[1].key.encoder, searched->plan.layers[1].key.encoder);
}

TEST_F(SearchTest, PlansThatComputeTooMuchAreExcluded) {
  request_.search->max_decode_macs = 2;
  const auto result = Search();
  ASSERT_OK(result);
  int excluded = 0;
  const int64_t full = Cost(KvPlan::Full(tiny_.config(), SegmentType::kBf16), 512).multiply_adds;
  for (const KvPlanCandidate& candidate : result->candidates) {
    if (candidate.bytes_per_sequence == 0) continue;
    EXPECT_EQ(candidate.excluded.empty(), candidate.cost.multiply_adds <= 2 * full);
    if (candidate.excluded.empty()) continue;
    EXPECT_THAT(candidate.excluded, HasSubstr("times the full cache's multiply-adds"));
    EXPECT_FALSE(candidate.measured.has_value());
    ++excluded;
  }
  EXPECT_GT(excluded, 0);
  request_.search->max_decode_macs = 0.01;
  EXPECT_THAT(Search(), test::FailsWith(
                            absl::StatusCode::kFailedPrecondition,
                            std::vector<std::string>{"no candidate is left", "--max-decode-macs"}));
}

TEST_F(SearchTest, UsesStatisticsAgain) {
  const auto expected = Search();
  ASSERT_OK(expected);
  request_.statistics_path = tiny_.folder.File("statistics");
  ASSERT_OK(Search());
  std::vector<std::string> stages;
  const auto again = Compress(*tiny_.backend, *tiny_.checkpoint, *tiny_.tokenizer, request_,
                              [&](const std::string& name, double) { stages.push_back(name); });
  ASSERT_OK(again);
  EXPECT_THAT(stages, testing::Not(testing::Contains(HasSubstr("gathering"))));
  EXPECT_EQ(again->plan.measured.perplexity, expected->plan.measured.perplexity);
  EXPECT_EQ(again->plan.layers[1].value.encoder, expected->plan.layers[1].value.encoder);
  request_.seed = 1;
  EXPECT_THAT(Search(), test::FailsWith(absl::StatusCode::kFailedPrecondition,
                                        std::vector<std::string>{"seed 0", "remove the file"}));
}

TEST_F(SearchTest, RefusesALimit) {
  request_.limit = QualityLimit();
  EXPECT_THAT(Search(), test::IsInvalid({"--search", "--max-ppl-increase"}));
}

}  // namespace
}  // namespace lorc
