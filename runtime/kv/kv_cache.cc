#include "runtime/kv/kv_cache.h"

#include "runtime/kv/rope.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

absl::StatusOr<std::unique_ptr<Basis>> MakeBasis(Backend& backend, const TensorPlan& tensor,
                                                 const ModelConfig& config, bool is_key,
                                                 DType type) {
  const int32_t group_width = config.kv_width() / tensor.groups;
  const std::vector<float> decoder = tensor.FullDecoder(group_width);
  BasisSource source;
  source.groups = tensor.groups;
  source.group_width = group_width;
  source.head_dim = config.head_dim;
  source.rank = tensor.rank;
  source.encoder = tensor.encoder.data();
  source.decoder = decoder.data();
  return backend.MakeBasis(source, is_key, type);
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Make(Backend& backend, const KvPlan& plan,
                                                       const ModelConfig& config,
                                                       const KvLayout& layout,
                                                       const KvGeometry& geometry, DType basis_type,
                                                       int64_t max_positions) {
  std::unique_ptr<KvCache> cache(new KvCache);
  cache->geometry_ = geometry;
  cache->layers_ = layout.layers;
  const int64_t half = config.head_dim / 2;
  LORC_ASSIGN_OR_RETURN(
      cache->rope_, Buffer::Allocate(2 * max_positions * half * static_cast<int64_t>(sizeof(float)),
                                     MemoryUse::kWeights, &backend.memory()));
  auto* cosines = cache->rope_.as<float>();
  float* sines = cosines + max_positions * half;
  FillRopeTables(config, max_positions, cosines, sines);
  const auto take_pool = [&](int64_t bytes) -> absl::StatusOr<std::byte*> {
    LORC_ASSIGN_OR_RETURN(Buffer pool, Buffer::Allocate(bytes + kPoolSlackBytes, MemoryUse::kCache,
                                                        &backend.memory()));
    cache->pools_.push_back(std::move(pool));
    return cache->pools_.back().data();
  };
  for (size_t i = 0; i < cache->layers_.size(); ++i) {
    CacheLayer& layer = cache->layers_[i];
    layer.rope_cos = cosines;
    layer.rope_sin = sines;
    LORC_ASSIGN_OR_RETURN(layer.latent_pool,
                          take_pool(geometry.num_latent_blocks * layer.LatentBlockBytes()));
    LORC_ASSIGN_OR_RETURN(layer.exact_pool,
                          take_pool(geometry.num_exact_blocks * layer.ExactBlockBytes()));
    for (const bool is_key : {true, false}) {
      const TensorPlan& tensor = is_key ? plan.layers[i].key : plan.layers[i].value;
      if (tensor.layout == KvLayoutKind::kFull) continue;
      LORC_ASSIGN_OR_RETURN(auto basis, MakeBasis(backend, tensor, config, is_key, basis_type));
      (is_key ? layer.key : layer.value).basis = basis.get();
      cache->bases_.push_back(std::move(basis));
    }
  }
  return cache;
}

}  // namespace lorc
