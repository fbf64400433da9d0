#include "kernels/cuda/read_token.h"

#include "kernels/base/check.h"
#include "kernels/cuda/cache_numbers.h"
#include "kernels/cuda/tensor_shape.h"

namespace lorc {

void ReadCudaToken(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens, int32_t group,
                   int64_t token, const std::byte* part, float* out) {
  const cuda::TensorShape shape = cuda::ShapeOf(tensor, static_cast<int32_t>(block_tokens));
  part += int64_t{group} * shape.group_bytes;
  for (int32_t i = 0; i < shape.num_segments; ++i) {
    const cuda::SegmentShape& segment = shape.segments[i];
    for (int32_t column = 0; column < segment.width(); ++column) {
      out[segment.column + column] =
          cuda::ReadNumber(segment.type, which == KeyOrValue::kKey, segment.width(),
                           static_cast<int32_t>(block_tokens), part + segment.offset,
                           static_cast<int32_t>(token), column);
    }
  }
}

CudaSteps ReadCudaSteps(const CacheTensor& tensor, int64_t block_tokens, int32_t group,
                        int64_t segment, int64_t token, const std::byte* part) {
  const cuda::TensorShape shape = cuda::ShapeOf(tensor, static_cast<int32_t>(block_tokens));
  const cuda::SegmentShape& at = shape.segments[segment];
  LORC_CHECK(cuda::HasScales(at.type));
  const std::byte* steps =
      part + int64_t{group} * shape.group_bytes + at.offset +
      cuda::ScalesOffset(at.type, at.width(), static_cast<int32_t>(block_tokens)) + 4 * token;
  return {cuda::FloatFromF16(steps), cuda::FloatFromF16(steps + 2)};
}

}  // namespace lorc
