// Ranks and bits as one decision. The numbers of a latent, by falling gain, are cut into segments;
// each gets a type, or is left out with all that follow, so that
//   sum over segments of gain * distortion(type)
// is least for the bytes (reverse water-filling; gain: the error that keeping the segment removes,
// distortion: the share of it that quantising brings back, 1 where the segment is left out). Plain
// truncation is the case of one type.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {

// One tensor of one layer.
struct TensorGains {
  std::vector<double> gains;  // [group width], falling, summed over its groups
  int32_t groups = 1;         // each has the same segments
};

struct BitAllocation {
  std::vector<std::vector<CacheSegment>> segments;  // per tensor; at least one each
  int64_t bytes_per_token = 0;
  double loss = 0;  // what the sum above comes to
};

// `segment_width`: numbers of a segment, a multiple of 8; the last of a tensor may be narrower.
// FAILED_PRECONDITION where the bytes do not suffice for the least that every tensor needs: says
// how many do.
absl::StatusOr<BitAllocation> AllocateBits(std::span<const TensorGains> tensors,
                                           int32_t segment_width, int64_t bytes_per_token);

// The least and the most bytes that AllocateBits makes use of.
int64_t LeastBytes(std::span<const TensorGains> tensors, int32_t segment_width);
int64_t MostBytes(std::span<const TensorGains> tensors, int32_t segment_width);

}  // namespace lorc
