// Weights on a CUDA device: bf16, row-major [N, K], no padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "kernels/base/memory.h"
#include "kernels/cuda/stream.h"
#include "kernels/matrix.h"

namespace lorc {

class CudaContext;
class ThreadPool;

class CudaMatrix final : public Matrix {
 public:
  int64_t size_bytes() const override { return data_.size(); }

  const bf16_t* data() const { return data_.as<bf16_t>(); }

  // Of a pair (gate, up), [F, K] each, one below the other: F; else 0.
  int64_t gated_width() const { return gated_width_; }

 private:
  friend class MatrixLoader;
  CudaMatrix(int64_t rows, int64_t columns) : Matrix(rows, columns, DType::kBf16) {}

  Buffer data_;
  int64_t gated_width_ = 0;
};

// Brings matrices to the device in pieces, by way of pinned memory: while one piece is copied the
// pool's threads read and round the next.
class MatrixLoader {
 public:
  MatrixLoader(CudaContext& context, ThreadPool& pool) : context_(context), pool_(pool) {}

  absl::StatusOr<std::unique_ptr<CudaMatrix>> Load(const MatrixSource& source);
  absl::StatusOr<std::unique_ptr<CudaMatrix>> LoadGated(const MatrixSource& gate,
                                                        const MatrixSource& up);
  // Values [count], rounded to bf16, in new device memory.
  absl::StatusOr<Buffer> LoadValues(const float* values, int64_t count);
  // As they are, in new device memory.
  absl::StatusOr<Buffer> LoadBytes(std::span<const std::byte> bytes);

  // Gives the pinned memory back; the next matrix takes it again.
  void Release();

 private:
  // Row-major values of `source` to `out` in device memory.
  absl::Status Send(const MatrixSource& source, bf16_t* out);
  absl::Status TakePinned(int64_t row_bytes);

  struct Half {
    Buffer pinned;
    CudaEvent sent;
  };

  CudaContext& context_;
  ThreadPool& pool_;
  Half halves_[2];
};

}  // namespace lorc
