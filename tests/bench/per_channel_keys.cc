#include "tests/bench/per_channel_keys.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/cpu/cache_blocks.h"

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

class PerChannelBackend final : public Backend {
 public:
  PerChannelBackend(std::unique_ptr<Backend> backend, int32_t bits)
      : backend_(std::move(backend)), bits_(bits) {}

  const char* name() const override { return backend_->name(); }
  std::string description() const override { return backend_->description(); }
  DType default_weight_type() const override { return backend_->default_weight_type(); }
  absl::Status CheckWeightType(DType type) const override {
    return backend_->CheckWeightType(type);
  }
  absl::Status CheckLayer(const CacheLayer& layer) const override {
    return backend_->CheckLayer(layer);
  }
  MemoryAccount& memory() override { return backend_->memory(); }
  std::optional<int64_t> free_device_bytes() const override {
    return backend_->free_device_bytes();
  }
  bool has_host_memory() const override { return backend_->has_host_memory(); }
  absl::StatusOr<Buffer> Allocate(int64_t size_bytes, MemoryUse use) override {
    return backend_->Allocate(size_bytes, use);
  }
  absl::StatusOr<Buffer> AllocateHost(int64_t size_bytes) override {
    return backend_->AllocateHost(size_bytes);
  }
  void CopyIn(void* to, const void* from_host, int64_t bytes) override {
    backend_->CopyIn(to, from_host, bytes);
  }
  void CopyOut(void* to_host, const void* from, int64_t bytes) override {
    backend_->CopyOut(to_host, from, bytes);
  }
  absl::Status status() override { return backend_->status(); }
  absl::StatusOr<std::unique_ptr<Matrix>> MakeMatrix(const MatrixSource& source,
                                                     DType type) override {
    return backend_->MakeMatrix(source, type);
  }
  absl::StatusOr<std::unique_ptr<Matrix>> MakeGatedMatrix(const MatrixSource& gate,
                                                          const MatrixSource& up,
                                                          DType type) override {
    return backend_->MakeGatedMatrix(gate, up, type);
  }
  absl::StatusOr<std::unique_ptr<Basis>> MakeBasis(const BasisSource& source, bool is_key,
                                                   DType type) override {
    return backend_->MakeBasis(source, is_key, type);
  }
  absl::Status Reserve(const BackendLimits& limits) override { return backend_->Reserve(limits); }
  std::vector<int32_t> WarmUpRows(int32_t max_rows) const override {
    return backend_->WarmUpRows(max_rows);
  }
  void BeginStep(const StepArgs& args) override { backend_->BeginStep(args); }
  void Embed(const EmbedArgs& args) override { backend_->Embed(args); }
  void RmsNorm(const RmsNormArgs& args) override { backend_->RmsNorm(args); }
  void Linear(const LinearArgs& args) override { backend_->Linear(args); }
  void Attend(const AttendArgs& args) override { backend_->Attend(args); }
  void RowStats(const RowStatsArgs& args) override { backend_->RowStats(args); }
  void Weights(const WeightsArgs& args) override { backend_->Weights(args); }

  void WriteCache(const WriteCacheArgs& args) override {
    backend_->WriteCache(args);
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
