// Products with a weight: y = x W^T, y += x W^T, or the gated pair of a LLaMA feed-forward layer.
//
// Rows are independent: a row's result does not depend on the other rows' numbers nor on its place
// among them, and on the CPU not on how many they are, bit for bit: a request's tokens do not
// depend on its batch. On a GPU a row's rounding depends on the size of the batch
// (cuda/cuda_linear.h).
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/matrix.h"

namespace lorc {

// x holds a multiple of this many rows; rows past `num_rows` may be read.
inline constexpr int64_t kRowPadding = 128;

constexpr int64_t PaddedRows(int64_t rows) {
  return (rows + kRowPadding - 1) / kRowPadding * kRowPadding;
}

struct LinearArgs {
  enum class Output {
    kStore,      // y = x W^T, f32 [T, N]
    kAdd,        // y += x W^T, f32 [T, N]
    kGatedSilu,  // y = silu(x G^T) * (x U^T), y_type [T, F], for a weight made from the pair (G,
                 // U); z silu'd is z / (1 + exp(-z))
  };
  const Matrix* weight = nullptr;  // [N, K]
  int64_t num_rows = 0;            // T
  const void* x = nullptr;         // [PaddedRows(T), K], contiguous, 64-byte aligned
  DType x_type =
      DType::kF32;  // f32 for f32 weights, bf16 for bf16 weights, either for int8 weights
  Output output = Output::kStore;
  void* y = nullptr;
  DType y_type = DType::kF32;  // bf16 is possible for kGatedSilu
  int64_t y_stride = 0;        // elements from one row of y to the next
};

}  // namespace lorc
