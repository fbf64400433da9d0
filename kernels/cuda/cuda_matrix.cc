#include "kernels/cuda/cuda_matrix.h"

#include <algorithm>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/device_memory.h"

namespace lorc {
namespace {

constexpr int64_t kPieceBytes = int64_t{8} << 20;  // one row where it is longer
constexpr int64_t kTaskRows = 16;                  // rows that a thread reads at once

}  // namespace

absl::Status MatrixLoader::TakePinned(int64_t row_bytes) {
  const int64_t bytes = std::max(kPieceBytes, row_bytes);
  for (Half& half : halves_) {
    if (half.pinned.size() >= bytes) continue;
    auto pinned = AllocatePinned(bytes);
    if (!pinned.ok()) return pinned.status();
    half.pinned = *std::move(pinned);
    if (half.sent.get() != nullptr) continue;
    auto sent = MakeCudaEvent();
    if (!sent.ok()) return sent.status();
    half.sent = *std::move(sent);
  }
  return absl::OkStatus();
}

void MatrixLoader::Release() {
  for (Half& half : halves_) half = Half();
}

absl::Status MatrixLoader::Send(const MatrixSource& source, bf16_t* out) {
  const int64_t columns = source.columns;
  const int64_t row_bytes = columns * ByteSize(DType::kBf16);
  if (absl::Status status = TakePinned(row_bytes); !status.ok()) return status;
  const int64_t piece_rows = halves_[0].pinned.size() / row_bytes;
  std::vector<std::vector<float>> values(pool_.num_threads());
  int index = 0;
  for (int64_t begin = 0; begin < source.rows; begin += piece_rows, index = 1 - index) {
    Half& half = halves_[index];
    LORC_CUDA_RETURN_IF_ERROR(cudaEventSynchronize(half.sent.get()));
    const int64_t count = std::min(piece_rows, source.rows - begin);
    auto* piece = half.pinned.as<bf16_t>();
    pool_.ParallelFor((count + kTaskRows - 1) / kTaskRows, [&](int64_t task, int thread) {
      const int64_t first = task * kTaskRows;
      const int64_t num_values = std::min(kTaskRows, count - first) * columns;
      values[thread].resize(kTaskRows * columns);
      source.read_rows(begin + first, begin + first + num_values / columns, values[thread].data());
      std::transform(values[thread].data(), values[thread].data() + num_values,
                     piece + first * columns, F32ToBf16);
    });
    LORC_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(out + begin * columns, piece, count * row_bytes,
                                              cudaMemcpyHostToDevice, context_.stream()));
    LORC_CUDA_RETURN_IF_ERROR(cudaEventRecord(half.sent.get(), context_.stream()));
  }
  return context_.Synchronize();
}

absl::StatusOr<std::unique_ptr<CudaMatrix>> MatrixLoader::Load(const MatrixSource& source) {
  LORC_CHECK(source.rows > 0 && source.columns > 0);
  std::unique_ptr<CudaMatrix> matrix(new CudaMatrix(source.rows, source.columns));
  auto data = AllocateDevice(source.rows * source.columns * ByteSize(DType::kBf16),
                             MemoryUse::kWeights, &context_.memory());
  if (!data.ok()) return data.status();
  matrix->data_ = *std::move(data);
  if (absl::Status status = Send(source, matrix->data_.as<bf16_t>()); !status.ok()) return status;
  return matrix;
}

absl::StatusOr<std::unique_ptr<CudaMatrix>> MatrixLoader::LoadGated(const MatrixSource& gate,
                                                                    const MatrixSource& up) {
  LORC_CHECK_EQ(gate.rows, up.rows);
  LORC_CHECK_EQ(gate.columns, up.columns);
  const int64_t width = gate.rows;
  auto matrix = Load({2 * width, gate.columns, [&](int64_t begin, int64_t end, float* out) {
                        const int64_t middle = std::clamp(width, begin, end);
                        if (begin < middle) gate.read_rows(begin, middle, out);
                        out += (middle - begin) * gate.columns;
                        if (middle < end) up.read_rows(middle - width, end - width, out);
                      }});
  if (matrix.ok()) (*matrix)->gated_width_ = width;
  return matrix;
}

absl::StatusOr<Buffer> MatrixLoader::LoadValues(const float* values, int64_t count) {
  auto data =
      AllocateDevice(count * ByteSize(DType::kBf16), MemoryUse::kWeights, &context_.memory());
  if (!data.ok()) return data.status();
  constexpr int64_t kRow = 1024;
  const MatrixSource whole = {count / kRow, kRow, [=](int64_t begin, int64_t end, float* out) {
                                std::copy(values + begin * kRow, values + end * kRow, out);
                              }};
  const int64_t rest = count % kRow;
  const float* tail = values + (count - rest);
  const MatrixSource part = {
      1, rest, [=](int64_t, int64_t, float* out) { std::copy(tail, tail + rest, out); }};
  auto* out = data->as<bf16_t>();
  if (whole.rows > 0) {
    if (absl::Status status = Send(whole, out); !status.ok()) return status;
  }
  if (rest > 0) {
    if (absl::Status status = Send(part, out + count - rest); !status.ok()) return status;
  }
  return data;
}

absl::StatusOr<Buffer> MatrixLoader::LoadBytes(std::span<const std::byte> bytes) {
  auto data = AllocateDevice(std::ssize(bytes), MemoryUse::kWeights, &context_.memory());
  if (!data.ok()) return data.status();
  LORC_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(data->data(), bytes.data(), bytes.size(),
                                            cudaMemcpyHostToDevice, context_.stream()));
  if (absl::Status status = context_.Synchronize(); !status.ok()) return status;
  return data;
}

}  // namespace lorc
