// A latent as units of a block (cache_layout.h), and their distribution over warps.
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
inline constexpr int kBf16Units = static_cast<int>(SegmentType::kBf16);
inline constexpr int kInt8Units = static_cast<int>(SegmentType::kInt8);

// Units of one tensor's group; their number, or -1 where there are more than kMaxUnits or a width is
// not a multiple of 16.
int MakeUnits(std::span<const CacheSegment> segments, int block_tokens, UnitPlan* units);

// Deals units out evenly to `shares` of at most `most` each; neighbours that lie side by side in a
// block are copied as one span where a block is a `single_run`. False where a share would have more
// than `most`.
bool DealUnits(const UnitPlan* units, int count, bool single_run, int shares, int most,
               WarpShare* dealt);

}  // namespace lorc::cuda
