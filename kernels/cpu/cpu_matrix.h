// The CPU's matrices: columns of 64 outputs, inputs in pairs, the one layout that both oneDNN's
// blocked products (BA16a64b, BA16a64b2a) and our own loops read.
//
//   f32         [N/64][K][64]
//   bf16, int8  [N/64][K/2][64][2]
//
// N is padded to 64, K to 16 (f32) or 32 (bf16, int8); the padding is zero.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/base/memory.h"
#include "kernels/matrix.h"

namespace lorc {

class ThreadPool;

class CpuMatrix final : public Matrix {
 public:
  static constexpr int64_t kBlockColumns = 64;

  static absl::StatusOr<std::unique_ptr<CpuMatrix>> Pack(const MatrixSource& source, DType type,
                                                         MemoryAccount* account, ThreadPool& pool);
  // What Pack takes.
  static int64_t PackedBytes(int64_t rows, int64_t columns, DType type);

  // The pair (gate, up), [F, K] each, for Output::kGatedSilu: blocks of gate and of up alternate, F
  // padded to 64.
  static absl::StatusOr<std::unique_ptr<CpuMatrix>> PackGated(const MatrixSource& gate,
                                                              const MatrixSource& up, DType type,
                                                              MemoryAccount* account,
                                                              ThreadPool& pool);

  int64_t size_bytes() const override { return data_.size() + scales_.size(); }

  int64_t padded_columns() const { return padded_columns_; }  // of inputs
  int64_t num_blocks() const { return (rows() + kBlockColumns - 1) / kBlockColumns; }

  int64_t padded_rows() const { return num_blocks() * kBlockColumns; }

  // First byte of block b (outputs [64 b, 64 b + 64)).
  const std::byte* block(int64_t b) const {
    return data_.data() + b * kBlockColumns * padded_columns_ * ByteSize(type());
  }
  std::byte* block(int64_t b) {
    return data_.data() + b * kBlockColumns * padded_columns_ * ByteSize(type());
  }
  // int8: the scale of each output, padded with zeros to whole blocks; else nullptr.
  const float* scales() const { return scales_.size() == 0 ? nullptr : scales_.as<float>(); }

  // Of a pair: F; else 0.
  int64_t gated_width() const { return gated_width_; }

  // Outputs are handed to threads in fixed slices of this many blocks, whatever the batch is.
  int64_t slice_blocks() const { return num_blocks() <= 32 ? 2 : 4; }

  // out[k] = W[row, k], dequantised. Not for pairs.
  void ReadRow(int64_t row, float* out) const;

 private:
  CpuMatrix(int64_t rows, int64_t columns, DType type, int64_t padded_columns)
      : Matrix(rows, columns, type), padded_columns_(padded_columns) {}

  // `read_block(b, out)` writes block b's rows that exist and returns how many they are.
  template <typename ReadBlock>
  static absl::StatusOr<std::unique_ptr<CpuMatrix>> PackBlocks(int64_t rows, int64_t columns,
                                                               DType type, MemoryAccount* account,
                                                               ThreadPool& pool,
                                                               const ReadBlock& read_block);
  void PackRow(int64_t row, const float* values);

  int64_t padded_columns_;
  int64_t gated_width_ = 0;
  Buffer data_;
  Buffer scales_;
};

}  // namespace lorc
