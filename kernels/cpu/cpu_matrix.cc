#include "kernels/cpu/cpu_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/cpu/thread_pool.h"

namespace lorc {
namespace {

constexpr int64_t RoundUp(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

constexpr int64_t PaddedColumns(int64_t columns, DType type) {
  return RoundUp(columns, type == DType::kF32 ? 16 : 32);
}

}  // namespace

int64_t CpuMatrix::PackedBytes(int64_t rows, int64_t columns, DType type) {
  const int64_t scale_bytes = type == DType::kInt8 ? static_cast<int64_t>(sizeof(float)) : 0;
  return RoundUp(rows, kBlockColumns) *
         (PaddedColumns(columns, type) * ByteSize(type) + scale_bytes);
}

template <typename ReadBlock>
absl::StatusOr<std::unique_ptr<CpuMatrix>> CpuMatrix::PackBlocks(int64_t rows, int64_t columns,
                                                                 DType type, MemoryAccount* account,
                                                                 ThreadPool& pool,
                                                                 const ReadBlock& read_block) {
  LORC_CHECK(type == DType::kF32 || type == DType::kBf16 || type == DType::kInt8);
  LORC_CHECK_GT(rows, 0);
  LORC_CHECK_GT(columns, 0);
  std::unique_ptr<CpuMatrix> matrix(
      new CpuMatrix(rows, columns, type, PaddedColumns(columns, type)));
  auto data = Buffer::Allocate(matrix->padded_rows() * matrix->padded_columns() * ByteSize(type),
                               MemoryUse::kWeights, account);
  if (!data.ok()) return data.status();
  matrix->data_ = *std::move(data);
  if (type == DType::kInt8) {
    auto scales = Buffer::Allocate(matrix->padded_rows() * static_cast<int64_t>(sizeof(float)),
                                   MemoryUse::kWeights, account);
    if (!scales.ok()) return scales.status();
    matrix->scales_ = *std::move(scales);
  }
  std::vector<std::vector<float>> values(pool.num_threads());
  pool.ParallelFor(matrix->num_blocks(), [&](int64_t b, int thread) {
    values[thread].resize(kBlockColumns * columns);
    const int64_t count = read_block(b, values[thread].data());
    for (int64_t i = 0; i < count; ++i) {
      matrix->PackRow(b * kBlockColumns + i, values[thread].data() + i * columns);
    }
  });
  return matrix;
}

absl::StatusOr<std::unique_ptr<CpuMatrix>> CpuMatrix::Pack(const MatrixSource& source, DType type,
                                                           MemoryAccount* account,
                                                           ThreadPool& pool) {
  return PackBlocks(source.rows, source.columns, type, account, pool, [&](int64_t b, float* out) {
    const int64_t begin = b * kBlockColumns;
    const int64_t end = std::min(begin + kBlockColumns, source.rows);
    source.read_rows(begin, end, out);
    return end - begin;
  });
}

absl::StatusOr<std::unique_ptr<CpuMatrix>> CpuMatrix::PackGated(const MatrixSource& gate,
                                                                const MatrixSource& up, DType type,
                                                                MemoryAccount* account,
                                                                ThreadPool& pool) {
  LORC_CHECK_EQ(gate.rows, up.rows);
  LORC_CHECK_EQ(gate.columns, up.columns);
  const int64_t pairs = (gate.rows + kBlockColumns - 1) / kBlockColumns;
  auto matrix = PackBlocks(2 * pairs * kBlockColumns, gate.columns, type, account, pool,
                           [&](int64_t b, float* out) {
                             const int64_t begin = b / 2 * kBlockColumns;
                             const int64_t end = std::min(begin + kBlockColumns, gate.rows);
                             (b % 2 == 0 ? gate : up).read_rows(begin, end, out);
                             return end - begin;
                           });
  if (matrix.ok()) (*matrix)->gated_width_ = gate.rows;
  return matrix;
}

void CpuMatrix::PackRow(int64_t row, const float* values) {
  std::byte* to = block(row / kBlockColumns);
  const int64_t column = row % kBlockColumns;
  if (type() == DType::kF32) {
    auto* out = reinterpret_cast<float*>(to);
    for (int64_t k = 0; k < columns(); ++k) out[k * kBlockColumns + column] = values[k];
    return;
  }
  // Pairs of inputs: element (k, column) of the block.
  const auto at = [column](int64_t k) { return (k / 2 * kBlockColumns + column) * 2 + k % 2; };
  if (type() == DType::kBf16) {
    auto* out = reinterpret_cast<bf16_t*>(to);
    for (int64_t k = 0; k < columns(); ++k) out[at(k)] = F32ToBf16(values[k]);
    return;
  }
  float largest = 0;
  for (int64_t k = 0; k < columns(); ++k) largest = std::max(largest, std::abs(values[k]));
  const float scale = largest / 127.0f;
  scales_.as<float>()[row] = scale;
  const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
  auto* out = reinterpret_cast<int8_t*>(to);
  for (int64_t k = 0; k < columns(); ++k) {
    const float code = std::nearbyint(values[k] * inverse);
    // A weight that is not finite is the loader's error to report; here it only must not be
    // undefined.
    out[at(k)] = std::isfinite(code) ? static_cast<int8_t>(std::clamp(code, -127.0f, 127.0f)) : 0;
  }
}

void CpuMatrix::ReadRow(int64_t row, float* out) const {
  LORC_CHECK(row >= 0 && row < rows() && gated_width_ == 0);
  const std::byte* from = block(row / kBlockColumns);
  const int64_t column = row % kBlockColumns;
  const auto at = [column](int64_t k) { return (k / 2 * kBlockColumns + column) * 2 + k % 2; };
  switch (type()) {
    case DType::kF32: {
      const auto* in = reinterpret_cast<const float*>(from);
      for (int64_t k = 0; k < columns(); ++k) out[k] = in[k * kBlockColumns + column];
      return;
    }
    case DType::kBf16: {
      const auto* in = reinterpret_cast<const bf16_t*>(from);
      for (int64_t k = 0; k < columns(); ++k) out[k] = Bf16ToF32(in[at(k)]);
      return;
    }
    case DType::kInt8: {
      const auto* in = reinterpret_cast<const int8_t*>(from);
      const float scale = scales()[row];
      for (int64_t k = 0; k < columns(); ++k) out[k] = scale * static_cast<float>(in[at(k)]);
      return;
    }
    case DType::kF16:
      LORC_CHECK(false);
  }
}

}  // namespace lorc
