// Decode attention on a CUDA device: the op Attend for generated positions of layers whose latents
// are attended to as they are (contract: ops/kv_cache.h; kernels:
// docs/kernels/decode_attention.md).
//
// Up to five kernels per layer: queries are absorbed once per chunk; latents are read in one pass,
// exact tokens in another, each pass cut into as many streams as the device has room for, whatever
// the rows' lengths; partial results are put together; the value's decoder is applied to the sums.
//
// Which streams share a row depends on the whole step, so results of a position differ by rounding
// between steps of other company.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/decode_shape.h"
#include "kernels/cuda/decode_waves.h"
#include "kernels/cuda/step_staging.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {

class CudaDecodeAttention {
 public:
  explicit CudaDecodeAttention(CudaContext& context) : context_(context), staging_(context) {}

  static CudaScratch Scratch(const BackendLimits& limits, const cudaDeviceProp& device);
  absl::Status Reserve(const BackendLimits& limits);

  // Whether Run takes the layer, one of BackendLimits::layers with its bases.
  bool Takes(const CacheLayer& layer);

  // Outputs of the generated positions. `args.sequences` are those of context.step().
  void Run(const AttendArgs& args);

 private:
  // Layers of one shape, and whether it is one for decode attention.
  struct KnownLayer {
    CacheLayer layer;
    std::optional<cuda::DecodeShape> shape;
  };
  // A wave's lists on the device.
  struct SentWave {
    int64_t generation = -1;
    const cuda::RowSlots* rows = nullptr;
    const cuda::DecodeChunk* chunks = nullptr;
    cuda::DecodePass latent;
    cuda::DecodePass exact;
  };
  // A step's plan for the layers of one rule.
  struct StepPlan {
    cuda::DecodeRule rule;
    int64_t step = -1;
    std::vector<cuda::DecodeWave> waves;
    std::vector<SentWave> sent;
  };

  const std::optional<cuda::DecodeShape>& ShapeOf(const CacheLayer& layer);
  cuda::DecodeRule RuleOf(const CacheLayer& layer, const cuda::DecodeShape& shape) const;
  StepPlan& PlanOf(const cuda::DecodeRule& rule, std::span<const SequenceSpan> sequences);
  const SentWave& Send(StepPlan& plan, size_t wave);
  void RunWave(const AttendArgs& args, const cuda::DecodeShape& shape, const cuda::DecodeWave& wave,
               const SentWave& sent);

  CudaContext& context_;
  StepStaging staging_;
  cuda::WaveLimits wave_limits_;
  std::vector<KnownLayer> layers_;
  size_t last_layer_ = 0;  // the one found last
  std::vector<StepPlan> plans_;
};

}  // namespace lorc
