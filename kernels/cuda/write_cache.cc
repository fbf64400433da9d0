#include "kernels/cuda/write_cache.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/cuda/cache_product.h"
#include "kernels/cuda/cuda_basis.h"
#include "kernels/cuda/write_segments.h"

namespace lorc {
namespace {

using cuda::kRunTokens;
using cuda::SourceKind;

constexpr int64_t kWaveRuns = 128;  // that are projected at once

int64_t WaveRuns(const BackendLimits& limits) {
  return std::min(kWaveRuns, cuda::WritePlan::MaxRuns(limits));
}

// Full keys or values of the plan's runs.
cuda::TokenSource FullTokens(const WriteCacheArgs& args, bool is_key, bool ages) {
  const CacheLayer& layer = *args.layer;
  cuda::TokenSource source;
  source.is_key = is_key;
  if (ages) {
    source.kind = SourceKind::kExact;
    source.block_bytes = layer.ExactBlockBytes();
    source.exact = layer.exact_pool + (is_key ? 0 : source.block_bytes / 2);
  } else {
    source.kind = is_key ? SourceKind::kStepRotated : SourceKind::kStep;
    source.rows = is_key ? args.key : args.value;
    source.stride = is_key ? args.key_stride : args.value_stride;
  }
  return source;
}

}  // namespace

CudaScratch CudaCacheWriter::Scratch(const BackendLimits& limits) {
  const int64_t rows = WaveRuns(limits) * kRunTokens;
  CudaScratch scratch;
  scratch.workspace_bytes =
      2 * (Arena::Bytes<bf16_t>(rows * limits.num_kv_heads * limits.head_dim) +
           Arena::Bytes<float>(rows * limits.max_latent_width));
  return scratch;
}

absl::Status CudaCacheWriter::Reserve(const BackendLimits& limits) {
  if (limits.num_heads == 0) return absl::OkStatus();
  const int64_t runs = cuda::WritePlan::MaxRuns(limits);
  plan_.exact.reserve(runs);
  plan_.latent.reserve(runs);
  generation_ = -1;
  LORC_CUDA_RETURN_IF_ERROR(cuda::PrepareCacheProducts());
  return staging_.Reserve(2 * StepStaging::Bytes<cuda::WriteRun>(runs));
}

void CudaCacheWriter::Prepare(const WriteCacheArgs& args) {
  const auto rule = cuda::BlockRule::Of(*args.layer);
  if (staging_.Generation() == generation_ && rule == rule_) return;
  plan_.Build(*args.layer, args.sequences);
  StepStaging::Parcel parcel =
      staging_.Begin(StepStaging::Bytes<cuda::WriteRun>(std::ssize(plan_.exact)) +
                     StepStaging::Bytes<cuda::WriteRun>(std::ssize(plan_.latent)));
  exact_runs_ = parcel.Add(plan_.exact);
  latent_runs_ = parcel.Add(plan_.latent);
  staging_.Send(parcel);
  rule_ = rule;
  generation_ = staging_.Generation();
}

void CudaCacheWriter::Run(const WriteCacheArgs& args) {
  const CacheLayer& layer = *args.layer;
  LORC_CHECK(layer.anchor <= 1 || layer.anchor % layer.block_tokens == 0);
  LORC_CHECK(layer.block_tokens == 16 || layer.block_tokens == 32 || layer.block_tokens == 64);
  Prepare(args);
  if (!plan_.exact.empty()) WriteExact(args);
  const int64_t num_runs = std::ssize(plan_.latent);
  for (int64_t run = 0; run < num_runs; run += kWaveRuns) {
    WriteLatent(args, run, std::min(kWaveRuns, num_runs - run));
  }
  context_.Check(cudaGetLastError(), "WriteCache");
}

void CudaCacheWriter::WriteExact(const WriteCacheArgs& args) {
  const CacheLayer& layer = *args.layer;
  cuda::WriteSegmentsArgs write;
  write.runs = exact_runs_;
  write.num_runs = static_cast<int32_t>(plan_.exact.size());
  write.block_bytes = layer.ExactBlockBytes();
  write.frame = cuda::FrameOf(layer);
  write.key = {FullTokens(args, true, false), cuda::ExactShape(layer), layer.exact_pool};
  write.value = {FullTokens(args, false, false), cuda::ExactShape(layer),
                 layer.exact_pool + write.block_bytes / 2};
  cuda::WriteSegments(write, context_.stream());
}

void CudaCacheWriter::WriteLatent(const WriteCacheArgs& args, int64_t first_run, int64_t num_runs) {
  const CacheLayer& layer = *args.layer;
  Arena& arena = context_.workspace();
  Arena::Scope scope(arena);
  const int64_t num_rows = num_runs * kRunTokens;
  cuda::GatherRowsArgs gather;
  gather.runs = latent_runs_ + first_run;
  gather.num_runs = static_cast<int32_t>(num_runs);
  gather.width = layer.kv_width();
  gather.frame = cuda::FrameOf(layer);
  cuda::ProjectArgs project;
  project.num_rows = static_cast<int32_t>(num_rows);
  cuda::WriteSegmentsArgs write;
  write.runs = gather.runs;
  write.num_runs = gather.num_runs;
  write.block_bytes = layer.LatentBlockBytes();
  write.frame = gather.frame;
  for (const bool is_key : {true, false}) {
    const CacheTensor& tensor = is_key ? layer.key : layer.value;
    cuda::SegmentWrite& segments = is_key ? write.key : write.value;
    segments.shape = cuda::ShapeOf(tensor, layer.block_tokens);
    segments.part =
        layer.latent_pool + (is_key ? 0 : layer.block_tokens * layer.key.BytesPerToken());
    segments.source = FullTokens(args, is_key, plan_.ages);
    if (tensor.latent_input) {
      LORC_CHECK(!plan_.ages);
      segments.source.kind = SourceKind::kStep;
    } else if (tensor.basis != nullptr) {
      auto* rows = arena.Take<bf16_t>(num_rows * gather.width);
      auto* latents = arena.Take<float>(num_rows * tensor.groups * tensor.rank);
      (is_key ? gather.key : gather.value) = segments.source;
      (is_key ? gather.key_rows : gather.value_rows) = rows;
      (is_key ? project.key : project.value) = {
          tensor.groups, tensor.rank, tensor.heads_per_group * layer.head_dim, rows,
          static_cast<const CudaBasis&>(*tensor.basis).encoder()};
      (is_key ? project.key_latents : project.value_latents) = latents;
      segments.source.kind = SourceKind::kGathered;
      segments.source.rows = latents;
      segments.source.stride = int64_t{tensor.groups} * tensor.rank;
    }
  }
  cuda::GatherRows(gather, context_.stream());
  cuda::Project(project, context_.stream());
  cuda::WriteSegments(write, context_.stream());
}

}  // namespace lorc
