// Products with a weight on a CUDA device through cuBLASLt (contract: ops/linear.h).
//
// bf16 inputs, sums in f32. Rows come in sizes: 16, 32, 64 and so on, in powers of two; all numbers
// of rows of one size run the same kernel, which cuBLASLt's heuristic chooses when a weight's shape
// and a size first meet. A row's result depends on the size of its batch, not on the other rows.
//
// The products of a gated pair go through f32 scratch memory, a piece of rows at a time: about as
// much as the device's cache holds.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/memory.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/ops/linear.h"

namespace lorc {

class CudaMatrix;

class CudaLinear {
 public:
  explicit CudaLinear(CudaContext& context) : context_(context) {}

  absl::Status Reserve(const BackendLimits& limits);

  void Run(const LinearArgs& args);

  // The sizes up to the one of `max_rows`, as numbers of rows; the last is max_rows.
  static std::vector<int32_t> RowSizes(int32_t max_rows);

 private:
  // y [T, N] f32, rows `y_stride` apart, (+)= x [T, K] w^T.
  struct Product {
    const bf16_t* weight = nullptr;
    int64_t outputs = 0;  // N
    int64_t columns = 0;  // K
    const bf16_t* x = nullptr;
    int64_t num_rows = 0;  // T
    float* y = nullptr;
    int64_t y_stride = 0;
    bool add = false;
  };
  // N, K, size of rows, y_stride, add
  using Shape = std::tuple<int64_t, int64_t, int64_t, int64_t, bool>;

  void Multiply(const Product& product);
  cublasStatus_t Start(const Product& product, const cublasLtMatmulAlgo_t& algorithm);
  // Asks the heuristic for products of `rows` rows.
  absl::StatusOr<cublasLtMatmulAlgo_t> Choose(const Product& product, int64_t rows);

  CudaContext& context_;
  Buffer workspace_;  // cuBLASLt's
  Buffer pairs_;      // [piece of rows, 2 F] f32
  std::map<Shape, cublasLtMatmulAlgo_t> chosen_;
};

}  // namespace lorc
