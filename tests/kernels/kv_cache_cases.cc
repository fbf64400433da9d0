#include "tests/kernels/kv_cache_cases.h"

#include <utility>

namespace lorc {
namespace {

std::vector<CacheSegment> Split(SegmentType type, std::vector<int32_t> widths) {
  std::vector<CacheSegment> segments;
  for (const int32_t width : widths) segments.push_back({type, width});
  return segments;
}

}  // namespace

std::vector<Case> CpuCases() {
  const auto f32 = [](std::vector<int32_t> w) { return Split(SegmentType::kF32, std::move(w)); };
  const auto bf16 = [](std::vector<int32_t> w) { return Split(SegmentType::kBf16, std::move(w)); };
  const auto int8 = [](std::vector<int32_t> w) { return Split(SegmentType::kInt8, std::move(w)); };
  std::vector<Case> cases = {
      {"full_f32", 4, 2, 16, 0, 0, 0, {0, f32({16})}, {0, f32({16})}},
      {"full_bf16", 6, 2, 64, 0, 0, 0, {0, bf16({64})}, {0, bf16({64})}},
      {"full_int8", 4, 2, 32, 0, 0, 0, {0, int8({32})}, {0, int8({16, 16})}},
      {"mha_odd_head", 3, 3, 24, 0, 0, 0, {0, bf16({24})}, {0, bf16({24})}},
      {"one_head", 1, 1, 8, 0, 0, 0, {0, f32({8})}, {0, bf16({8})}},
      {"direct_joint",
       9,
       3,
       64,
       32,
       1,
       4,
       {1, int8({32, 32, 32, 32, 16})},
       {1, int8({32, 32, 32, 32, 16})}},
      {"direct_joint_f32", 9, 3, 64, 64, 1, 2, {1, f32({144})}, {1, f32({96})}},
      {"direct_per_head", 8, 4, 16, 16, 0, 1, {4, bf16({8})}, {4, bf16({8})}},
      {"direct_mixed_groups", 8, 4, 16, 48, 2, 3, {2, int8({16, 8})}, {1, bf16({32, 8})}},
      {"direct_mixed_types",
       6,
       2,
       32,
       128,
       1,
       1,
       {1, {{SegmentType::kF32, 8}, {SegmentType::kBf16, 16}, {SegmentType::kInt8, 24}}},
       {1,
        {{SegmentType::kBf16, 8},
         {SegmentType::kInt8, 8},
         {SegmentType::kF32, 8},
         {SegmentType::kInt8, 16}}}},
      {"direct_no_window", 4, 2, 16, 16, 0, 0, {1, f32({24})}, {1, f32({16})}},
      {"direct_prefix_only", 4, 2, 16, 32, 2, 0, {1, f32({24})}, {2, f32({8})}},
      {"direct_no_anchor", 4, 2, 16, 0, 0, 2, {1, f32({32})}, {1, f32({32})}},
      {"direct_many_heads", 26, 2, 8, 32, 0, 1, {1, int8({16})}, {1, int8({16})}},
      {"rebuilt_joint", 9, 3, 64, 1, 1, 4, {1, int8({32, 32, 32})}, {1, bf16({96})}},
      {"rebuilt_per_head", 4, 4, 16, 1, 0, 0, {4, f32({8})}, {4, f32({8})}},
      {"rebuilt_groups", 8, 4, 16, 1, 1, 2, {2, bf16({24})}, {4, f32({16})}},
      {"bf16_everywhere",
       9,
       3,
       64,
       64,
       1,
       4,
       {1, int8({32, 32, 32, 32, 16})},
       {1, bf16({144})},
       DType::kBf16,
       DType::kBf16},
      {"wide_blocks",
       4,
       2,
       16,
       64,
       1,
       2,
       {1, int8({16, 8})},
       {1, bf16({24})},
       DType::kBf16,
       DType::kF32,
       32},
      {"widest_blocks",
       4,
       2,
       16,
       64,
       0,
       1,
       {1, int8({16, 8})},
       {1, bf16({24})},
       DType::kF32,
       DType::kF32,
       64},
      {"no_prompt_form",
       4,
       2,
       16,
       32,
       1,
       2,
       {1, int8({16})},
       {1, int8({16})},
       DType::kF32,
       DType::kF32,
       16,
       1,
       150},
  };
  Case apart{"lengths_apart", 6, 2, 16, 32, 1, 2, {1, int8({16, 8})}, {2, bf16({8})}};
  apart.prompt = 300;
  apart.other_prompt = 1;
  cases.push_back(apart);
  Case longer{"long_context", 4, 2, 16, 256, 1, 4, {1, int8({16, 8})}, {1, int8({24})}};
  longer.prompt = 1060;
  longer.generated = 20;
  cases.push_back(longer);
  for (const SegmentType type : kSegmentTypes) {
    const std::string name = Name(type);
    // Blocks that age, tokens that are written alone, and keys that are rebuilt.
    cases.push_back({"equal_types_" + name,
                     9,
                     3,
                     64,
                     32,
                     1,
                     4,
                     {1, Split(type, {32, 32, 32, 32, 16})},
                     {1, Split(type, {32, 64})}});
    cases.push_back(
        {"alone_" + name, 4, 2, 16, 32, 0, 0, {2, Split(type, {8})}, {1, Split(type, {16, 8})}});
    cases.push_back(
        {"rebuilt_" + name, 4, 2, 32, 1, 1, 2, {1, Split(type, {24, 16})}, {2, Split(type, {24})}});
    cases.push_back({"full_" + name + "_window",
                     6,
                     2,
                     64,
                     0,
                     1,
                     4,
                     {0, Split(type, {32, 32})},
                     {0, Split(type, {64})}});
  }
  const std::vector<CacheSegment> mixed = {{SegmentType::kInt8, 32}, {SegmentType::kInt4, 32},
                                           {SegmentType::kInt3, 24}, {SegmentType::kInt2, 32},
                                           {SegmentType::kFp8, 8},   {SegmentType::kBf16, 8}};
  Case bits{"mixed_bits", 9, 3, 64, 64, 1, 2, {1, mixed}, {1, mixed}};
  cases.push_back(bits);
  bits.name = "mixed_bits_wide_blocks";
  bits.block_tokens = 32;
  bits.exact_type = bits.basis_type = DType::kBf16;
  cases.push_back(bits);
  bits.name = "mixed_bits_widest_blocks_alone";
  bits.block_tokens = 64;
  bits.prefix_blocks = bits.window_blocks = 0;
  cases.push_back(bits);
  cases.push_back({"mixed_bits_many_heads",
                   26,
                   2,
                   8,
                   32,
                   0,
                   1,
                   {1, {{SegmentType::kInt4, 8}, {SegmentType::kInt3, 8}}},
                   {1, {{SegmentType::kInt2, 8}, {SegmentType::kInt4, 8}}}});
  Case latents{"latents_in", 4, 2, 32, 1, 0, 0, {1, int8({24, 8})}, {2, bf16({16})}};
  latents.latents_in = true;
  cases.push_back(latents);
  return cases;
}

std::vector<Case> CudaCases() {
  const auto bf16 = [](std::vector<int32_t> w) { return Split(SegmentType::kBf16, std::move(w)); };
  const auto int8 = [](std::vector<int32_t> w) { return Split(SegmentType::kInt8, std::move(w)); };
  const auto int4 = [](std::vector<int32_t> w) { return Split(SegmentType::kInt4, std::move(w)); };
  const std::vector<CacheSegment> mixed = {{SegmentType::kBf16, 16}, {SegmentType::kInt8, 48},
                                           {SegmentType::kFp8, 16},  {SegmentType::kInt4, 16},
                                           {SegmentType::kInt3, 32}, {SegmentType::kInt3, 16},
                                           {SegmentType::kInt2, 16}, {SegmentType::kInt2, 32}};
  std::vector<Case> cases = {
      {"full_bf16", 6, 2, 64, 0, 0, 0, {0, bf16({64})}, {0, bf16({64})}},
      {"full_wide_head", 2, 1, 256, 0, 0, 0, {0, bf16({256})}, {0, bf16({256})}},
      {"full_odd_head", 3, 3, 80, 0, 0, 0, {0, bf16({80})}, {0, bf16({32, 48})}},
      {"full_small_head", 6, 2, 16, 0, 0, 0, {0, bf16({16})}, {0, bf16({16})}},
      {"full_int8", 4, 2, 32, 0, 0, 0, {0, int8({32})}, {0, int8({16, 16})}},
      {"full_int8_window", 6, 2, 64, 0, 1, 4, {0, int8({32, 32})}, {0, int8({64})}},
      {"direct_joint", 9, 3, 64, 32, 1, 4, {1, int8({32, 32, 32, 32, 16})}, {1, bf16({144})}},
      {"direct_per_head", 8, 4, 64, 64, 0, 2, {4, bf16({32})}, {4, int8({48})}},
      {"direct_mixed_groups", 8, 4, 32, 48, 2, 3, {2, int8({16, 32})}, {1, bf16({32, 16})}},
      {"direct_no_window", 4, 2, 64, 16, 0, 0, {1, bf16({48})}, {1, int4({32})}},
      {"direct_prefix_only", 4, 2, 64, 32, 2, 0, {1, bf16({48})}, {2, int8({16})}},
      {"direct_no_anchor", 4, 2, 64, 0, 0, 2, {1, bf16({64})}, {1, bf16({64})}},
      {"direct_window_of_one", 4, 2, 64, 32, 0, 1, {1, int8({64})}, {1, int8({64})}},
      {"direct_many_heads", 26, 2, 32, 32, 0, 1, {1, int8({32})}, {1, int8({16})}},
      {"values_only", 4, 2, 64, 0, 1, 2, {0, bf16({64})}, {1, int4({64})}},
      {"keys_only", 4, 2, 64, 64, 1, 2, {1, int4({64})}, {0, bf16({64})}},
      {"values_only_per_head", 4, 2, 64, 0, 1, 2, {0, bf16({64})}, {2, int4({48})}},
      {"keys_only_per_head", 4, 2, 64, 64, 1, 2, {2, int4({48})}, {0, bf16({64})}},
      {"keys_only_of_one_head", 20, 1, 64, 32, 0, 0, {1, int8({48})}, {0, bf16({64})}},
      {"rebuilt_joint", 9, 3, 64, 1, 1, 4, {1, int8({32, 32, 32})}, {1, bf16({96})}},
      {"rebuilt_per_head", 4, 4, 64, 1, 0, 0, {4, bf16({32})}, {4, bf16({32})}},
      {"rebuilt_groups", 8, 4, 32, 1, 1, 2, {2, int4({32})}, {4, bf16({16})}},
      {"mixed_bits", 9, 3, 64, 64, 1, 2, {1, mixed}, {1, mixed}},
      {"llama_like",
       32,
       8,
       128,
       128,
       1,
       4,
       {1, int4(std::vector<int32_t>(16, 32))},
       {1, int4(std::vector<int32_t>(16, 32))}},
      {"per_head_64_64", 32, 8, 128, 128, 1, 4, {8, int4({32, 32})}, {8, int4({32, 32})}},
      {"one_wide_segment", 16, 8, 64, 64, 1, 2, {1, int4({512})}, {1, int8({512})}},
  };
  for (const SegmentType type : kSegmentTypes) {
    if (type == SegmentType::kF32) continue;
    const std::string name = Name(type);
    cases.push_back({"equal_types_" + name,
                     9,
                     3,
                     64,
                     32,
                     1,
                     4,
                     {1, Split(type, {32, 32, 32, 32, 16})},
                     {1, Split(type, {32, 64})}});
    cases.push_back(
        {"alone_" + name, 4, 2, 32, 32, 0, 0, {2, Split(type, {16})}, {1, Split(type, {16, 32})}});
    cases.push_back(
        {"rebuilt_" + name, 4, 2, 32, 1, 1, 2, {1, Split(type, {32, 16})}, {2, Split(type, {32})}});
  }
  Case blocks{"mixed_bits_blocks_of_32", 9, 3, 64, 64, 1, 2, {1, mixed}, {1, mixed}};
  blocks.block_tokens = 32;
  cases.push_back(blocks);
  blocks.name = "mixed_bits_blocks_of_64";
  blocks.block_tokens = 64;
  blocks.window_blocks = 1;
  cases.push_back(blocks);
  blocks.name = "mixed_bits_blocks_of_64_alone";
  blocks.prefix_blocks = blocks.window_blocks = 0;
  cases.push_back(blocks);
  Case generated{"no_prompt_form", 4, 2, 64, 32, 1, 2, {1, int8({32})}, {1, int8({32})}};
  generated.prompt = 1;
  generated.generated = 150;
  cases.push_back(generated);
  Case longer{"long_context", 4, 2, 64, 256, 1, 4, {1, int8({32, 16})}, {1, int8({48})}};
  longer.prompt = 1060;
  longer.generated = 20;
  cases.push_back(longer);
  longer.name = "long_rebuilt";
  longer.anchor = 1;
  cases.push_back(longer);
  for (Case c :
       {Case{"lengths_apart_wide", 32, 4, 64, 128, 1, 4, {1, mixed}, {1, mixed}},
        Case{"lengths_apart_per_head", 8, 4, 64, 64, 1, 2, {4, int8({32})}, {4, int4({32, 16})}},
        Case{"lengths_apart_full", 8, 2, 64, 0, 0, 0, {0, bf16({64})}, {0, int8({64})}}}) {
    c.prompt = 700;
    c.other_prompt = 1;
    cases.push_back(c);
  }
  Case latents{"latents_in", 4, 2, 32, 1, 0, 0, {1, int8({32, 16})}, {2, bf16({16})}};
  latents.latents_in = true;
  cases.push_back(latents);
  for (Case& c : cases) c.exact_type = c.basis_type = DType::kBf16;
  return cases;
}

}  // namespace lorc
