#include "kernels/cuda/check_layer.h"

#include "absl/strings/str_cat.h"
#include "kernels/cuda/tensor_shape.h"

namespace lorc {
namespace {

constexpr int32_t kMaxCudaHeadDim = 256;

absl::Status CheckTensor(const char* name, const CacheTensor& tensor) {
  if (tensor.segments.size() > size_t{cuda::kMaxSegments}) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a group's ", name, " latent has ", tensor.segments.size(),
        " segments; the CUDA backend takes up to ", cuda::kMaxSegments, ", wider ones then"));
  }
  for (const CacheSegment& segment : tensor.segments) {
    if (segment.type == SegmentType::kF32) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a ", name, " segment is f32; the CUDA backend takes bf16, int8, fp8, int4, ",
          "int3 and int2: use bf16 instead, or the CPU"));
    }
    if (segment.width % cuda::kSegmentAlign != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("a ", name, " segment has ", segment.width,
                       " numbers; the CUDA backend takes multiples of ", cuda::kSegmentAlign,
                       ": make the plan with ranks and segments that are multiples of ",
                       cuda::kSegmentAlign, ", or use the CPU"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCudaLayer(const CacheLayer& layer) {
  if (layer.head_dim % cuda::kSegmentAlign != 0 || layer.head_dim > kMaxCudaHeadDim) {
    return absl::InvalidArgumentError(absl::StrCat(
        "heads have ", layer.head_dim, " numbers; the CUDA backend takes multiples of ",
        cuda::kSegmentAlign, " up to ", kMaxCudaHeadDim, ": use the CPU"));
  }
  if (layer.exact_type != DType::kBf16) {
    return absl::InvalidArgumentError(
        absl::StrCat("exact tokens are kept as ", Name(layer.exact_type),
                     "; the CUDA backend keeps them as bf16: choose weights of type bf16 or int8"));
  }
  if (absl::Status status = CheckTensor("key", layer.key); !status.ok()) return status;
  return CheckTensor("value", layer.value);
}

}  // namespace lorc
