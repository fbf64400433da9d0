// Writing the cache on a CUDA device (contract: ops/kv_cache.h).
//
// New tokens go straight into exact blocks, or into latent blocks where they need no projection.
// What has to be projected, tokens of the step or blocks that leave the window, is gathered as rows
// of bf16, multiplied by the encoders and quantised into latent blocks. Four kernels at most per
// wave of tokens, one where nothing is projected.
#pragma once

#include "absl/status/status.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/step_staging.h"
#include "kernels/cuda/write_plan.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {

class CudaCacheWriter {
 public:
  explicit CudaCacheWriter(CudaContext& context) : context_(context), staging_(context) {}

  static CudaScratch Scratch(const BackendLimits& limits);
  absl::Status Reserve(const BackendLimits& limits);

  // `args.sequences` are those of context.step().
  void Run(const WriteCacheArgs& args);

 private:
  // Brings the plan's runs to the device, once per step.
  void Prepare(const WriteCacheArgs& args);
  void WriteExact(const WriteCacheArgs& args);
  void WriteLatent(const WriteCacheArgs& args, int64_t first_run, int64_t num_runs);

  CudaContext& context_;
  StepStaging staging_;
  cuda::WritePlan plan_;
  cuda::BlockRule rule_;  // of the plan
  int64_t generation_ = -1;
  const cuda::WriteRun* exact_runs_ = nullptr;
  const cuda::WriteRun* latent_runs_ = nullptr;
};

}  // namespace lorc
