// The cache's memory: one pool per layer and kind of block, the plan's bases and the RoPE tables,
// all taken at once.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "runtime/kv/kv_layout.h"

namespace lorc {

class KvCache {
 public:
  // `geometry` with its numbers of blocks. `basis_type`: of the products with the bases, f32 or
  // bf16. `max_positions` bounds the positions of a sequence. The backend outlives the cache.
  static absl::StatusOr<std::unique_ptr<KvCache>> Make(Backend& backend, const KvPlan& plan,
                                                       const ModelConfig& config,
                                                       const KvLayout& layout,
                                                       const KvGeometry& geometry, DType basis_type,
                                                       int64_t max_positions);

  const KvGeometry& geometry() const { return geometry_; }
  const std::vector<CacheLayer>& layers() const { return layers_; }

 private:
  KvCache() = default;

  KvGeometry geometry_;
  std::vector<CacheLayer> layers_;
  std::vector<std::unique_ptr<Basis>> bases_;
  std::vector<Buffer> pools_;
  Buffer rope_;
};

}  // namespace lorc
