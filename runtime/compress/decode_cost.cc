#include "runtime/compress/decode_cost.h"

#include <algorithm>

#include "runtime/kv/kv_layout.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr int32_t kBlockTokens = 16;

struct CachedTokens {
  int64_t prefix = 0;  // exact
  int64_t latent = 0;  // those that follow
  int64_t window = 0;  // exact
};

CachedTokens Count(const KvGeometry& geometry, int64_t context) {
  CachedTokens tokens;
  tokens.prefix = std::min<int64_t>(context, geometry.prefix_blocks * geometry.block_tokens);
  tokens.latent =
      std::min(geometry.LatentBlocks(context) * geometry.block_tokens, context - tokens.prefix);
  tokens.window = context - tokens.prefix - tokens.latent;
  return tokens;
}

// Chunks in which latent tokens lie.
int64_t Chunks(const CachedTokens& tokens, int64_t anchor) {
  if (tokens.latent == 0) return 0;
  if (anchor == 0) return 1;
  return (tokens.prefix + tokens.latent - 1) / anchor - tokens.prefix / anchor + 1;
}

int64_t MultiplyAdds(const LayerPlan& plan, const CacheLayer& layer, const CachedTokens& tokens) {
  const int64_t query_width = int64_t{layer.num_heads} * layer.head_dim;
  int64_t sum = 2 * query_width * (tokens.prefix + tokens.window);
  if (layer.RebuildsKeys()) sum += 2 * query_width * tokens.latent;
  for (const CacheTensor* tensor : {&layer.key, &layer.value}) {
    const bool is_key = tensor == &layer.key;
    const bool has_basis = !(is_key ? plan.key : plan.value).encoder.empty();
    const int64_t rank = tensor->rank;
    const int64_t encoder = has_basis ? rank * layer.kv_width() : 0;  // of all groups
    if (!tensor->latent_input) sum += encoder;
    if (layer.RebuildsKeys()) {
      sum += encoder * tokens.latent;
    } else {
      sum += layer.num_heads * rank * tokens.latent;
      if (has_basis && tokens.latent > 0) {
        sum += query_width * rank * (is_key ? Chunks(tokens, layer.anchor) : 1);
      }
    }
  }
  return sum;
}

}  // namespace

absl::StatusOr<DecodeCost> FindDecodeCost(const KvPlan& plan, const ModelConfig& config,
                                          DType exact_type, int64_t context) {
  LORC_RETURN_IF_ERROR(plan.Validate(config));
  LORC_ASSIGN_OR_RETURN(const KvLayout layout,
                        MakeKvLayout(plan, config, kBlockTokens, exact_type));
  const KvGeometry& geometry = layout.geometry;
  const CachedTokens tokens = Count(geometry, context);
  DecodeCost cost;
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    cost.multiply_adds += MultiplyAdds(plan.layers[l], layout.layers[l], tokens);
  }
  cost.cache_bytes =
      tokens.latent * layout.BytesPerToken() +
      (tokens.prefix + tokens.window) * (geometry.exact_block_bytes / geometry.block_tokens);
  return cost;
}

}  // namespace lorc
