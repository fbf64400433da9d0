#include "kernels/cuda/check_cache_layer.h"

#include "absl/strings/str_cat.h"
#include "kernels/cuda/tensor_shape.h"

namespace lorc::cuda {
namespace {

constexpr int32_t kMaxCudaHeadDim = 256;

absl::Status CheckTensor(const char* name, const CacheTensor& tensor) {
  if (tensor.segments.size() > size_t{kMaxSegments}) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a group's ", name, " latent has ", tensor.segments.size(),
        " segments; the CUDA backend takes up to ", kMaxSegments, ", wider ones then"));
  }
  for (const CacheSegment& segment : tensor.segments) {
    if (segment.type == SegmentType::kF32) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a ", name, " segment is f32; the CUDA backend takes bf16, int8, fp8, int4, ",
          "int3 and int2: use bf16 instead, or the CPU"));
    }
    if (segment.width % kSegmentAlign != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("a ", name, " segment has ", segment.width,
                       " numbers; the CUDA backend takes multiples of ", kSegmentAlign,
                       ": make the plan with ranks and segments that are multiples of ",
                       kSegmentAlign, ", or use the CPU"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCacheLayer(const CacheLayer& layer) {
  if (layer.head_dim % kSegmentAlign != 0 || layer.head_dim > kMaxCudaHeadDim) {
    return absl::InvalidArgumentError(absl::StrCat(
        "heads have ", layer.head_dim, " numbers; the CUDA backend takes multiples of ",
        kSegmentAlign, " up to ", kMaxCudaHeadDim, ": use the CPU"));
  }
  if (layer.exact_type != DType::kBf16) {
    return absl::InvalidArgumentError(
        absl::StrCat("exact tokens are kept as ", Name(layer.exact_type),
                     "; the CUDA backend keeps them as bf16: choose weights of type bf16 or int8"));
  }
  if (absl::Status status = CheckTensor("key", layer.key); !status.ok()) return status;
  return CheckTensor("value", layer.value);
}

}  // namespace lorc::cuda
