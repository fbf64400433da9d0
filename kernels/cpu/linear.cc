#include "kernels/cpu/linear.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/cpu/thread_pool.h"

namespace lorc {
namespace {

constexpr int64_t kBlock = CpuMatrix::kBlockColumns;

template <typename T>
T* Aligned(std::vector<std::byte>& bytes, int64_t count) {
  const size_t needed = count * sizeof(T) + 64;
  if (bytes.size() < needed) bytes.resize(needed);
  return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(bytes.data()) + 63) / 64 * 64);
}

}  // namespace

void CpuLinear(const LinearArgs& args, ThreadPool& pool, LinearScratch& scratch) {
  if (args.num_rows == 0) return;
  const auto& weight = static_cast<const CpuMatrix&>(*args.weight);
  const bool gated = args.output == LinearArgs::Output::kGatedSilu;
  LORC_CHECK_EQ(gated, weight.gated_width() > 0);
  scratch.threads.resize(pool.num_threads());

  const void* x = args.x;
  int64_t x_row_bytes = weight.columns() * ByteSize(args.x_type);
  if (weight.type() == DType::kInt8) {
    const int64_t padded = weight.padded_columns();
    auto* codes = Aligned<int16_t>(scratch.codes, PaddedRows(args.num_rows) * padded);
    scratch.code_scales.resize(PaddedRows(args.num_rows));
    pool.ParallelFor(args.num_rows, [&](int64_t row, int) {
      QuantizeRow(static_cast<const std::byte*>(x) + row * x_row_bytes, args.x_type,
                  weight.columns(), padded, codes + row * padded, scratch.code_scales.data() + row);
    });
    x = codes;
    x_row_bytes = padded * static_cast<int64_t>(sizeof(int16_t));
  } else {
    LORC_CHECK(args.x_type == weight.type());
  }

  const bool onednn = weight.type() != DType::kInt8 && OneDnnHasBlockedProducts(weight.type());
  const int64_t slice = weight.slice_blocks();
  const int64_t num_slices = (weight.num_blocks() + slice - 1) / slice;
  const int64_t num_row_blocks = (args.num_rows + kMaxTaskRows - 1) / kMaxTaskRows;
  pool.ParallelFor(num_slices * num_row_blocks, [&](int64_t index, int thread) {
    LinearScratch::PerThread& local = scratch.threads[thread];
    const int64_t row = index % num_row_blocks * kMaxTaskRows;
    LinearTask task;
    task.weight = &weight;
    task.block_begin = index / num_row_blocks * slice;
    task.num_blocks = std::min(slice, weight.num_blocks() - task.block_begin);
    task.num_rows = std::min(kMaxTaskRows, args.num_rows - row);
    task.x = static_cast<const std::byte*>(x) + row * x_row_bytes;
    task.tile = Aligned<float>(local.tile, kMaxTaskRows * task.width());
    if (weight.type() == DType::kInt8) {
      task.code_scales = scratch.code_scales.data() + row;
      Int8LinearTask(task);
    } else if (onednn) {
      OneDnnLinearTask(task, local.onednn);
    } else {
      SimdLinearTask(task);
    }
    const int64_t first = task.block_begin * kBlock / (gated ? 2 : 1);
    const int64_t end = first + task.width() / (gated ? 2 : 1);
    const int64_t outputs = gated ? weight.gated_width() : weight.rows();
    auto* y =
        static_cast<std::byte*>(args.y) + (row * args.y_stride + first) * ByteSize(args.y_type);
    FinishTile(task.tile, task.width(), task.num_rows, std::min(end, outputs) - first, args.output,
               y, args.y_type, args.y_stride);
  });
}

}  // namespace lorc
