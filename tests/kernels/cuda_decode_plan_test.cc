// How a step's decode rows are cut and dealt out, and which layers decode attention takes: what
// needs no GPU.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/decode_basis.h"
#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/decode_shape.h"
#include "kernels/cuda/decode_waves.h"
#include "kernels/cuda/latent_units.h"
#include "kernels/ops/kv_cache.h"
#include "tests/kernels/kv_cache_cases.h"

namespace lorc {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::IsSupersetOf;
using testing::StartsWith;

using cuda::DecodeChunk;
using cuda::DecodeItem;
using cuda::DecodeRange;
using cuda::DecodeShape;
using cuda::DecodeWave;
using cuda::PassPlan;
using cuda::PlanPass;

int32_t NumTiles(const DecodeRange& range, int32_t tile_tokens) {
  if (range.begin >= range.end) return 0;
  return (range.end + tile_tokens - 1) / tile_tokens - range.begin / tile_tokens;
}

// What the kernels do with a plan: the tiles of every slot, as (item, tile of the item).
std::vector<std::vector<std::pair<int32_t, int32_t>>> WalkSlots(const PassPlan& plan) {
  std::vector<std::vector<std::pair<int32_t, int32_t>>> slots(plan.num_slots);
  for (int32_t s = 0; s < plan.num_streams(); ++s) {
    int32_t item = plan.stream_item[s];
    int32_t slot = plan.stream_slot[s];
    for (int32_t tile = plan.stream_begin[s]; tile < plan.stream_begin[s + 1]; ++tile) {
      if (tile == plan.items[item + 1].tile_begin) ++item, ++slot;
      EXPECT_GE(tile, plan.items[item].tile_begin);
      EXPECT_LT(tile, plan.items[item + 1].tile_begin);
      slots.at(slot).emplace_back(item, tile - plan.items[item].tile_begin);
    }
  }
  return slots;
}

// Every tile once, in order; every range's slots its own and one after the other; streams even.
void CheckPass(const PassPlan& plan, const std::vector<DecodeRange>& ranges, int32_t tile_tokens,
               int32_t max_streams) {
  const auto slots = WalkSlots(plan);
  ASSERT_EQ(plan.range_slot.size(), ranges.size() + 1);
  ASSERT_EQ(plan.range_slot.front(), 0);
  ASSERT_EQ(plan.range_slot.back(), plan.num_slots);
  int32_t num_tiles = 0;
  int32_t item = 0;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const int32_t tiles = NumTiles(ranges[i], tile_tokens);
    if (tiles == 0) {
      ASSERT_EQ(plan.range_slot[i], plan.range_slot[i + 1]);
      continue;
    }
    ASSERT_EQ(plan.items[item].begin, ranges[i].begin);
    ASSERT_EQ(plan.items[item].end, ranges[i].end);
    ASSERT_EQ(plan.items[item].row, ranges[i].row);
    ASSERT_EQ(plan.items[item].position, ranges[i].position);
    ASSERT_EQ(plan.items[item].table, ranges[i].table);
    ASSERT_EQ(plan.items[item].slot_begin, plan.range_slot[i]);
    int32_t next = 0;
    for (int32_t slot = plan.range_slot[i]; slot < plan.range_slot[i + 1]; ++slot) {
      ASSERT_FALSE(slots[slot].empty());
      for (const auto& [of, tile] : slots[slot]) {
        ASSERT_EQ(of, item);
        ASSERT_EQ(tile, next++);
      }
    }
    ASSERT_EQ(next, tiles);
    num_tiles += tiles;
    ++item;
  }
  ASSERT_EQ(std::ssize(plan.items), item + 1);
  ASSERT_EQ(plan.items.back().tile_begin, num_tiles);
  ASSERT_EQ(plan.num_streams(), std::min(max_streams, num_tiles));
  ASSERT_EQ(plan.stream_begin.back(), num_tiles);
  for (int32_t s = 0; s < plan.num_streams(); ++s) {
    const int32_t size = plan.stream_begin[s + 1] - plan.stream_begin[s];
    ASSERT_GE(size, num_tiles / plan.num_streams());
    ASSERT_LE(size, num_tiles / plan.num_streams() + 1);
  }
  ASSERT_LE(plan.num_slots, item + std::max(0, plan.num_streams() - 1));
}

TEST(CudaDecodePlanTest, DealsEveryTileOutOnce) {
  std::mt19937 random(5);
  for (const int32_t tile_tokens : {16, 32}) {
    for (const int32_t max_streams : {1, 2, 7, 132, 264}) {
      for (const int32_t longest : {1, 40, 5000}) {
        for (const int32_t num_ranges : {1, 2, 30, 300}) {
          std::vector<DecodeRange> ranges;
          std::vector<int32_t> bases;
          for (int32_t i = 0; i < num_ranges; ++i) {
            const auto begin = static_cast<int32_t>(random() % 4 * 16);
            // A quarter of them empty.
            const auto size = static_cast<int32_t>(random() % 4 == 0 ? 0 : random() % longest + 1);
            ranges.push_back({i, begin + size - 1, 100 * i, begin, begin + size});
            bases.push_back(7 * i);
          }
          const PassPlan plan = PlanPass(ranges, bases, tile_tokens, max_streams);
          CheckPass(plan, ranges, tile_tokens, max_streams);
          for (size_t i = 0; i + 1 < plan.items.size(); ++i) {
            ASSERT_EQ(plan.items[i].chunk_base, 7 * plan.items[i].row);
          }
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(CudaDecodePlanTest, NothingToRead) {
  const std::vector<DecodeRange> ranges = {{0, 5, 0, 0, 0}, {1, 6, 0, 16, 16}};
  const PassPlan plan = PlanPass(ranges, {}, 16, 10);
  CheckPass(plan, ranges, 16, 10);
  EXPECT_EQ(plan.num_streams(), 0);
  EXPECT_EQ(plan.num_slots, 0);
}

TEST(CudaDecodePlanTest, OneToken) {
  const std::vector<DecodeRange> ranges = {{3, 48, 9, 48, 49}};
  const PassPlan plan = PlanPass(ranges, {}, 32, 132);
  CheckPass(plan, ranges, 32, 132);
  EXPECT_EQ(plan.num_streams(), 1);
  EXPECT_EQ(plan.num_slots, 1);
}

CacheTensor Tensor(int32_t groups, int32_t kv_heads, std::vector<CacheSegment> segments) {
  CacheTensor tensor;
  tensor.groups = groups;
  tensor.heads_per_group = kv_heads / groups;
  for (const CacheSegment& segment : segments) tensor.rank += segment.width;
  tensor.segments = std::move(segments);
  return tensor;
}

// h 32, g 8, d 128.
CacheLayer Layer(const CacheTensor& key, const CacheTensor& value, int32_t anchor) {
  CacheLayer layer;
  layer.num_heads = 32;
  layer.num_kv_heads = 8;
  layer.head_dim = 128;
  layer.block_tokens = 16;
  layer.prefix_blocks = 1;
  layer.window_blocks = 4;
  layer.anchor = anchor;
  layer.key = key;
  layer.value = value;
  return layer;
}

struct RowCase {
  int32_t block_tokens, prefix_blocks, window_blocks, anchor, tile_tokens;
};

class CudaDecodeWavesTest : public testing::TestWithParam<RowCase> {};

// Every token that a row sees is in one range, in the version that the row reads; every tile of
// latents finds the absorbed query of its chunk.
TEST_P(CudaDecodeWavesTest, EveryRowFindsItsTokens) {
  const RowCase& c = GetParam();
  CacheLayer layer;
  layer.block_tokens = c.block_tokens;
  layer.prefix_blocks = c.prefix_blocks;
  layer.window_blocks = c.window_blocks;
  const int32_t table[1] = {};
  // Lengths far apart; prompts, generated positions, both, and several of them at once.
  const std::vector<SequenceSpan> spans = {
      {0, 1, 0, 1, table, table},    {1, 1, 1, 1, table, table},    {2, 1, 2500, 9, table, table},
      {3, 40, 30, 64, table, table}, {43, 9, 70, 64, table, table}, {52, 1, 15, 15, table, table},
      {53, 1, 16, 3, table, table}};
  const std::vector<SequenceTables> tables = {{1, 2},   {10, 20}, {30, 40},  {50, 60},
                                              {70, 80}, {90, 99}, {110, 120}};
  std::map<int32_t, int32_t> positions;  // of generated rows
  std::map<int32_t, SequenceTables> table_of;
  for (size_t i = 0; i < spans.size(); ++i) {
    for (int64_t t = 0; t < spans[i].count; ++t) {
      if (spans[i].first + t < spans[i].num_prompt_tokens) continue;
      positions[static_cast<int32_t>(spans[i].row + t)] = static_cast<int32_t>(spans[i].first + t);
      table_of[static_cast<int32_t>(spans[i].row + t)] = tables[i];
    }
  }
  for (const bool absorbs : {true, false}) {
    cuda::DecodeRule rule;
    rule.blocks = cuda::BlockRule::Of(layer);
    rule.anchor = c.anchor;
    rule.absorbs = absorbs;
    rule.tile_tokens = c.tile_tokens;
    rule.latent_streams = 5;
    rule.exact_streams = 3;
    const int64_t longest = cuda::NumChunks(2501, c.anchor);
    for (const cuda::WaveLimits& limits :
         {cuda::WaveLimits{1000, 1000000}, cuda::WaveLimits{3, 1000000},
          cuda::WaveLimits{1000, longest}, cuda::WaveLimits{1, longest}}) {
      const auto waves = cuda::PlanDecode(rule, limits, spans, tables);
      if (limits.rows == 1000 && limits.chunks == 1000000) {
        ASSERT_EQ(waves.size(), 1u);
      }
      auto next = positions.begin();
      for (const DecodeWave& wave : waves) {
        ASSERT_GT(wave.rows.size(), 0u);
        ASSERT_LE(std::ssize(wave.rows), limits.rows);
        ASSERT_LE(std::ssize(wave.chunks), limits.chunks);
        if (!absorbs) {
          ASSERT_TRUE(wave.chunks.empty());
        }
        const auto latent_slots = WalkSlots(wave.latent);
        const auto exact_slots = WalkSlots(wave.exact);
        std::set<int32_t> chunks_used;
        for (const cuda::RowSlots& row : wave.rows) {
          ASSERT_NE(next, positions.end());
          ASSERT_EQ(row.row, next->first);
          const int32_t position = (next++)->second;
          std::vector<int> seen(position + 1);
          for (const bool exact : {true, false}) {
            const PassPlan& pass = exact ? wave.exact : wave.latent;
            const int32_t tile_tokens = exact ? 16 : c.tile_tokens;
            for (int32_t slot = exact ? row.exact_begin : row.latent_begin;
                 slot < (exact ? row.exact_end : row.latent_end); ++slot) {
              for (const auto& [index, tile] : (exact ? exact_slots : latent_slots)[slot]) {
                const DecodeItem& item = pass.items[index];
                ASSERT_EQ(item.row, row.row);
                ASSERT_EQ(item.position, position);
                ASSERT_EQ(item.table, exact ? table_of[row.row].exact : table_of[row.row].latent);
                const int32_t first = (item.begin / tile_tokens + tile) * tile_tokens;
                for (int32_t n = std::max(first, item.begin);
                     n < std::min(first + tile_tokens, item.end); ++n) {
                  ++seen.at(n);
                  ASSERT_EQ(exact, layer.IsExact(n / c.block_tokens, position / c.block_tokens));
                }
                if (exact || !absorbs) continue;
                const int32_t chunk = c.anchor == 0 ? 0 : first / c.anchor;
                const DecodeChunk& query = wave.chunks.at(item.chunk_base + chunk);
                ASSERT_EQ(query.row, row.row);
                ASSERT_EQ(query.distance, position - chunk * c.anchor);
                chunks_used.insert(item.chunk_base + chunk);
              }
            }
          }
          for (const int times : seen) ASSERT_EQ(times, 1);
        }
        // No query is absorbed in vain.
        ASSERT_EQ(chunks_used.size(), wave.chunks.size());
      }
      ASSERT_EQ(next, positions.end());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, CudaDecodeWavesTest,
                         testing::Values(RowCase{16, 0, 0, 0, 16}, RowCase{16, 0, 0, 0, 32},
                                         RowCase{16, 1, 4, 32, 32}, RowCase{16, 1, 4, 16, 16},
                                         RowCase{16, 3, 0, 64, 32}, RowCase{16, 0, 1, 256, 32},
                                         RowCase{32, 1, 2, 64, 32}, RowCase{64, 1, 1, 128, 16},
                                         RowCase{64, 0, 1, 0, 32}));

constexpr int32_t kHopperShared = 232448;
constexpr int32_t kAdaShared = 101376;

// Whether a layer, with the bases given, goes through decode attention; and in which kernel.
enum class Form { kRebuilt, kNarrow, kWide };

Form FormOf(CacheLayer layer, bool key_basis, bool value_basis, int32_t shared = kHopperShared) {
  static const struct : Basis {
    int64_t size_bytes() const override { return 0; }
  } kBasis;
  if (key_basis) layer.key.basis = &kBasis;
  if (value_basis) layer.value.basis = &kBasis;
  const auto shape = DecodeShape::Of(layer, shared);
  if (!shape.has_value() || !cuda::DecodeTakes(layer, *shape)) return Form::kRebuilt;
  return shape->wide ? Form::kWide : Form::kNarrow;
}

std::vector<CacheSegment> Segments(SegmentType type, int32_t width, int32_t count = 1) {
  return std::vector<CacheSegment>(count, {type, width});
}

TEST(CudaDecodeShapeTest, WhichLayersGoWhere) {
  using T = SegmentType;
  const CacheTensor full = Tensor(8, 8, Segments(T::kBf16, 128));
  const CacheTensor joint = Tensor(1, 8, Segments(T::kInt4, 32, 16));
  const CacheTensor per_head = Tensor(8, 8, Segments(T::kInt8, 64));
  EXPECT_EQ(FormOf(Layer(full, full, 0), false, false), Form::kNarrow);
  EXPECT_EQ(FormOf(Layer(joint, joint, 256), true, true), Form::kWide);
  EXPECT_EQ(FormOf(Layer(per_head, per_head, 256), true, true), Form::kNarrow);
  EXPECT_EQ(FormOf(Layer(full, per_head, 0), false, true), Form::kNarrow);
  EXPECT_EQ(FormOf(Layer(per_head, full, 64), true, false), Form::kNarrow);
  // Keys that are rebuilt; groups that differ.
  EXPECT_EQ(FormOf(Layer(joint, joint, 1), true, true), Form::kRebuilt);
  EXPECT_EQ(FormOf(Layer(joint, full, 64), true, false), Form::kRebuilt);
  // Anchors that cut the wide kernel's tiles.
  EXPECT_EQ(FormOf(Layer(joint, joint, 16), true, true), Form::kRebuilt);
  EXPECT_EQ(FormOf(Layer(joint, joint, 32), true, true), Form::kWide);
  EXPECT_EQ(FormOf(Layer(per_head, per_head, 16), true, true), Form::kNarrow);
  // Wide latents with tiles of 16 query heads; more units than there are places for.
  const CacheTensor wide = Tensor(1, 8, Segments(T::kInt4, 1024));
  EXPECT_EQ(FormOf(Layer(wide, wide, 256), true, true), Form::kWide);
  EXPECT_EQ(FormOf(Layer(joint, wide, 256), true, true), Form::kWide);
  const CacheTensor many = Tensor(1, 8, Segments(T::kInt4, 16, 40));
  EXPECT_EQ(FormOf(Layer(many, joint, 256), true, true), Form::kRebuilt);
  // Full keys of several heads in a group: their queries are not absorbed.
  const CacheTensor full_joint = Tensor(4, 8, Segments(T::kBf16, 256));
  EXPECT_EQ(FormOf(Layer(full_joint, full_joint, 0), false, false), Form::kRebuilt);
  EXPECT_EQ(FormOf(Layer(full_joint, full_joint, 0), true, false), Form::kNarrow);
  // Shared memory that does not hold two stages.
  const CacheTensor joint_bf16 = Tensor(1, 8, Segments(T::kBf16, 512));
  EXPECT_EQ(FormOf(Layer(joint_bf16, joint_bf16, 256), true, true), Form::kWide);
  EXPECT_EQ(FormOf(Layer(joint_bf16, joint_bf16, 256), true, true, kAdaShared), Form::kRebuilt);
}

// The cases of kv_cache_test reach both kernels, and the rebuilt form where neither takes a layer.
TEST(CudaDecodeShapeTest, CasesOfTheCacheTestReachAllForms) {
  std::map<Form, std::vector<std::string>> cases;
  for (const Case& c : CudaCases()) {
    const auto tensor = [&c](const TensorSpec& spec) {
      return Tensor(spec.groups == 0 ? c.kv_heads : spec.groups, c.kv_heads, spec.segments);
    };
    CacheLayer layer = Layer(tensor(c.key), tensor(c.value), c.anchor);
    layer.num_heads = c.heads;
    layer.num_kv_heads = c.kv_heads;
    layer.head_dim = c.head_dim;
    layer.block_tokens = c.block_tokens;
    layer.prefix_blocks = c.prefix_blocks;
    layer.window_blocks = c.window_blocks;
    cases[FormOf(layer, c.key.groups > 0, c.value.groups > 0)].push_back(c.name);
  }
  EXPECT_THAT(cases[Form::kWide],
              IsSupersetOf({"llama_like", "lengths_apart_wide", "mixed_bits_blocks_of_32",
                            "mixed_bits_blocks_of_64", "keys_only_of_one_head", "one_wide_segment",
                            "direct_many_heads"}));
  EXPECT_THAT(cases[Form::kNarrow],
              IsSupersetOf({"full_bf16", "full_wide_head", "full_odd_head", "direct_joint",
                            "direct_no_anchor", "values_only_per_head", "keys_only_per_head",
                            "per_head_64_64", "equal_types_int3", "lengths_apart_per_head"}));
  for (const std::string& name : cases[Form::kRebuilt]) {
    EXPECT_THAT(name, AnyOf(HasSubstr("rebuilt"), "direct_mixed_groups", "direct_prefix_only",
                            "values_only", "keys_only", "latents_in", StartsWith("alone_")));
  }
}

TEST(CudaDecodeShapeTest, StreamsFillTheDevice) {
  using T = SegmentType;
  const CacheTensor joint = Tensor(1, 8, Segments(T::kInt4, 32, 16));
  const CacheTensor per_head = Tensor(8, 8, Segments(T::kInt8, 64));
  const auto wide = DecodeShape::Of(Layer(joint, joint, 256), kHopperShared);
  const auto narrow = DecodeShape::Of(Layer(per_head, per_head, 256), kHopperShared);
  ASSERT_TRUE(wide.has_value() && narrow.has_value());
  EXPECT_EQ(wide->LatentStreams(132), 132);
  EXPECT_EQ(narrow->LatentStreams(132), 132);
  EXPECT_EQ(narrow->ExactStreams(132), 264);
  EXPECT_EQ(wide->QueryWords() * 4, 32 * 512 * 2);  // 32 heads of 512 16-bit numbers
}

// Every unit's codes and scales lie in one of the spans, which follow each other in the stage.
TEST(CudaDecodeShapeTest, StagesHoldTheUnits) {
  using T = SegmentType;
  const std::vector<CacheSegment> segments = {{T::kBf16, 48}, {T::kInt8, 32}, {T::kInt3, 80},
                                              {T::kFp8, 16},  {T::kInt4, 64}, {T::kInt2, 16}};
  for (const int block_tokens : {16, 32, 64}) {
    cuda::UnitPlan units[cuda::kMaxUnits];
    const int count = cuda::MakeUnits(segments, block_tokens, units);
    ASSERT_EQ(count, 2 + 1 + 3 + 1 + 2 + 1);
    const cuda::StagedGroup group = cuda::StageUnits(units, count, block_tokens == 16);
    ASSERT_EQ(group.num_units, count);
    const auto staged_at = [&](int32_t offset, int32_t bytes) {
      for (int s = 0; s < group.num_spans; ++s) {
        const cuda::Span& span = group.span[s];
        if (offset >= span.offset && offset + bytes <= span.offset + span.bytes) {
          return span.stage + offset - span.offset;
        }
      }
      return -1;
    };
    for (int u = 0; u < count; ++u) {
      const uint32_t bits = group.unit[u].bits;
      ASSERT_EQ(group.index[u], u);
      ASSERT_EQ(group.column[u], units[u].column);
      ASSERT_EQ(static_cast<T>(bits >> 24 & 7), units[u].type);
      ASSERT_EQ(bits >> 27 << 4, units[u].width);
      ASSERT_EQ(static_cast<int>(bits & 0xfff) * 16,
                staged_at(units[u].code_offset, units[u].run_stride));
      if (!cuda::HasScales(units[u].type)) continue;
      ASSERT_EQ(static_cast<int>(bits >> 12 & 0xfff) * 16, staged_at(units[u].scale_offset, 64));
    }
    int32_t bytes = 0;
    for (int s = 0; s < group.num_spans; ++s) {
      ASSERT_EQ(group.span[s].stage, bytes);
      bytes += group.span[s].bytes;
    }
    ASSERT_EQ(bytes, group.run_bytes);
    // A whole block is one copy.
    ASSERT_TRUE(block_tokens != 16 || group.num_spans == 1);
  }
}

// Fragments hold D where the tensor cores' operands have it, and its columns' norms.
TEST(CudaDecodeBasisTest, FragmentsHoldTheDecoder) {
  constexpr int32_t kHeads = 3, kDim = 32, kRank = 48;
  std::vector<float> decoder(kHeads * kDim * kRank);
  std::iota(decoder.begin(), decoder.end(), 1.0f);
  BasisSource source;
  source.groups = 1;
  source.group_width = kHeads * kDim;
  source.head_dim = kDim;
  source.rank = kRank;
  source.decoder = decoder.data();
  const auto at = [&](int32_t head, int32_t i, int32_t r) {
    return F32ToBf16(decoder[(head * kDim + i) * kRank + r]);
  };
  const cuda::DecoderFragments key = cuda::PackKeyDecoder(source);
  const cuda::DecoderFragments value = cuda::PackValueDecoder(source);
  ASSERT_EQ(std::ssize(key.words), kHeads * kDim * kRank / 2);
  ASSERT_EQ(std::ssize(value.words), kHeads * kDim * kRank / 2);
  for (int32_t head = 0; head < kHeads; ++head) {
    double largest = 0;
    for (int32_t r = 0; r < kRank; ++r) {
      double squares = 0;
      for (int32_t i = 0; i < kDim; ++i) {
        squares += std::pow(Bf16ToF32(at(head, i, r)), 2);
        // Row k and column n of the operand's 16 x 16 part.
        const auto word = [&](const std::vector<uint32_t>& words, int32_t rows, int32_t columns,
                              int32_t k, int32_t n) {
          const int64_t part = (int64_t{head} * (rows / 16) + k / 16) * (columns / 16) + n / 16;
          const int32_t lane = n % 8 * 4 + k % 8 / 2;
          const uint32_t both = words[(part * 32 + lane) * 4 + n % 16 / 8 * 2 + k % 16 / 8];
          return static_cast<bf16_t>(k % 2 == 0 ? both : both >> 16);
        };
        ASSERT_EQ(word(key.words, kDim, kRank, i, r), at(head, i, r));
        ASSERT_EQ(word(value.words, kRank, kDim, r, i), at(head, i, r));
      }
      largest = std::max(largest, squares);
    }
    EXPECT_FLOAT_EQ(key.column_norm[head], static_cast<float>(std::sqrt(largest)));
  }
}

}  // namespace
}  // namespace lorc
