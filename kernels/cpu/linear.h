// Products on the CPU: oneDNN's blocked products for f32 and bf16 where the machine has them
// (AVX-512, AMX), our own loops elsewhere and for int8.
//
// Work is cut into tasks of (slice of outputs) x (block of rows). A task's products go to a small
// dense tile, and from there, still in the core's own cache, to y. The slices of a matrix never
// change, a block of rows is padded to one of a few sizes, and whatever computes a tile adds each
// output's products in the order of its inputs: so rows are independent bit for bit (ops/linear.h).
// For oneDNN this is a property of its kernels that tests/kernels/linear_test checks; a size for
// which it would choose another kernel than for many rows is never used.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/cpu_matrix.h"
#include "kernels/ops/linear.h"

namespace lorc {

class ThreadPool;

// Memory that products need beside their arguments; one per backend.
class LinearScratch {
 public:
  // Room for products of `max_rows` rows; `max_columns` counts only for int8 weights, whose x is
  // quantised.
  absl::Status Reserve(int num_threads, int64_t max_rows, int64_t max_columns,
                       MemoryAccount* account);

  float* tile(int thread) { return tiles_.as<float>() + thread * kTileFloats; }
  // oneDNN's own scratchpads: small, grown when a product is first met.
  std::vector<std::byte>& onednn(int thread) { return onednn_[thread]; }
  int16_t* codes(int64_t rows, int64_t columns);  // [rows, columns]
  float* code_scales() { return code_scales_.as<float>(); }

  static constexpr int64_t kTileFloats = 128 * 256;  // most rows times most outputs of a task

 private:
  Buffer tiles_;
  Buffer codes_;
  Buffer code_scales_;
  std::vector<std::vector<std::byte>> onednn_;
};

void CpuLinear(const LinearArgs& args, ThreadPool& pool, LinearScratch& scratch);

// Rows of one task at most.
inline constexpr int64_t kMaxTaskRows = kRowPadding;

// tile[t, n] = x[t] . W[first + n] for the outputs of `num_blocks` blocks from `block_begin`,
// padding included.
struct LinearTask {
  const CpuMatrix* weight = nullptr;
  int64_t block_begin = 0;
  int64_t num_blocks = 0;
  int64_t num_rows = 0;                // <= kMaxTaskRows
  const void* x = nullptr;             // [num_rows, K]; int8 weights: codes [num_rows, padded K]
  const float* code_scales = nullptr;  // int8 weights: [num_rows]
  float* tile = nullptr;  // [num_rows padded to a row size, 64 * num_blocks], 64-byte aligned

  int64_t width() const { return num_blocks * CpuMatrix::kBlockColumns; }
};

// Whether oneDNN has blocked kernels for this type on this machine.
bool OneDnnHasBlockedProducts(DType type);
void OneDnnLinearTask(const LinearTask& task, std::vector<std::byte>& scratch);

// f32 and bf16 on any machine.
void SimdLinearTask(const LinearTask& task);

// int8 weights. A row of x is quantised to 16-bit integers so that sums of products with 8-bit
// weights are exact in 32 bits: any order gives the same result.
void QuantizeRow(const void* x, DType x_type, int64_t width, int64_t padded_width, int16_t* codes,
                 float* scale);
void Int8LinearTask(const LinearTask& task);

// y (row 0, output 0 of the tile's slice) from the tile. `width` counts the outputs that exist; for
// a gated pair those of y.
void FinishTile(const float* tile, int64_t tile_stride, int64_t num_rows, int64_t width,
                LinearArgs::Output output, void* y, DType y_type, int64_t y_stride);

}  // namespace lorc
