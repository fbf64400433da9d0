#include "tests/bench/per_channel_keys.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/cpu/cache_blocks.h"
#include "tests/support/wrapped_backend.h"

namespace lorc {
namespace {

constexpr int64_t kValueSegment = 32;

// Minimum, scale and codes of `bits` bits, read back.
void Round(std::span<float> values, int32_t bits) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const float most = static_cast<float>((1 << bits) - 1);
  const float minimum = F16ToF32(F32ToF16(*low));
  const float scale = std::max(F16ToF32(F32ToF16((*high - *low) / most)), 6e-8f);
  for (float& value : values) {
    value = minimum + scale * std::clamp(std::nearbyint((value - minimum) / scale), 0.0f, most);
  }
}

class PerChannelBackend final : public test::WrappedBackend {
 public:
  PerChannelBackend(std::unique_ptr<Backend> backend, int32_t bits)
      : WrappedBackend(std::move(backend)), bits_(bits) {}

  void WriteCache(const WriteCacheArgs& args) override {
    WrappedBackend::WriteCache(args);
    const CacheLayer& layer = *args.layer;
    LORC_CHECK(layer.window_blocks > 0);
    for (const SequenceSpan& sequence : args.sequences) {
      const int64_t end = layer.LatentEnd(sequence.first + sequence.count);
      for (int64_t block = std::max<int64_t>(layer.prefix_blocks, layer.LatentEnd(sequence.first));
           block < end; ++block) {
        RoundBlock(layer,
                   layer.latent_pool + sequence.latent_blocks[block] * layer.LatentBlockBytes());
      }
    }
  }

 private:
  void RoundBlock(const CacheLayer& layer, std::byte* block) const {
    const int64_t tokens = layer.block_tokens;
    for (const auto* tensor : {&layer.key, &layer.value}) {
      for (const CacheSegment& segment : tensor->segments) {
        LORC_CHECK(segment.type == SegmentType::kF32);
      }
      const int64_t group_bytes = GroupBlockBytes(*tensor, tokens);
      for (int32_t group = 0; group < tensor->groups; ++group, block += group_bytes) {
        // K: a run of tokens per number; V: a run of numbers per token.
        auto* numbers = reinterpret_cast<float*>(block);
        const int64_t run = tensor == &layer.key ? tokens : kValueSegment;
        for (int64_t at = 0; at < tokens * tensor->rank; at += run) {
          Round({numbers + at, static_cast<size_t>(run)}, bits_);
        }
      }
    }
  }

  const std::unique_ptr<Backend> backend_;
  const int32_t bits_;
};

}  // namespace

std::unique_ptr<Backend> PerChannelKeys(std::unique_ptr<Backend> backend, int32_t bits) {
  return std::make_unique<PerChannelBackend>(std::move(backend), bits);
}

double PerChannelKeysBytes(int64_t width, int32_t bits, int32_t block_tokens) {
  const auto n = static_cast<double>(width);
  return 2 * n * bits / 8 + 4 * n / block_tokens + 4 * n / kValueSegment;
}

}  // namespace lorc
