// Attention on a CUDA device (contract: ops/kv_cache.h).
//
// Generated positions go through decode attention (attend_decode.h) where it takes the layer. All
// others have the rebuilt form (docs/kernels/prefill_attention.md): latents are decoded to bf16,
// multiplied by the decoders, rotated to their positions and attended to in tiles; blocks without a
// basis, exact ones among them, are read as they are. Keys and values of a wave of tiles are
// rebuilt once for all heads and queries of their sequences.
//
// Bound per layer, for T queries that see N cached tokens: T N h 2 d multiply-adds for attention,
// and N g d (r_k + r_v) to rebuild. The rebuilt tiles (4 N g d bytes) are written and read once per
// wave; waves are small enough to stay, for the larger part, in the device's cache.
#pragma once

#include "absl/status/status.h"
#include "kernels/cuda/attend_decode.h"
#include "kernels/cuda/attend_plan.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/step_staging.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {

class CudaAttention {
 public:
  explicit CudaAttention(CudaContext& context)
      : context_(context), staging_(context), decode_(context) {}

  static CudaScratch Scratch(const BackendLimits& limits, const cudaDeviceProp& device);
  absl::Status Reserve(const BackendLimits& limits);

  // `args.sequences` are those of context.step().
  void Run(const AttendArgs& args);

 private:
  // A plan and its copies on the device.
  struct Prepared {
    cuda::AttendPlan plan;
    cuda::BlockRule rule;
    int64_t heads = 0;  // of a KV head
    int64_t generation = -1;
    const cuda::AttendItem* items = nullptr;
    const cuda::AttendSegment* segments = nullptr;
    const cuda::TileSlots* slots = nullptr;
    const cuda::KeyTile* latent_tiles = nullptr;
    const cuda::CacheRun* latent_runs = nullptr;
    const cuda::CacheRun* exact_runs = nullptr;
  };
  struct Rows {
    bf16_t* keys = nullptr;  // [wave tiles * 64, g * d]
    bf16_t* values = nullptr;
    bf16_t* key_latents = nullptr;  // [wave tiles * 64, groups * rank]
    bf16_t* value_latents = nullptr;
  };

  void AttendRebuilt(const AttendArgs& args, cuda::AttendRows which);
  const Prepared& Prepare(const AttendArgs& args, cuda::AttendRows which);
  void RebuildWave(const CacheLayer& layer, const Prepared& prepared,
                   const cuda::AttendPlan::Wave& wave, const Rows& rows);

  CudaContext& context_;
  StepStaging staging_;
  CudaDecodeAttention decode_;
  int64_t wave_tiles_ = 0;
  Prepared all_;     // of AttendRows::kAll
  Prepared prompt_;  // of AttendRows::kPrompt
};

}  // namespace lorc
