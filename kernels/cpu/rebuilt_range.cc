#include "kernels/cpu/rebuilt_range.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/cpu/cpu_basis.h"
#include "kernels/cpu/thread_pool.h"

namespace lorc {
namespace {

constexpr int64_t kVectorSlack = 16;  // vectors may read past the last head's values

}  // namespace

RebuiltRange::RebuiltRange(const CacheLayer& layer, const SequenceSpan& sequence,
                           int64_t num_tokens, int64_t begin, int64_t end, Arena& arena)
    : layer_(layer),
      sequence_(sequence),
      exact_tensors_(layer),
      num_tokens_(num_tokens),
      begin_(begin),
      num_rows_((end - begin) * layer.block_tokens) {
  const int64_t numbers = num_rows_ * layer.kv_width();
  for (Version* version : {&exact_, &latent_}) {
    version->keys = arena.Take<float>(numbers);
    version->values = arena.Take<float>(numbers + kVectorSlack);
    version->heads_per_group = layer.num_kv_heads;
  }
}

int64_t RebuiltRange::ScratchBytes(int64_t num_tokens, int64_t kv_width, int64_t max_latent_width) {
  const int64_t numbers = num_tokens * kv_width;
  return 2 * (Arena::Bytes<float>(numbers) + Arena::Bytes<float>(numbers + kVectorSlack)) +
         Arena::Bytes<float>(PaddedRows(num_tokens) * max_latent_width);
}

int64_t RebuiltRange::TokensIn(int64_t block) const {
  return std::min<int64_t>(layer_.block_tokens, num_tokens_ - block * layer_.block_tokens);
}

float* RebuiltRange::Keys(const Version& version, int64_t block, int64_t kv_head) const {
  return version.keys +
         ((block - begin_) * layer_.num_kv_heads + kv_head) * layer_.head_dim * layer_.block_tokens;
}

float* RebuiltRange::Rows(const Version& version, int64_t block, int64_t group) const {
  const int64_t width = version.heads_per_group * layer_.head_dim;
  return version.values + (group * num_rows_ + (block - begin_) * layer_.block_tokens) * width;
}

const std::byte* RebuiltRange::LatentPart(int64_t block, KeyOrValue which) const {
  return layer_.latent_pool + sequence_.latent_blocks[block] * layer_.LatentBlockBytes() +
         (which == KeyOrValue::kKey ? 0 : layer_.block_tokens * layer_.key.BytesPerToken());
}

KeyValueTile RebuiltRange::Tile(bool exact, int64_t block, int64_t kv_head) const {
  const Version& version = exact ? exact_ : latent_;
  const int64_t group = kv_head / version.heads_per_group;
  KeyValueTile tile;
  tile.keys = Keys(version, block, kv_head);
  tile.values = Rows(version, block, group) + kv_head % version.heads_per_group * layer_.head_dim;
  tile.value_stride = version.heads_per_group * layer_.head_dim;
  return tile;
}

// Rotates the keys that lie in a block's rows of a group to their positions and turns them into
// tiles.
void RebuiltRange::StoreKeys(int64_t block, int64_t group, const Version& version) const {
  const int64_t d = layer_.head_dim;
  const int64_t heads = version.heads_per_group;
  const int64_t num_tokens = TokensIn(block);
  float* rows = Rows(version, block, group);
  for (int64_t t = 0; t < num_tokens; ++t) {
    const int64_t start = layer_.ChunkStart(block * layer_.block_tokens + t);
    if (start == 0) continue;
    float* row = rows + t * heads * d;
    RotateHeads(row, layer_.rope_cos + start * (d / 2), layer_.rope_sin + start * (d / 2), heads, d,
                row);
  }
  for (int64_t head = 0; head < heads; ++head) {
    TurnKeys(rows + head * d, heads * d, num_tokens, d, layer_.block_tokens,
             Keys(version, block, group * heads + head));
  }
}

// A block that needs no basis, all KV heads as one group.
void RebuiltRange::Load(const CacheTensor& tensor, KeyOrValue which, const std::byte* part,
                        int64_t block, Version& version) const {
  const int64_t width = tensor.heads_per_group * layer_.head_dim;
  for (int32_t group = 0; group < tensor.groups; ++group) {
    ReadTokens(tensor, which, layer_.block_tokens, group, TokensIn(block), part,
               Rows(version, block, 0) + group * width, layer_.kv_width());
  }
  if (which == KeyOrValue::kKey) StoreKeys(block, 0, version);
}

void RebuiltRange::LoadExact(int64_t block) {
  const std::byte* part =
      layer_.exact_pool + sequence_.exact_blocks[block] * layer_.ExactBlockBytes();
  Load(exact_tensors_.tensor, KeyOrValue::kKey, part, block, exact_);
  Load(exact_tensors_.tensor, KeyOrValue::kValue, part + layer_.ExactBlockBytes() / 2, block,
       exact_);
}

void RebuiltRange::RebuildLatent(int64_t first, int64_t last, ThreadPool& pool,
                                 LinearScratch& linear, Arena& arena) {
  Rebuild(layer_.key, KeyOrValue::kKey, first, last, pool, linear, arena);
  Rebuild(layer_.value, KeyOrValue::kValue, first, last, pool, linear, arena);
}

void RebuiltRange::Rebuild(const CacheTensor& tensor, KeyOrValue which, int64_t first, int64_t last,
                           ThreadPool& pool, LinearScratch& linear, Arena& arena) {
  if (tensor.basis == nullptr) {
    latent_.heads_per_group = layer_.num_kv_heads;
    pool.ParallelFor(last - first, [&](int64_t i, int) {
      Load(tensor, which, LatentPart(first + i, which), first + i, latent_);
    });
    return;
  }
  Arena::Scope scope(arena);
  latent_.heads_per_group = tensor.heads_per_group;
  const auto& basis = static_cast<const CpuBasis&>(*tensor.basis);
  const int64_t num_rows = (last - first) * layer_.block_tokens;
  auto* latents = arena.Take<float>(PaddedRows(num_rows) * tensor.rank);
  for (int32_t group = 0; group < tensor.groups; ++group) {
    pool.ParallelFor(last - first, [&](int64_t i, int) {
      const int64_t at = i * layer_.block_tokens * tensor.rank;
      const std::byte* part = LatentPart(first + i, which);
      if (basis.type() == DType::kF32) {
        ReadTokens(tensor, which, layer_.block_tokens, group, TokensIn(first + i), part,
                   latents + at, tensor.rank);
      } else {
        ReadTokens(tensor, which, layer_.block_tokens, group, TokensIn(first + i), part,
                   reinterpret_cast<bf16_t*>(latents) + at, tensor.rank);
      }
    });
    LinearArgs product;
    product.weight = &basis.decoder(group);
    product.num_rows = num_rows;
    product.x = latents;
    product.x_type = basis.type();
    product.y = Rows(latent_, first, group);
    product.y_stride = tensor.heads_per_group * layer_.head_dim;
    CpuLinear(product, pool, linear);
    if (which == KeyOrValue::kKey) {
      pool.ParallelFor(last - first, [&](int64_t i, int) { StoreKeys(first + i, group, latent_); });
    }
  }
}

}  // namespace lorc
