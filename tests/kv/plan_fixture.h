// Small plans for tests: seeded, valid for test::TinyModel's default shape (4 heads, 2 KV heads of
// 16, 2 layers).
#pragma once

#include <random>
#include <vector>

#include "runtime/kv/kv_plan.h"

namespace lorc::test {

inline std::vector<float> RandomBasis(int64_t count, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

inline TensorPlan SmallTensor(KvLayoutKind layout, int32_t groups, int32_t rank, SegmentType type,
                              int32_t kv_width, uint64_t seed, bool oblique = false) {
  TensorPlan tensor;
  tensor.layout = layout;
  tensor.groups = groups;
  tensor.rank = rank;
  tensor.segments = {{type, 8}};
  if (rank > 8) tensor.segments.push_back({type, rank - 8});
  tensor.encoder = RandomBasis(int64_t{rank} * kv_width, seed);
  if (oblique) tensor.decoder = RandomBasis(int64_t{rank} * kv_width, seed + 1000);
  tensor.facts = {12.5, 0.5, 0.875, {4.0, 3.0, 2.0, 1.0}};
  return tensor;
}

// Layer 0 direct joint, oblique; layer 1 rebuilt per head with full values. `MixedPlan`: the same
// in types of all widths.
inline KvPlan SmallPlan() {
  KvPlan plan;
  plan.name = "small";
  plan.method = "kv-core";
  plan.options = {{"ranks", "uniform"}, {"target_kept", "0.75"}};
  plan.base_fingerprint = "0123456789abcdef0123456789abcdef";
  plan.base_name = "tiny";
  plan.exact_prefix = 16;
  plan.exact_window = 32;
  plan.anchor = 64;
  plan.measured = {2048, 10.5, 10.75, 0.25, 0.5};
  TensorPlan full;
  full.groups = 2;
  full.rank = 16;
  full.segments = {{SegmentType::kBf16, 16}};
  plan.layers.push_back({SmallTensor(KvLayoutKind::kDirect, 1, 24, SegmentType::kInt8, 32, 1, true),
                         SmallTensor(KvLayoutKind::kDirect, 1, 16, SegmentType::kInt8, 32, 2)});
  plan.layers.push_back(
      {SmallTensor(KvLayoutKind::kRebuilt, 2, 8, SegmentType::kF32, 16, 3), full});
  plan.layers[1].key.encoder = RandomBasis(2 * 8 * 16, 4);
  return plan;
}

inline KvPlan MixedPlan() {
  KvPlan plan = SmallPlan();
  plan.name = "mixed";
  plan.layers[0].key.segments = {
      {SegmentType::kInt8, 8}, {SegmentType::kInt4, 8}, {SegmentType::kInt2, 8}};
  plan.layers[0].value.segments = {{SegmentType::kInt3, 8}, {SegmentType::kFp8, 8}};
  plan.layers[1].key.segments = {{SegmentType::kInt3, 8}};
  plan.layers[1].value.segments = {{SegmentType::kInt4, 16}};
  return plan;
}

}  // namespace lorc::test
