#include "kernels/cuda/attend.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/cuda/cuda_basis.h"

namespace lorc {
namespace {

using cuda::AttendRows;
using cuda::kKeyTile;

constexpr int64_t kPieceAlign = 256;  // of Staging
constexpr int64_t kRunsPerTile = kKeyTile / cuda::kRunTokens;

// Of the largest plan; two of them must fit at once.
int64_t PlanBytes(const BackendLimits& limits) {
  const int64_t heads = limits.num_heads / limits.num_kv_heads;
  const int64_t tiles = limits.max_sequences * ((limits.max_context + kKeyTile - 1) / kKeyTile);
  const int64_t wave_tiles = cuda::AttendPlan::WaveTiles(limits) - 1;
  const int64_t waves = 2 * tiles / wave_tiles + 1;
  // A sequence's items come again in every wave that it goes through.
  const int64_t item_rows = cuda::AttendItemRows(static_cast<int32_t>(limits.head_dim));
  const int64_t items = (limits.max_rows * heads / item_rows + limits.max_sequences) *
                        (2 * tiles / limits.max_sequences / wave_tiles + 2);
  return StepStaging::Bytes<cuda::AttendItem>(items) +
         StepStaging::Bytes<cuda::AttendSegment>(limits.max_sequences + waves) +
         StepStaging::Bytes<cuda::TileSlots>(tiles) + StepStaging::Bytes<cuda::KeyTile>(tiles) +
         2 * StepStaging::Bytes<cuda::CacheRun>(tiles * kRunsPerTile);
}

int64_t PlanBytes(const cuda::AttendPlan& plan) {
  return StepStaging::Bytes<cuda::AttendItem>(std::ssize(plan.items)) +
         StepStaging::Bytes<cuda::AttendSegment>(std::ssize(plan.segments)) +
         StepStaging::Bytes<cuda::TileSlots>(std::ssize(plan.slots)) +
         StepStaging::Bytes<cuda::KeyTile>(std::ssize(plan.latent_tiles)) +
         StepStaging::Bytes<cuda::CacheRun>(std::ssize(plan.latent_runs)) +
         StepStaging::Bytes<cuda::CacheRun>(std::ssize(plan.exact_runs));
}

}  // namespace

CudaScratch CudaAttention::Scratch(const BackendLimits& limits, const cudaDeviceProp& device) {
  if (limits.num_heads == 0) return {};
  const int64_t rows = cuda::AttendPlan::WaveTiles(limits) * kKeyTile;
  const int64_t states = limits.max_rows * limits.num_heads;
  CudaScratch scratch = CudaDecodeAttention::Scratch(limits, device);
  const int64_t rebuilt = 2 * (Arena::Bytes<bf16_t>(rows * limits.num_kv_heads * limits.head_dim) +
                               Arena::Bytes<bf16_t>(rows * limits.max_latent_width)) +
                          Arena::Bytes<float>(states * limits.head_dim) +
                          2 * Arena::Bytes<float>(states);
  scratch.workspace_bytes = std::max(scratch.workspace_bytes, rebuilt);
  return scratch;
}

absl::Status CudaAttention::Reserve(const BackendLimits& limits) {
  if (limits.num_heads == 0 || limits.max_sequences == 0) return absl::OkStatus();
  wave_tiles_ = cuda::AttendPlan::WaveTiles(limits);
  all_ = Prepared();
  prompt_ = Prepared();
  LORC_CUDA_RETURN_IF_ERROR(cuda::PrepareCacheProducts());
  LORC_CUDA_RETURN_IF_ERROR(cuda::PrepareAttendTiles(static_cast<int32_t>(limits.head_dim)));
  if (absl::Status status = decode_.Reserve(limits); !status.ok()) return status;
  return staging_.Reserve(2 * PlanBytes(limits) + kPieceAlign);
}

void CudaAttention::Run(const AttendArgs& args) {
  if (!decode_.Takes(*args.layer)) return AttendRebuilt(args, AttendRows::kAll);
  const auto has = [&args](AttendRows which) {
    return std::ranges::any_of(args.sequences, [which](const SequenceSpan& sequence) {
      return cuda::RowsOf(sequence, which).count > 0;
    });
  };
  if (has(AttendRows::kPrompt)) AttendRebuilt(args, AttendRows::kPrompt);
  if (has(AttendRows::kGenerated)) decode_.Run(args);
}

const CudaAttention::Prepared& CudaAttention::Prepare(const AttendArgs& args, AttendRows which) {
  const CacheLayer& layer = *args.layer;
  Prepared& prepared = which == AttendRows::kAll ? all_ : prompt_;
  const auto rule = cuda::BlockRule::Of(layer);
  const int64_t heads = layer.num_heads / layer.num_kv_heads;
  if (prepared.generation == staging_.Generation() && prepared.rule == rule &&
      prepared.heads == heads) {
    return prepared;
  }
  cuda::AttendPlan& plan = prepared.plan;
  plan.Build(layer, args.sequences, which, wave_tiles_, cuda::AttendItemRows(layer.head_dim));
  StepStaging::Parcel parcel = staging_.Begin(PlanBytes(plan));
  prepared.items = parcel.Add(plan.items);
  prepared.segments = parcel.Add(plan.segments);
  prepared.slots = parcel.Add(plan.slots);
  prepared.latent_tiles = parcel.Add(plan.latent_tiles);
  prepared.latent_runs = parcel.Add(plan.latent_runs);
  prepared.exact_runs = parcel.Add(plan.exact_runs);
  staging_.Send(parcel);
  prepared.rule = rule;
  prepared.heads = heads;
  prepared.generation = staging_.Generation();
  return prepared;
}

void CudaAttention::AttendRebuilt(const AttendArgs& args, AttendRows which) {
  const CacheLayer& layer = *args.layer;
  const Prepared& prepared = Prepare(args, which);
  Arena& arena = context_.workspace();
  Arena::Scope scope(arena);
  const int64_t rows = wave_tiles_ * kKeyTile;
  const int64_t num_states = int64_t{context_.step().num_rows} * layer.num_heads;
  Rows rebuilt;
  rebuilt.keys = arena.Take<bf16_t>(rows * layer.kv_width());
  rebuilt.values = arena.Take<bf16_t>(rows * layer.kv_width());
  if (layer.key.basis != nullptr) {
    rebuilt.key_latents = arena.Take<bf16_t>(rows * layer.key.groups * layer.key.rank);
  }
  if (layer.value.basis != nullptr) {
    rebuilt.value_latents = arena.Take<bf16_t>(rows * layer.value.groups * layer.value.rank);
  }
  cuda::AttendTilesArgs attend;
  attend.segments = prepared.segments;
  attend.slots = prepared.slots;
  attend.keys = rebuilt.keys;
  attend.values = rebuilt.values;
  attend.num_heads = layer.num_heads;
  attend.num_kv_heads = layer.num_kv_heads;
  attend.prefix_blocks = layer.prefix_blocks;
  attend.window_blocks = layer.window_blocks;
  attend.frame = cuda::FrameOf(layer);
  attend.query = args.query;
  attend.query_stride = args.query_stride;
  attend.out = args.out;
  LORC_CHECK(args.out_type == DType::kF32 || args.out_type == DType::kBf16);
  attend.out_is_bf16 = args.out_type == DType::kBf16;
  attend.state_out = arena.Take<float>(num_states * layer.head_dim);
  attend.state_maximum = arena.Take<float>(num_states);
  attend.state_sum = arena.Take<float>(num_states);
  for (const cuda::AttendPlan::Wave& wave : prepared.plan.waves) {
    RebuildWave(layer, prepared, wave, rebuilt);
    attend.items = prepared.items + wave.first_item;
    attend.num_items = wave.num_items;
    cuda::AttendTiles(attend, context_.stream());
  }
  context_.Check(cudaGetLastError(), "Attend");
}

void CudaAttention::RebuildWave(const CacheLayer& layer, const Prepared& prepared,
                                const cuda::AttendPlan::Wave& wave, const Rows& rows) {
  cudaStream_t stream = context_.stream();
  const int64_t exact_at = int64_t{wave.num_latent} * kKeyTile * layer.kv_width();
  cuda::GatherCachedArgs exact;
  exact.runs = prepared.exact_runs + wave.first_exact * kRunsPerTile;
  exact.num_runs = static_cast<int32_t>(wave.num_exact * kRunsPerTile);
  exact.block_bytes = layer.ExactBlockBytes();
  exact.frame = cuda::FrameOf(layer);
  exact.key = {cuda::ExactShape(layer), layer.exact_pool, rows.keys + exact_at};
  exact.value = {cuda::ExactShape(layer), layer.exact_pool + exact.block_bytes / 2,
                 rows.values + exact_at};
  cuda::GatherHeads(exact, stream);

  cuda::GatherCachedArgs latents;
  latents.runs = prepared.latent_runs + wave.first_latent * kRunsPerTile;
  latents.num_runs = static_cast<int32_t>(wave.num_latent * kRunsPerTile);
  latents.block_bytes = layer.LatentBlockBytes();
  latents.frame = exact.frame;
  cuda::GatherCachedArgs heads = latents;  // of tensors without a basis
  cuda::RebuildArgs rebuild;
  rebuild.num_tiles = wave.num_latent;
  rebuild.tiles = prepared.latent_tiles + wave.first_latent;
  rebuild.frame = exact.frame;
  rebuild.keys = rows.keys;
  rebuild.values = rows.values;
  for (const bool is_key : {true, false}) {
    const CacheTensor& tensor = is_key ? layer.key : layer.value;
    cuda::CachedTensor cached;
    cached.shape = cuda::ShapeOf(tensor, layer.block_tokens);
    cached.part = layer.latent_pool + (is_key ? 0 : layer.block_tokens * layer.key.BytesPerToken());
    if (tensor.basis == nullptr) {
      cached.rows = is_key ? rows.keys : rows.values;
      (is_key ? heads.key : heads.value) = cached;
      continue;
    }
    cached.rows = is_key ? rows.key_latents : rows.value_latents;
    (is_key ? latents.key : latents.value) = cached;
    (is_key ? rebuild.key : rebuild.value) = {
        tensor.groups, tensor.heads_per_group * layer.head_dim, tensor.rank, cached.rows,
        static_cast<const CudaBasis&>(*tensor.basis).decoder()};
  }
  cuda::GatherHeads(heads, stream);
  cuda::GatherLatents(latents, stream);
  cuda::Rebuild(rebuild, stream);
}

}  // namespace lorc
