#include "kernels/cpu/cpu_basis.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace lorc {
namespace {

MatrixSource SourceAt(const float* values, int64_t rows, int64_t columns) {
  return {rows, columns, [values, columns](int64_t begin, int64_t end, float* out) {
            std::copy(values + begin * columns, values + end * columns, out);
          }};
}

constexpr int32_t RoundUp16(int32_t value) { return (value + 15) / 16 * 16; }

int64_t NumHeads(const BasisSource& source) {
  return int64_t{source.groups} * source.group_width / source.head_dim;
}

// Of absorb() or output().
int64_t NumbersPerHead(const BasisSource& source, bool is_key) {
  return is_key ? int64_t{source.head_dim} * RoundUp16(source.rank)
                : int64_t{source.rank} * RoundUp16(source.head_dim);
}

}  // namespace

absl::StatusOr<std::unique_ptr<CpuBasis>> CpuBasis::Make(const BasisSource& source, bool is_key,
                                                         DType type, MemoryAccount* account,
                                                         ThreadPool& pool) {
  LORC_CHECK(source.groups > 0 && source.rank > 0);
  LORC_CHECK_EQ(source.group_width % source.head_dim, 0);
  std::unique_ptr<CpuBasis> basis(new CpuBasis);
  const int64_t d = source.head_dim;
  const int64_t rank = source.rank;
  basis->head_dim_ = source.head_dim;
  basis->padded_head_dim_ = RoundUp16(source.head_dim);
  basis->rank_ = source.rank;
  basis->padded_rank_ = RoundUp16(source.rank);
  const int64_t group_size = rank * source.group_width;
  for (int32_t i = 0; i < source.groups; ++i) {
    auto encoder = CpuMatrix::Pack(
        SourceAt(source.encoder + i * group_size, rank, source.group_width), type, account, pool);
    if (!encoder.ok()) return encoder.status();
    basis->encoders_.push_back(*std::move(encoder));
    auto decoder = CpuMatrix::Pack(
        SourceAt(source.decoder + i * group_size, source.group_width, rank), type, account, pool);
    if (!decoder.ok()) return decoder.status();
    basis->decoders_.push_back(*std::move(decoder));
  }
  if (!source.absorbed) return basis;
  const int64_t num_heads = NumHeads(source);
  const int64_t per_head = NumbersPerHead(source, is_key);
  auto f32 = Buffer::Allocate(num_heads * per_head * static_cast<int64_t>(sizeof(float)),
                              MemoryUse::kWeights, account);
  if (!f32.ok()) return f32.status();
  basis->f32_ = *std::move(f32);
  auto* out = basis->f32_.as<float>();
  for (int64_t head = 0; head < num_heads; ++head) {
    // decoder[group, (head in group) * d + i, r]
    const float* decoder = source.decoder + head * d * rank;
    for (int64_t i = 0; i < d; ++i) {
      for (int64_t r = 0; r < rank; ++r) {
        const int64_t at = is_key ? i * basis->padded_rank_ + r : r * basis->padded_head_dim_ + i;
        out[head * per_head + at] = decoder[i * rank + r];
      }
    }
  }
  return basis;
}

int64_t CpuBasis::Bytes(const BasisSource& source, bool is_key, DType type) {
  const int64_t products =
      source.groups * (CpuMatrix::PackedBytes(source.rank, source.group_width, type) +
                       CpuMatrix::PackedBytes(source.group_width, source.rank, type));
  if (!source.absorbed) return products;
  return products +
         NumHeads(source) * NumbersPerHead(source, is_key) * static_cast<int64_t>(sizeof(float));
}

int64_t CpuBasis::size_bytes() const {
  int64_t bytes = f32_.size();
  for (const auto& encoder : encoders_) bytes += encoder->size_bytes();
  for (const auto& decoder : decoders_) bytes += decoder->size_bytes();
  return bytes;
}

}  // namespace lorc
