// A latent as units of a block (cache_layout.h), and their places in shared memory.
#pragma once

#include <span>

#include "kernels/cuda/decode_params.h"
#include "kernels/ops/segment.h"

namespace lorc::cuda {

// K's and V's units of one group, in order, without places in shared memory.
struct LatentUnits {
  int key_count = 0;
  int value_count = 0;
  UnitPlan key[kMaxUnits];
  UnitPlan value[kMaxUnits];
};

// The type of all units where it is one and all are 32 wide, as an int; else -1.
int UniformType(const LatentUnits& units);
bool HasBf16(const LatentUnits& units);
inline constexpr int kBf16Units = static_cast<int>(SegmentType::kBf16);
inline constexpr int kInt8Units = static_cast<int>(SegmentType::kInt8);

// Units of one tensor's group; their number, or -1 where there are more than kMaxUnits or a width
// is not a multiple of 16.
int MakeUnits(std::span<const CacheSegment> segments, int block_tokens, UnitPlan* units);

// Units one after the other in a stage; what lies side by side in a block is copied as one span
// where a block is a `single_run`.
StagedGroup StageUnits(const UnitPlan* units, int count, bool single_run);

}  // namespace lorc::cuda
