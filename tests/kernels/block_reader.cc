#include "tests/kernels/block_reader.h"

#include <cstring>
#include <string_view>

#include "kernels/base/check.h"
#include "kernels/cpu/cache_blocks.h"
#ifdef LORC_HAS_CUDA
#include "kernels/cuda/read_token.h"
#endif

namespace lorc {
namespace {

class CpuBlockReader final : public BlockReader {
 public:
  std::vector<float> Token(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens,
                           int32_t group, int64_t token, const std::byte* part) const override {
    std::vector<float> rows((token + 1) * tensor.rank);
    ReadTokens(tensor, which, block_tokens, group, token + 1, part, rows.data(), tensor.rank);
    return {rows.end() - tensor.rank, rows.end()};
  }

  ReadSteps Steps(const CacheTensor& tensor, int64_t block_tokens, int32_t group, int64_t segment,
                  int64_t token, const std::byte* part) const override {
    part += group * GroupBlockBytes(tensor, block_tokens);
    for (int64_t i = 0; i < segment; ++i) {
      part += SegmentBlockBytes(tensor.segments[i], block_tokens);
    }
    const CacheSegment& at = tensor.segments[segment];
    part += at.width * block_tokens * BitsPerNumber(at.type) / 8;
    f16_t scale, minimum;
    std::memcpy(&scale, part + 2 * token, 2);
    std::memcpy(&minimum, part + 2 * (block_tokens + token), 2);
    return {F16ToF32(scale), F16ToF32(minimum)};
  }
};

#ifdef LORC_HAS_CUDA
class CudaBlockReader final : public BlockReader {
 public:
  std::vector<float> Token(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens,
                           int32_t group, int64_t token, const std::byte* part) const override {
    std::vector<float> numbers(tensor.rank);
    ReadCudaToken(tensor, which, block_tokens, group, token, part, numbers.data());
    return numbers;
  }

  ReadSteps Steps(const CacheTensor& tensor, int64_t block_tokens, int32_t group, int64_t segment,
                  int64_t token, const std::byte* part) const override {
    const CudaSteps steps = ReadCudaSteps(tensor, block_tokens, group, segment, token, part);
    return {steps.scale, steps.minimum};
  }
};
#endif

}  // namespace

const BlockReader& ReaderOf(const Backend& backend) {
  static const CpuBlockReader cpu;
  if (std::string_view(backend.name()) == "cpu") return cpu;
#ifdef LORC_HAS_CUDA
  static const CudaBlockReader cuda;
  return cuda;
#else
  LORC_CHECK(false);
  return cpu;
#endif
}

}  // namespace lorc
