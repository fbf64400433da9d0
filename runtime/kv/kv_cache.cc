#include "runtime/kv/kv_cache.h"

#include "runtime/kv/rope.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

absl::StatusOr<std::unique_ptr<Basis>> MakeBasis(Backend& backend, const TensorPlan& tensor,
                                                 const CacheLayer& layer, bool is_key, DType type) {
  BasisSource source = BasisShape(layer, is_key);
  const std::vector<float> decoder = tensor.FullDecoder(source.group_width);
  source.encoder = tensor.encoder.data();
  source.decoder = decoder.data();
  return backend.MakeBasis(source, is_key, type);
}

// Cosines, then sines, [max_positions, d/2] each.
absl::StatusOr<Buffer> MakeRopeTables(Backend& backend, const ModelConfig& config,
                                      int64_t max_positions) {
  const int64_t table_size = max_positions * (config.head_dim / 2);
  std::vector<float> tables(2 * table_size);
  FillRopeTables(config, max_positions, tables.data(), tables.data() + table_size);
  const int64_t bytes = std::ssize(tables) * static_cast<int64_t>(sizeof(float));
  LORC_ASSIGN_OR_RETURN(Buffer buffer, backend.Allocate(bytes, MemoryUse::kWeights));
  backend.CopyIn(buffer.data(), tables.data(), bytes);
  return buffer;
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
  const int64_t table_size = max_positions * (config.head_dim / 2);
  LORC_ASSIGN_OR_RETURN(cache->rope_, MakeRopeTables(backend, config, max_positions));
  const auto* cosines = cache->rope_.as<float>();
  const float* sines = cosines + table_size;
  const auto take_pool = [&](int64_t bytes) -> absl::StatusOr<std::byte*> {
    LORC_ASSIGN_OR_RETURN(Buffer pool,
                          backend.Allocate(bytes + kPoolSlackBytes, MemoryUse::kCache));
    cache->pools_.push_back(std::move(pool));
    return cache->pools_.back().data();
  };
  for (size_t i = 0; i < cache->layers_.size(); ++i) {
    CacheLayer& layer = cache->layers_[i];
    LORC_RETURN_IF_ERROR(backend.CheckLayer(layer));
    layer.rope_cos = cosines;
    layer.rope_sin = sines;
    LORC_ASSIGN_OR_RETURN(layer.latent_pool,
                          take_pool(geometry.num_latent_blocks * layer.LatentBlockBytes()));
    LORC_ASSIGN_OR_RETURN(layer.exact_pool,
                          take_pool(geometry.num_exact_blocks * layer.ExactBlockBytes()));
    for (const bool is_key : {true, false}) {
      const TensorPlan& tensor = is_key ? plan.layers[i].key : plan.layers[i].value;
      if (tensor.layout == KvLayoutKind::kFull) continue;
      LORC_ASSIGN_OR_RETURN(auto basis, MakeBasis(backend, tensor, layer, is_key, basis_type));
      (is_key ? layer.key : layer.value).basis = basis.get();
      cache->bases_.push_back(std::move(basis));
    }
  }
  return cache;
}

}  // namespace lorc
