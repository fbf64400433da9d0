// How the CUDA backend lays out, plans and refuses layers: what needs no GPU.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cuda/attend_plan.h"
#include "kernels/cuda/cache_numbers.h"
#include "kernels/cuda/check_layer.h"
#include "kernels/cuda/write_plan.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {
namespace {

using testing::HasSubstr;

constexpr SegmentType kTypes[] = {SegmentType::kBf16, SegmentType::kInt8, SegmentType::kFp8,
                                  SegmentType::kInt4, SegmentType::kInt3, SegmentType::kInt2};

TEST(CudaCacheLayoutTest, PlacesAreInverted) {
  for (const bool is_key : {true, false}) {
    for (const int32_t width : {16, 32, 48, 80}) {
      std::set<std::tuple<int, int, int, int, int>> places;
      for (int32_t t = 0; t < 64; ++t) {
        for (int32_t c = 0; c < width; ++c) {
          const cuda::NumberPlace place = cuda::PlaceOf(is_key, width, t, c);
          EXPECT_EQ(place.run * 16 + cuda::TokenAt(is_key, place.lane, place.pair, place.half), t);
          EXPECT_EQ(place.unit * 32 + cuda::ColumnAt(is_key, place.lane, place.pair, place.half),
                    c);
          EXPECT_LT(place.pair, place.unit_width / 4);
          places.insert({place.unit, place.run, place.lane, place.pair, place.half});
        }
      }
      EXPECT_EQ(places.size(), size_t{64} * width);
    }
  }
}

// Every bit of a number changes that number only: no two share one, and all lie in the segment.
TEST(CudaCacheLayoutTest, NumbersShareNoBits) {
  constexpr int32_t kBlock = 32;
  for (const SegmentType type : kTypes) {
    for (const int32_t width : {16, 48}) {
      for (const bool is_key : {true, false}) {
        SCOPED_TRACE(std::string(Name(type)) + " " + std::to_string(width));
        const int64_t numbers = cuda::ScalesOffset(type, width, kBlock);
        EXPECT_EQ(numbers, kBlock * width * BitsPerNumber(type) / 8);
        std::vector<std::byte> block(cuda::SegmentBytes(type, width, kBlock));
        EXPECT_EQ(std::ssize(block), (CacheSegment{type, width}.BytesPerToken() * kBlock));
        // Scale 1 and minimum 0.
        for (size_t i = numbers; i < block.size(); i += 4) block[i + 1] = std::byte{0x3c};
        std::vector<int> changes(kBlock * width);
        const auto read = [&] {
          std::vector<float> values;
          for (int32_t t = 0; t < kBlock; ++t) {
            for (int32_t c = 0; c < width; ++c) {
              values.push_back(cuda::ReadNumber(type, is_key, width, kBlock, block.data(), t, c));
            }
          }
          return values;
        };
        const std::vector<float> before = read();
        for (int64_t bit = 0; bit < numbers * 8; ++bit) {
          block[bit / 8] ^= std::byte{1} << bit % 8;
          const std::vector<float> after = read();
          block[bit / 8] ^= std::byte{1} << bit % 8;
          int64_t changed = 0;
          for (size_t i = 0; i < after.size(); ++i) {
            // -0 counts as a change.
            if (std::memcmp(&before[i], &after[i], sizeof(float)) == 0) continue;
            ++changed;
            ++changes[i];
          }
          EXPECT_EQ(changed, 1) << "bit " << bit;
        }
        EXPECT_EQ(std::ranges::count(changes, BitsPerNumber(type)), kBlock * width);
      }
    }
  }
}

CacheLayer Layer(int32_t block_tokens, int32_t prefix_blocks, int32_t window_blocks) {
  CacheLayer layer;
  layer.num_heads = 6;
  layer.num_kv_heads = 2;
  layer.head_dim = 64;
  layer.block_tokens = block_tokens;
  layer.prefix_blocks = prefix_blocks;
  layer.window_blocks = window_blocks;
  for (CacheTensor* tensor : {&layer.key, &layer.value}) {
    *tensor = {1, 2, 128, {{SegmentType::kBf16, 128}}};
  }
  return layer;
}

TEST(CudaCacheLayoutTest, RefusesWhatItDoesNotHold) {
  EXPECT_TRUE(CheckCudaLayer(Layer(16, 1, 4)).ok());
  const auto refused = [](const CacheLayer& layer) {
    const absl::Status status = CheckCudaLayer(layer);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  CacheLayer layer = Layer(16, 1, 4);
  layer.exact_type = DType::kF32;
  EXPECT_THAT(refused(layer), HasSubstr("exact tokens are kept as f32"));
  layer = Layer(16, 1, 4);
  layer.head_dim = 72;
  EXPECT_THAT(refused(layer), HasSubstr("heads have 72 numbers"));
  layer.head_dim = 272;
  EXPECT_THAT(refused(layer), HasSubstr("up to 256"));
  layer = Layer(16, 1, 4);
  layer.key.segments = {{SegmentType::kF32, 32}};
  EXPECT_THAT(refused(layer), HasSubstr("a key segment is f32"));
  layer = Layer(16, 1, 4);
  layer.value.segments = {{SegmentType::kInt4, 24}};
  EXPECT_THAT(refused(layer), HasSubstr("a value segment has 24 numbers"));
  layer.value.segments.assign(cuda::kMaxSegments + 1, {SegmentType::kInt4, 16});
  EXPECT_THAT(refused(layer), HasSubstr("129 segments"));
}

// A sequence with pool rows that say which block and kind they are.
struct Sequence {
  SequenceSpan span;
  std::vector<int32_t> latent, exact;
};

Sequence MakeSequence(int32_t id, int64_t row, int64_t first, int64_t count, int64_t prompt) {
  Sequence sequence;
  for (int32_t j = 0; j < 1000; ++j) {
    sequence.latent.push_back(id * 10000 + j);
    sequence.exact.push_back(id * 10000 + 5000 + j);
  }
  sequence.span = {row, count, first, prompt, sequence.latent.data(), sequence.exact.data()};
  return sequence;
}

class CudaPlanTest : public testing::TestWithParam<std::tuple<int, int, int, int, int>> {
 protected:
  void SetUp() override {
    const auto [block_tokens, prefix_blocks, window_blocks, first, count] = GetParam();
    layer_ = Layer(block_tokens, prefix_blocks, window_blocks);
    sequences_.push_back(MakeSequence(1, 0, first, count, first + count));
    sequences_.push_back(MakeSequence(2, count, 500, 1, 300));
    sequences_.push_back(MakeSequence(3, count + 1, 0, 70, 40));
    for (Sequence& sequence : sequences_) {
      sequence.span.latent_blocks = sequence.latent.data();
      sequence.span.exact_blocks = sequence.exact.data();
      spans_.push_back(sequence.span);
    }
  }

  CacheLayer layer_;
  std::vector<Sequence> sequences_;
  std::vector<SequenceSpan> spans_;
};

// Every token of the step and every block that ages is written once, where it belongs.
TEST_P(CudaPlanTest, WritesEveryTokenOnce) {
  cuda::WritePlan plan;
  plan.Build(layer_, spans_);
  BackendLimits limits;
  limits.max_sequences = std::ssize(spans_);
  limits.block_tokens = layer_.block_tokens;
  std::set<std::tuple<int32_t, int32_t>> exact, latent;  // pool row and slot
  const auto add = [](const cuda::WriteRun& run, auto& to) {
    EXPECT_LT(run.begin, run.end);
    EXPECT_LE(run.end, 16);
    for (int32_t t = run.begin; t < run.end; ++t) {
      EXPECT_TRUE(to.insert({run.block, run.slot + t}).second);
    }
  };
  for (const cuda::WriteRun& run : plan.exact) add(run, exact);
  for (const cuda::WriteRun& run : plan.latent) add(run, latent);
  std::set<std::tuple<int32_t, int32_t>> expected_exact, expected_latent;
  for (const SequenceSpan& span : spans_) {
    limits.max_rows += span.count;
    const int64_t end = span.first + span.count;
    for (int64_t n = 0; n < end; ++n) {
      const int64_t block = n / layer_.block_tokens;
      const auto slot = static_cast<int32_t>(n % layer_.block_tokens);
      const bool is_new = n >= span.first;
      if (is_new && (block < layer_.prefix_blocks || layer_.window_blocks > 0)) {
        expected_exact.insert({span.exact_blocks[block], slot});
      }
      if (block < layer_.prefix_blocks) continue;
      const bool becomes_latent =
          layer_.window_blocks > 0
              ? block >= layer_.LatentEnd(span.first) && block < layer_.LatentEnd(end)
              : is_new;
      if (becomes_latent) expected_latent.insert({span.latent_blocks[block], slot});
    }
  }
  EXPECT_EQ(exact, expected_exact);
  EXPECT_EQ(latent, expected_latent);
  EXPECT_LE(std::ssize(plan.exact), cuda::WritePlan::MaxRuns(limits));
  EXPECT_LE(std::ssize(plan.latent), cuda::WritePlan::MaxRuns(limits));
}

// Every query finds each of its keys once, in the version that it reads, whatever the waves.
TEST_P(CudaPlanTest, EveryQueryFindsItsKeys) {
  const int64_t heads = layer_.num_heads / layer_.num_kv_heads;
  for (const int64_t wave_tiles : {2, 5, 100}) {
    for (const int64_t item_rows : {64, 128}) {
      for (const cuda::AttendRows rows :
           {cuda::AttendRows::kAll, cuda::AttendRows::kPrompt, cuda::AttendRows::kGenerated}) {
        cuda::AttendPlan plan;
        plan.Build(layer_, spans_, rows, wave_tiles, item_rows);
        std::vector<std::vector<int64_t>> seen(1000);  // positions of keys by row and head 0
        for (const auto& wave : plan.waves) {
          ASSERT_LE(wave.num_latent + wave.num_exact, wave_tiles);
          for (int32_t i = wave.first_item; i < wave.first_item + wave.num_items; ++i) {
            const cuda::AttendItem& item = plan.items[i];
            const cuda::AttendSegment& segment = plan.segments[item.segment];
            const int64_t end = std::min(item.first + item_rows, segment.count * heads);
            for (int64_t query = item.first; query < end; ++query) {
              if (query % heads != 0) continue;
              const int64_t m = segment.first + query / heads;
              auto& keys = seen[segment.row + query / heads];
              for (int32_t tile = segment.tile_begin; tile < segment.tile_end; ++tile) {
                const cuda::TileSlots& slots =
                    plan.slots[segment.slots + tile - segment.tile_begin];
                for (int64_t n = tile * 64; n < std::min<int64_t>(m + 1, tile * 64 + 64); ++n) {
                  const int64_t block = n / layer_.block_tokens;
                  const bool exact = layer_.IsExact(block, m / layer_.block_tokens);
                  // Rows of the wave: latent tiles, then exact ones.
                  const int32_t slot = exact ? slots.exact : slots.latent;
                  ASSERT_GE(slot, exact ? wave.num_latent : 0);
                  ASSERT_LT(slot, exact ? wave.num_latent + wave.num_exact : wave.num_latent);
                  const cuda::CacheRun& run =
                      exact ? plan.exact_runs[(wave.first_exact + slot - wave.num_latent) * 4 +
                                              n % 64 / 16]
                            : plan.latent_runs[(wave.first_latent + slot) * 4 + n % 64 / 16];
                  ASSERT_EQ(run.position, n / 16 * 16);
                  ASSERT_GT(run.count, n % 16);
                  const int32_t id = run.block / 10000;
                  ASSERT_EQ(run.block % 10000, exact ? 5000 + block : block);
                  ASSERT_EQ(segment.row, cuda::RowsOf(spans_[id - 1], rows).row);
                  keys.push_back(n);
                }
              }
            }
          }
        }
        for (const SequenceSpan& whole : spans_) {
          const SequenceSpan span = cuda::RowsOf(whole, rows);
          for (int64_t t = 0; t < span.count; ++t) {
            auto& keys = seen[span.row + t];
            ASSERT_TRUE(std::ranges::is_sorted(keys));
            ASSERT_EQ(std::ssize(keys), span.first + t + 1);
            ASSERT_EQ(keys.back(), span.first + t);
            keys.clear();
          }
        }
        // Nothing for rows of the other kind.
        for (const auto& keys : seen) ASSERT_TRUE(keys.empty());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, CudaPlanTest,
                         testing::Combine(testing::Values(16, 32, 64), testing::Values(0, 1, 3),
                                          testing::Values(0, 1, 4), testing::Values(0, 37, 320),
                                          testing::Values(1, 30, 200)));

}  // namespace
}  // namespace lorc
