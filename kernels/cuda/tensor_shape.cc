#include "kernels/cuda/tensor_shape.h"

#include "kernels/base/check.h"

namespace lorc::cuda {

TensorShape ShapeOf(const CacheTensor& tensor, int32_t block_tokens) {
  LORC_CHECK_LE(tensor.segments.size(), size_t{kMaxSegments});
  TensorShape shape;
  shape.groups = tensor.groups;
  shape.rank = tensor.rank;
  int32_t column = 0;
  for (const CacheSegment& segment : tensor.segments) {
    LORC_CHECK_EQ(segment.width % kSegmentAlign, 0);
    shape.segments[shape.num_segments++] = {shape.group_bytes, static_cast<uint16_t>(column),
                                            static_cast<uint8_t>(segment.width / kSegmentAlign),
                                            segment.type};
    shape.group_bytes +=
        static_cast<int32_t>(SegmentBytes(segment.type, segment.width, block_tokens));
    column += segment.width;
  }
  LORC_CHECK_EQ(column, tensor.rank);
  return shape;
}

TensorShape ExactShape(const CacheLayer& layer) {
  CacheTensor tensor;
  tensor.groups = layer.num_kv_heads;
  tensor.heads_per_group = 1;
  tensor.rank = layer.head_dim;
  tensor.segments = {{SegmentType::kBf16, layer.head_dim}};
  return ShapeOf(tensor, layer.block_tokens);
}

HeadFrame FrameOf(const CacheLayer& layer) {
  return {layer.head_dim, layer.block_tokens, layer.anchor, layer.rope_cos, layer.rope_sin};
}

}  // namespace lorc::cuda
