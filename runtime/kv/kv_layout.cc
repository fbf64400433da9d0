#include "runtime/kv/kv_layout.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

CacheTensor MakeTensor(const TensorPlan& plan, const ModelConfig& config) {
  CacheTensor tensor;
  tensor.groups = plan.groups;
  tensor.heads_per_group = config.num_kv_heads / plan.groups;
  tensor.rank = plan.rank;
  tensor.segments = plan.segments;
  return tensor;
}

absl::Status CheckWholeBlocks(const char* what, int32_t tokens, int32_t block_tokens) {
  if (tokens % block_tokens == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the plan's ", what, " of ", tokens,
                                                 " tokens is not a multiple of the block of ",
                                                 block_tokens, " tokens"));
}

}  // namespace

bool WeightsGiveLatents(const KvPlan& plan, const TensorPlan& tensor, bool is_key) {
  if (plan.exact_prefix > 0 || plan.exact_window > 0) return false;
  return is_key ? tensor.layout == KvLayoutKind::kRebuilt : tensor.layout == KvLayoutKind::kDirect;
}

absl::StatusOr<KvLayout> MakeKvLayout(const KvPlan& plan, const ModelConfig& config,
                                      int32_t block_tokens, DType exact_type) {
  if (block_tokens != 16 && block_tokens != 32 && block_tokens != 64) {
    return absl::InvalidArgumentError(
        absl::StrCat("block_tokens: expected 16, 32 or 64, got ", block_tokens));
  }
  LORC_RETURN_IF_ERROR(CheckWholeBlocks("exact prefix", plan.exact_prefix, block_tokens));
  LORC_RETURN_IF_ERROR(CheckWholeBlocks("exact window", plan.exact_window, block_tokens));
  LORC_RETURN_IF_ERROR(CheckWholeBlocks("anchor", plan.anchor, block_tokens));
  KvLayout layout;
  KvGeometry& geometry = layout.geometry;
  geometry.block_tokens = block_tokens;
  geometry.prefix_blocks = plan.exact_prefix / block_tokens;
  geometry.window_blocks = plan.exact_window / block_tokens;
  const bool keeps_exact = geometry.prefix_blocks > 0 || geometry.window_blocks > 0;
  for (const LayerPlan& from : plan.layers) {
    CacheLayer layer;
    layer.num_heads = config.num_heads;
    layer.num_kv_heads = config.num_kv_heads;
    layer.head_dim = config.head_dim;
    layer.block_tokens = block_tokens;
    layer.prefix_blocks = geometry.prefix_blocks;
    layer.window_blocks = geometry.window_blocks;
    layer.anchor = from.key.layout == KvLayoutKind::kRebuilt  ? 1
                   : from.key.layout == KvLayoutKind::kDirect ? plan.anchor
                                                              : 0;
    layer.key = MakeTensor(from.key, config);
    layer.value = MakeTensor(from.value, config);
    layer.key.latent_input = WeightsGiveLatents(plan, from.key, true);
    layer.value.latent_input = WeightsGiveLatents(plan, from.value, false);
    layer.exact_type = exact_type;
    geometry.latent_block_bytes += layer.LatentBlockBytes();
    if (keeps_exact) geometry.exact_block_bytes += layer.ExactBlockBytes();
    layout.layers.push_back(std::move(layer));
  }
  geometry.full_bytes_per_token =
      2 * int64_t{config.num_layers} * config.kv_width() * ByteSize(DType::kBf16);
  return layout;
}

BasisSource BasisShape(const CacheLayer& layer, bool is_key) {
  const CacheTensor& tensor = is_key ? layer.key : layer.value;
  BasisSource source;
  source.groups = tensor.groups;
  source.group_width = tensor.heads_per_group * layer.head_dim;
  source.head_dim = layer.head_dim;
  source.rank = tensor.rank;
  source.absorbed = !layer.RebuildsKeys();
  return source;
}

absl::Status SizePools(const PoolRequest& request, KvGeometry* geometry) {
  const int64_t longest = request.max_sequence_tokens;
  const int64_t headroom = geometry->ExactHeadroom(request.max_step_tokens);
  const int64_t exact_per_sequence = geometry->ExactBlocksSteady(longest);
  const int64_t least_exact = exact_per_sequence > 0 ? exact_per_sequence + headroom : 0;
  const int64_t latent_per_sequence = geometry->LatentBlocks(longest);
  const int64_t least_bytes = least_exact * geometry->exact_block_bytes +
                              latent_per_sequence * geometry->latent_block_bytes;
  if (least_bytes > request.budget_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "one request of ", longest, " tokens needs ", least_bytes, " bytes of cache (",
        latent_per_sequence, " latent blocks of ", geometry->latent_block_bytes, " bytes and ",
        least_exact, " exact blocks of ", geometry->exact_block_bytes,
        " bytes, those of a step of ", request.max_step_tokens, " tokens included), the budget is ",
        request.budget_bytes, " bytes; raise --kv-budget-bytes or lower --max-sequence-tokens"));
  }
  int64_t exact = 0;
  if (exact_per_sequence > 0) {
    // Sequences of half the longest length that fit, without the step's headroom.
    const int64_t typical =
        std::max<int64_t>(1, (request.budget_bytes - headroom * geometry->exact_block_bytes) /
                                 geometry->BytesPromised(std::max<int64_t>(1, longest / 2)));
    const int64_t wanted =
        exact_per_sequence * std::min<int64_t>(request.max_running, typical) + headroom;
    // The longest request's latent blocks come first.
    const int64_t most =
        (request.budget_bytes - latent_per_sequence * geometry->latent_block_bytes) /
        geometry->exact_block_bytes;
    exact = std::min(std::max(least_exact, wanted), most);
  }
  geometry->num_exact_blocks = exact;
  geometry->num_latent_blocks =
      (request.budget_bytes - exact * geometry->exact_block_bytes) / geometry->latent_block_bytes;
  return absl::OkStatus();
}

int64_t ConcurrentSequences(const KvGeometry& geometry, int64_t tokens, int32_t max_step_tokens) {
  int64_t sequences = INT64_MAX;
  if (const int64_t latent = geometry.LatentBlocks(tokens); latent > 0) {
    sequences = geometry.num_latent_blocks / latent;
  }
  if (const int64_t exact = geometry.ExactBlocksSteady(tokens); exact > 0) {
    const int64_t blocks = geometry.num_exact_blocks - geometry.ExactHeadroom(max_step_tokens);
    sequences = std::min(sequences, std::max<int64_t>(0, blocks) / exact);
  }
  return sequences == INT64_MAX ? 0 : sequences;
}

}  // namespace lorc
