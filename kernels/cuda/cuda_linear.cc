#include "kernels/cuda/cuda_linear.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cuda/cuda_matrix.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/elementwise.h"

namespace lorc {
namespace {

constexpr int64_t kLeastSize = 16;
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;  // what cuBLAS itself takes on Hopper
constexpr int64_t kPairsBytes = int64_t{64} << 20;      // about such a device's cache
constexpr uint32_t kAlignment = 16;                     // bytes, of every matrix

int64_t SizeOf(int64_t rows) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(rows, kLeastSize))));
}

// Rows of one piece of a gated pair's products.
int64_t PieceRows(int64_t pair_width) {
  const int64_t rows = kPairsBytes / (pair_width * static_cast<int64_t>(sizeof(float)));
  return std::max(kRowPadding, rows / kRowPadding * kRowPadding);
}

// cuBLASLt counts columns first: y^T [N, T] = W [N, K] x^T [K, T], each row-major matrix read as
// its transpose.
struct Descriptors {
  Descriptors(int64_t outputs, int64_t columns, int64_t rows, int64_t y_stride) {
    const cublasOperation_t transposed = CUBLAS_OP_T;
    Check(cublasLtMatmulDescInit(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    Check(cublasLtMatmulDescSetAttribute(&product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                         sizeof(transposed)));
    Check(cublasLtMatrixLayoutInit(&weight, CUDA_R_16BF, columns, outputs, columns));
    Check(cublasLtMatrixLayoutInit(&x, CUDA_R_16BF, columns, rows, columns));
    Check(cublasLtMatrixLayoutInit(&y, CUDA_R_32F, outputs, rows, y_stride));
  }

  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t weight, x, y;
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;

 private:
  void Check(cublasStatus_t result) {
    if (status == CUBLAS_STATUS_SUCCESS) status = result;
  }
};

class Preference {
 public:
  explicit Preference(uint64_t workspace_bytes) {
    Check(cublasLtMatmulPreferenceInit(&preference_));
    Set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
    // Parts of a sum are added in a fixed order.
    Set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    for (const auto matrix :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      Set(matrix, kAlignment);
    }
  }

  cublasLtMatmulPreference_t get() { return &preference_; }
  cublasStatus_t status() const { return status_; }

 private:
  template <typename T>
  void Set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    Check(cublasLtMatmulPreferenceSetAttribute(&preference_, attribute, &value, sizeof(value)));
  }
  void Check(cublasStatus_t result) {
    if (status_ == CUBLAS_STATUS_SUCCESS) status_ = result;
  }

  cublasLtMatmulPreferenceOpaque_t preference_;
  cublasStatus_t status_ = CUBLAS_STATUS_SUCCESS;
};

bool IsAligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % kAlignment == 0; }

}  // namespace

absl::Status CudaLinear::Reserve(const BackendLimits& limits) {
  chosen_.clear();
  workspace_ = Buffer();
  pairs_ = Buffer();
  auto workspace = AllocateDevice(kWorkspaceBytes, MemoryUse::kWorkspace, &context_.memory());
  if (!workspace.ok()) return workspace.status();
  workspace_ = *std::move(workspace);
  if (limits.max_gated_width == 0) return absl::OkStatus();
  const int64_t pair_width = 2 * limits.max_gated_width;
  const int64_t rows = std::min(limits.max_rows, PieceRows(pair_width));
  auto pairs = AllocateDevice(rows * pair_width * static_cast<int64_t>(sizeof(float)),
                              MemoryUse::kWorkspace, &context_.memory());
  if (!pairs.ok()) return pairs.status();
  pairs_ = *std::move(pairs);
  return absl::OkStatus();
}

std::vector<int32_t> CudaLinear::RowSizes(int32_t max_rows) {
  std::vector<int32_t> sizes;
  for (int64_t size = kLeastSize; size < max_rows; size *= 2) {
    sizes.push_back(static_cast<int32_t>(size));
  }
  sizes.push_back(max_rows);
  return sizes;
}

void CudaLinear::Run(const LinearArgs& args) {
  if (args.num_rows == 0) return;
  const auto& weight = static_cast<const CudaMatrix&>(*args.weight);
  LORC_CHECK(args.x_type == DType::kBf16);
  const bool gated = args.output == LinearArgs::Output::kGatedSilu;
  LORC_CHECK_EQ(gated, weight.gated_width() > 0);
  Product product;
  product.weight = weight.data();
  product.outputs = weight.rows();
  product.columns = weight.columns();
  product.x = static_cast<const bf16_t*>(args.x);
  if (!gated) {
    LORC_CHECK(args.y_type == DType::kF32);
    product.num_rows = args.num_rows;
    product.y = static_cast<float*>(args.y);
    product.y_stride = args.y_stride;
    product.add = args.output == LinearArgs::Output::kAdd;
    Multiply(product);
    return;
  }
  const int64_t width = weight.gated_width();
  product.y = pairs_.as<float>();
  product.y_stride = weight.rows();
  int64_t piece = pairs_.size() / (weight.rows() * static_cast<int64_t>(sizeof(float)));
  if (piece < args.num_rows) piece = piece / kRowPadding * kRowPadding;
  LORC_CHECK_GT(piece, 0);
  for (int64_t row = 0; row < args.num_rows; row += piece) {
    product.num_rows = std::min(piece, args.num_rows - row);
    product.x = static_cast<const bf16_t*>(args.x) + row * weight.columns();
    Multiply(product);
    const auto finish = [&](auto* y) {
      LaunchGatedSilu(product.y, product.num_rows, width, y + row * args.y_stride, args.y_stride,
                      context_.stream());
    };
    if (args.y_type == DType::kF32) {
      finish(static_cast<float*>(args.y));
    } else {
      LORC_CHECK(args.y_type == DType::kBf16);
      finish(static_cast<bf16_t*>(args.y));
    }
    context_.Check(cudaGetLastError(), "GatedSilu");
  }
}

void CudaLinear::Multiply(const Product& product) {
  if (context_.failed()) return;
  LORC_CHECK(IsAligned(product.weight) && IsAligned(product.x) && IsAligned(product.y));
  const auto shape_of = [&](int64_t rows) {
    return Shape(product.outputs, product.columns, rows, product.y_stride, product.add);
  };
  // The size's kernel; where it can't run this number of rows, one of the number's own.
  for (const int64_t rows : {SizeOf(product.num_rows), -product.num_rows}) {
    auto found = chosen_.find(shape_of(rows));
    if (found == chosen_.end()) {
      auto algorithm = Choose(product, std::abs(rows));
      if (!algorithm.ok()) return context_.Fail(algorithm.status());
      found = chosen_.emplace(shape_of(rows), *algorithm).first;
    }
    const cublasStatus_t status = Start(product, found->second);
    if (status == CUBLAS_STATUS_SUCCESS) return;
    const bool may_be_shape =
        status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
    if (rows < 0 || !may_be_shape) {
      return context_.Fail(CublasStatus(status, "cublasLtMatmul"));
    }
  }
}

cublasStatus_t CudaLinear::Start(const Product& product, const cublasLtMatmulAlgo_t& algorithm) {
  Descriptors descriptors(product.outputs, product.columns, product.num_rows, product.y_stride);
  if (descriptors.status != CUBLAS_STATUS_SUCCESS) return descriptors.status;
  const float alpha = 1.0f;
  const float beta = product.add ? 1.0f : 0.0f;
  return cublasLtMatmul(context_.cublas(), &descriptors.product, &alpha, product.weight,
                        &descriptors.weight, product.x, &descriptors.x, &beta, product.y,
                        &descriptors.y, product.y, &descriptors.y, &algorithm, workspace_.data(),
                        workspace_.size(), context_.stream());
}

absl::StatusOr<cublasLtMatmulAlgo_t> CudaLinear::Choose(const Product& product, int64_t rows) {
  Descriptors descriptors(product.outputs, product.columns, rows, product.y_stride);
  if (absl::Status status = CublasStatus(descriptors.status, "descriptors"); !status.ok()) {
    return status;
  }
  Preference preference(static_cast<uint64_t>(workspace_.size()));
  if (absl::Status status = CublasStatus(preference.status(), "preferences"); !status.ok()) {
    return status;
  }
  cublasLtMatmulHeuristicResult_t result = {};
  int count = 0;
  const cublasStatus_t found = cublasLtMatmulAlgoGetHeuristic(
      context_.cublas(), &descriptors.product, &descriptors.weight, &descriptors.x, &descriptors.y,
      &descriptors.y, preference.get(), 1, &result, &count);
  if (found == CUBLAS_STATUS_SUCCESS && count == 1) return result.algo;
  return absl::InternalError(absl::StrCat("cuBLASLt has no product for ", rows, " rows of ",
                                          product.columns, " inputs and ", product.outputs,
                                          " outputs: ", cublasLtGetStatusName(found)));
}

}  // namespace lorc
