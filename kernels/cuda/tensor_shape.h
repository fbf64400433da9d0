// What kernels must know of a CacheLayer, small enough for a kernel's parameters.
#pragma once

#include <cstdint>

#include "kernels/cuda/cache_layout.h"
#include "kernels/cuda/token_source.cuh"
#include "kernels/ops/kv_cache.h"

namespace lorc::cuda {

inline constexpr int32_t kMaxSegments = 128;  // of a group

struct SegmentShape {
  int32_t offset;   // bytes from the group's start in a block
  uint16_t column;  // of its first number in the group
  uint8_t width16;  // numbers / 16
  SegmentType type;

  LORC_HOST_DEVICE int32_t width() const { return width16 * 16; }
};

struct TensorShape {
  int32_t groups = 0;
  int32_t rank = 0;
  int32_t num_segments = 0;
  int32_t group_bytes = 0;  // in a block
  SegmentShape segments[kMaxSegments];
};

// The tensor is one that CheckCudaLayer accepts.
TensorShape ShapeOf(const CacheTensor& tensor, int32_t block_tokens);

// K or V of an exact block: per KV head one bf16 segment.
TensorShape ExactShape(const CacheLayer& layer);

HeadFrame FrameOf(const CacheLayer& layer);

}  // namespace lorc::cuda
