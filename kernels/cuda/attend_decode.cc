#include "kernels/cuda/attend_decode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "kernels/base/check.h"
#include "kernels/cuda/absorb.h"
#include "kernels/cuda/attend_narrow.h"
#include "kernels/cuda/attend_wide.h"
#include "kernels/cuda/cuda_basis.h"
#include "kernels/cuda/decode_out.h"

namespace lorc {
namespace {

using cuda::DecodeShape;

// A wave's absorbed queries, unless one row's are more.
constexpr int64_t kQueryBytes = int64_t{128} << 20;
// Rows of a wave where a step has fewer sequences: a sequence may have several generated positions.
constexpr int64_t kLeastWaveRows = 128;
constexpr int64_t kPieceAlign = 256;  // of Staging

template <typename Use>
void ForEachShape(const BackendLimits& limits, const cudaDeviceProp& device, const Use& use) {
  for (const CacheLayer& layer : limits.layers) {
    const auto shape = DecodeShape::Of(layer, static_cast<int32_t>(device.sharedMemPerBlockOptin));
    if (shape.has_value()) use(layer, *shape);
  }
}

cuda::WaveLimits WaveLimitsOf(const BackendLimits& limits, const cudaDeviceProp& device) {
  cuda::WaveLimits wave;
  wave.rows = std::min(limits.max_rows, std::max(limits.max_sequences, kLeastWaveRows));
  int64_t longest = 0;
  int64_t chunk_bytes = 1;
  ForEachShape(limits, device, [&](const CacheLayer& layer, const DecodeShape& shape) {
    longest = std::max(longest, cuda::NumChunks(limits.max_context, layer.anchor));
    chunk_bytes = std::max<int64_t>(chunk_bytes, shape.QueryWords() * sizeof(uint32_t));
  });
  wave.chunks = std::clamp(kQueryBytes / chunk_bytes, longest,
                           std::max<int64_t>(1, wave.rows) * std::max<int64_t>(1, longest));
  return wave;
}

// Extents of what a wave needs.
struct WaveExtents {
  int64_t rows = 0;
  int64_t chunks = 0;
  int64_t latent_slots = 0;
  int64_t exact_slots = 0;
};

// A wave's scratch memory. Pieces that the layer does not need are nullptr.
struct WaveScratch {
  uint32_t* query = nullptr;
  float* query_scale = nullptr;
  cuda::Partials latent;
  cuda::Partials exact;
  bf16_t* latents = nullptr;
  float* exact_out = nullptr;

  // `take(piece, count)`: of each piece.
  template <typename Take>
  void ForEach(const DecodeShape& shape, const WaveExtents& extents, const Take& take) {
    const int64_t latent_rows = extents.latent_slots * shape.LatentRows();
    const int64_t exact_rows = extents.exact_slots * shape.ExactRows();
    latent.width = shape.value_rank;
    exact.width = shape.head_dim;
    take(query, extents.chunks * shape.QueryWords());
    take(query_scale, extents.chunks * shape.QueryScales());
    take(latent.state, latent_rows);
    take(latent.out, latent_rows * latent.width);
    take(exact.state, exact_rows);
    take(exact.out, exact_rows * exact.width);
    take(latents, extents.rows * shape.num_heads * shape.value_rank);
    take(exact_out, extents.rows * shape.num_heads * shape.head_dim);
  }
};

// A stream begins a slot, and so does every range but its stream's first.
WaveExtents LargestWave(const cuda::WaveLimits& wave, const DecodeShape& shape, int32_t num_sms) {
  WaveExtents extents = {wave.rows, wave.chunks, wave.rows + shape.LatentStreams(num_sms), 0};
  if (shape.has_exact()) extents.exact_slots = 2 * wave.rows + shape.ExactStreams(num_sms);
  return extents;
}

template <typename T>
int64_t ParcelBytes(const std::vector<T>& values) {
  return StepStaging::Bytes<T>(std::ssize(values));
}

int64_t PassBytes(int64_t ranges, int64_t streams) {
  return StepStaging::Bytes<cuda::DecodeItem>(ranges + 1) +
         3 * StepStaging::Bytes<int32_t>(streams + 1);
}

int64_t ParcelBytes(const cuda::PassPlan& pass) {
  return ParcelBytes(pass.items) + ParcelBytes(pass.stream_begin) + ParcelBytes(pass.stream_item) +
         ParcelBytes(pass.stream_slot);
}

int64_t ParcelBytes(const cuda::DecodeWave& wave) {
  return ParcelBytes(wave.rows) + ParcelBytes(wave.chunks) + ParcelBytes(wave.latent) +
         ParcelBytes(wave.exact);
}

// Layers that decode attention sees as one.
bool Alike(const CacheLayer& a, const CacheLayer& b) {
  const auto alike = [](const CacheTensor& s, const CacheTensor& t) {
    return s.groups == t.groups && s.heads_per_group == t.heads_per_group && s.rank == t.rank &&
           (s.basis == nullptr) == (t.basis == nullptr) && s.segments == t.segments;
  };
  return a.num_heads == b.num_heads && a.num_kv_heads == b.num_kv_heads &&
         a.head_dim == b.head_dim && a.block_tokens == b.block_tokens &&
         a.prefix_blocks == b.prefix_blocks && a.window_blocks == b.window_blocks &&
         a.anchor == b.anchor && alike(a.key, b.key) && alike(a.value, b.value);
}

float SoftmaxScale(int32_t head_dim) {
  return static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(head_dim)));
}

const CudaBasis* BasisOf(const CacheTensor& tensor) {
  return static_cast<const CudaBasis*>(tensor.basis);
}

void AbsorbQueries(const AttendArgs& args, const DecodeShape& shape,
                   const cuda::DecodeChunk* chunks, int64_t num_chunks, const WaveScratch& scratch,
                   CudaContext& context) {
  const CacheLayer& layer = *args.layer;
  const CudaBasis& basis = *BasisOf(layer.key);
  cuda::AbsorbParams params;
  params.chunks = chunks;
  params.num_chunks = static_cast<int32_t>(num_chunks);
  params.query = args.query;
  params.query_stride = args.query_stride;
  params.rope_cos = layer.rope_cos;
  params.rope_sin = layer.rope_sin;
  params.num_kv_heads = layer.num_kv_heads;
  params.heads_per_kv = layer.num_heads / layer.num_kv_heads;
  params.heads_per_group = layer.key.heads_per_group;
  params.head_dim = layer.head_dim;
  params.rank = layer.key.rank;
  params.softmax_scale = SoftmaxScale(layer.head_dim);
  params.decoder = basis.fragments();
  params.column_norm = basis.column_norm();
  params.tile_rows = shape.tile_rows;
  params.head_tiles = shape.head_tiles;
  params.key_units = shape.units.key_count;
  for (int32_t u = 0; u < shape.units.key_count; ++u) {
    const cuda::UnitPlan& unit = shape.units.key[u];
    for (int32_t step = 0; step < unit.width / 16; ++step) {
      const int32_t column = unit.column / 16 + step;
      params.place[column] = static_cast<uint8_t>(2 * u + step);
      if (unit.type == SegmentType::kBf16) params.bf16_columns |= uint64_t{1} << column;
    }
  }
  params.out = scratch.query;
  params.out_scale = scratch.query_scale;
  context.Check(cuda::LaunchAbsorb(params, context.stream()), "absorbing queries");
}

}  // namespace

CudaScratch CudaDecodeAttention::Scratch(const BackendLimits& limits,
                                         const cudaDeviceProp& device) {
  const cuda::WaveLimits wave = WaveLimitsOf(limits, device);
  CudaScratch scratch;
  ForEachShape(limits, device, [&](const CacheLayer&, const DecodeShape& shape) {
    int64_t bytes = 0;
    WaveScratch().ForEach(
        shape, LargestWave(wave, shape, device.multiProcessorCount),
        [&]<typename T>(const T*, int64_t count) { bytes += Arena::Bytes<T>(count); });
    scratch.workspace_bytes = std::max(scratch.workspace_bytes, bytes);
  });
  return scratch;
}

absl::Status CudaDecodeAttention::Reserve(const BackendLimits& limits) {
  const cudaDeviceProp& device = context_.properties();
  wave_limits_ = WaveLimitsOf(limits, device);
  layers_.clear();
  plans_.clear();
  // Plans of the layers' rules: with and without bases, they list the same.
  std::vector<cuda::DecodeRule> rules;
  int64_t largest = 0;
  int64_t sum = 0;
  ForEachShape(limits, device, [&](const CacheLayer& layer, const DecodeShape& shape) {
    const cuda::DecodeRule rule = RuleOf(layer, shape);
    if (std::ranges::find(rules, rule) != rules.end()) return;
    rules.push_back(rule);
    const int64_t bytes = StepStaging::Bytes<cuda::RowSlots>(wave_limits_.rows) +
                          StepStaging::Bytes<cuda::DecodeChunk>(wave_limits_.chunks) +
                          PassBytes(wave_limits_.rows, rule.latent_streams) +
                          PassBytes(2 * wave_limits_.rows, rule.exact_streams) + kPieceAlign;
    largest = std::max(largest, bytes);
    sum += bytes;
  });
  // Where a step has several waves, the next is written while one is on its way.
  return staging_.Reserve(std::max(sum, 2 * largest));
}

const std::optional<DecodeShape>& CudaDecodeAttention::ShapeOf(const CacheLayer& layer) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    // A step goes through the layers in order.
    const size_t at = (last_layer_ + i) % layers_.size();
    if (!Alike(layers_[at].layer, layer)) continue;
    last_layer_ = at;
    return layers_[at].shape;
  }
  auto shape =
      DecodeShape::Of(layer, static_cast<int32_t>(context_.properties().sharedMemPerBlockOptin));
  if (shape.has_value() && !cuda::DecodeTakes(layer, *shape)) shape.reset();
  last_layer_ = layers_.size();
  return layers_.emplace_back(layer, shape).shape;
}

bool CudaDecodeAttention::Takes(const CacheLayer& layer) { return ShapeOf(layer).has_value(); }

cuda::DecodeRule CudaDecodeAttention::RuleOf(const CacheLayer& layer,
                                             const DecodeShape& shape) const {
  const int32_t num_sms = context_.properties().multiProcessorCount;
  cuda::DecodeRule rule;
  rule.blocks = cuda::BlockRule::Of(layer);
  rule.anchor = layer.anchor;
  rule.absorbs = layer.key.basis != nullptr;
  rule.tile_tokens = shape.tile_tokens();
  rule.latent_streams = shape.LatentStreams(num_sms);
  rule.exact_streams = shape.ExactStreams(num_sms);
  return rule;
}

CudaDecodeAttention::StepPlan& CudaDecodeAttention::PlanOf(
    const cuda::DecodeRule& rule, std::span<const SequenceSpan> sequences) {
  auto plan = std::ranges::find(plans_, rule, &StepPlan::rule);
  if (plan == plans_.end()) {
    plans_.emplace_back().rule = rule;
    plan = plans_.end() - 1;
  }
  if (plan->step != context_.step_number()) {
    plan->step = context_.step_number();
    plan->waves = cuda::PlanDecode(rule, wave_limits_, sequences, context_.step_tables());
    plan->sent.assign(plan->waves.size(), {});
  }
  return *plan;
}

const CudaDecodeAttention::SentWave& CudaDecodeAttention::Send(StepPlan& plan, size_t index) {
  SentWave& sent = plan.sent[index];
  if (sent.generation == staging_.Generation()) return sent;
  const cuda::DecodeWave& wave = plan.waves[index];
  StepStaging::Parcel parcel = staging_.Begin(ParcelBytes(wave));
  const auto add_pass = [&](const cuda::PassPlan& pass) {
    return cuda::DecodePass{parcel.Add(pass.items), context_.step().tables,
                            parcel.Add(pass.stream_begin), parcel.Add(pass.stream_item),
                            parcel.Add(pass.stream_slot)};
  };
  sent.rows = parcel.Add(wave.rows);
  sent.chunks = parcel.Add(wave.chunks);
  sent.latent = add_pass(wave.latent);
  sent.exact = add_pass(wave.exact);
  staging_.Send(parcel);
  sent.generation = staging_.Generation();
  return sent;
}

void CudaDecodeAttention::Run(const AttendArgs& args) {
  const CacheLayer& layer = *args.layer;
  const std::optional<DecodeShape>& shape = ShapeOf(layer);
  LORC_CHECK(shape.has_value());
  StepPlan& plan = PlanOf(RuleOf(layer, *shape), args.sequences);
  for (size_t i = 0; i < plan.waves.size(); ++i) {
    RunWave(args, *shape, plan.waves[i], Send(plan, i));
  }
}

void CudaDecodeAttention::RunWave(const AttendArgs& args, const DecodeShape& shape,
                                  const cuda::DecodeWave& wave, const SentWave& sent) {
  const CacheLayer& layer = *args.layer;
  const auto num_rows = static_cast<int32_t>(wave.rows.size());
  const auto shared_bytes = static_cast<int>(context_.properties().sharedMemPerBlockOptin);
  const bool decodes_values = layer.value.basis != nullptr;
  LORC_CHECK(args.out_type == DType::kF32 || args.out_type == DType::kBf16);
  const bool out_bf16 = args.out_type == DType::kBf16;
  cudaStream_t stream = context_.stream();

  Arena& arena = context_.workspace();
  Arena::Scope scope(arena);
  WaveScratch scratch;
  scratch.ForEach(shape,
                  {decodes_values ? num_rows : 0, std::ssize(wave.chunks), wave.latent.num_slots,
                   wave.exact.num_slots},
                  [&]<typename T>(T*& piece, int64_t count) {
                    if (count > 0) piece = arena.Take<T>(count);
                  });
  if (!wave.chunks.empty()) {
    AbsorbQueries(args, shape, sent.chunks, std::ssize(wave.chunks), scratch, context_);
  }

  cuda::AttendLatentParams attend;
  attend.block_shift = std::countr_zero(static_cast<uint32_t>(layer.block_tokens));
  attend.anchor = layer.anchor;
  attend.raw_stride = args.query_stride;
  attend.rope_cos = layer.rope_cos;
  attend.rope_sin = layer.rope_sin;
  attend.head_dim = layer.head_dim;
  attend.softmax_scale = SoftmaxScale(layer.head_dim);
  if (wave.latent.num_streams() > 0) {
    attend.pass = sent.latent;
    attend.pool = layer.latent_pool;
    attend.block_bytes = layer.LatentBlockBytes();
    attend.value_offset = layer.block_tokens * layer.key.BytesPerToken();
    attend.key_group_bytes = attend.value_offset / shape.groups;
    attend.value_group_bytes = layer.block_tokens * layer.value.BytesPerToken() / shape.groups;
    attend.groups = shape.groups;
    attend.rows = shape.rows;
    attend.query = reinterpret_cast<const uint2*>(scratch.query);
    attend.query_scale = scratch.query_scale;
    attend.raw_query = layer.key.basis == nullptr ? args.query : nullptr;
    attend.partials = scratch.latent;
    const auto launch = shape.wide ? cuda::LaunchAttendWide : cuda::LaunchAttendNarrow;
    context_.Check(launch(attend, shape.units, wave.latent.num_streams(), shared_bytes, stream),
                   "attention to latents");
  }
  if (wave.exact.num_streams() > 0) {
    attend.pass = sent.exact;
    attend.pool = layer.exact_pool;
    attend.block_bytes = layer.ExactBlockBytes();
    attend.value_offset = attend.block_bytes / 2;
    attend.key_group_bytes = attend.value_offset / layer.num_kv_heads;
    attend.value_group_bytes = attend.key_group_bytes;
    attend.groups = layer.num_kv_heads;
    attend.rows = layer.num_heads / layer.num_kv_heads;
    attend.raw_query = args.query;
    attend.partials = scratch.exact;
    context_.Check(cuda::LaunchAttendNarrow(attend, shape.exact_units, wave.exact.num_streams(),
                                            shared_bytes, stream),
                   "attention to exact tokens");
  }

  cuda::CombineParams combine;
  combine.rows = sent.rows;
  combine.num_rows = num_rows;
  combine.num_heads = layer.num_heads;
  combine.heads_per_kv = layer.num_heads / layer.num_kv_heads;
  combine.head_dim = layer.head_dim;
  combine.latent = scratch.latent;
  combine.latent_heads = shape.rows;
  combine.latent_tile_rows = shape.tile_rows;
  combine.latent_tiles = shape.groups * shape.head_tiles;
  combine.exact = scratch.exact;
  combine.latents = scratch.latents;
  combine.exact_out = scratch.exact_out;
  combine.out = args.out;
  combine.out_bf16 = out_bf16;
  context_.Check(cuda::LaunchCombine(combine, stream), "combining attention");
  if (!decodes_values) return;

  cuda::DecodeValuesParams values;
  values.rows = sent.rows;
  values.num_rows = num_rows;
  values.num_heads = layer.num_heads;
  values.heads_per_kv = combine.heads_per_kv;
  values.head_dim = layer.head_dim;
  values.rank = layer.value.rank;
  values.latents = scratch.latents;
  values.exact_out = scratch.exact_out;
  values.decoder = BasisOf(layer.value)->fragments();
  values.out = args.out;
  values.out_bf16 = out_bf16;
  context_.Check(cuda::LaunchDecodeValues(values, stream), "decoding values");
}

}  // namespace lorc
