#include "kernels/cpu/linear.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/cpu/thread_pool.h"

namespace lorc {
namespace {

constexpr int64_t kBlock = CpuMatrix::kBlockColumns;
static_assert(kMaxTaskRows * 4 * kBlock == LinearScratch::kTileFloats);

constexpr int64_t RoundUp32(int64_t value) { return (value + 31) / 32 * 32; }

}  // namespace

absl::Status LinearScratch::Reserve(int num_threads, int64_t max_rows, int64_t max_columns,
                                    MemoryAccount* account) {
  const auto take = [account](int64_t bytes, Buffer& buffer) {
    auto taken = Buffer::Allocate(bytes, MemoryUse::kWorkspace, account);
    if (taken.ok()) buffer = *std::move(taken);
    return taken.status();
  };
  const int64_t rows = PaddedRows(max_rows);
  absl::Status status =
      take(num_threads * kTileFloats * static_cast<int64_t>(sizeof(float)), tiles_);
  if (status.ok()) {
    status = take(rows * RoundUp32(max_columns) * static_cast<int64_t>(sizeof(int16_t)), codes_);
  }
  if (status.ok()) status = take(rows * static_cast<int64_t>(sizeof(float)), code_scales_);
  onednn_.resize(num_threads);
  return status;
}

int16_t* LinearScratch::codes(int64_t rows, int64_t columns) {
  LORC_CHECK_LE(rows * columns * static_cast<int64_t>(sizeof(int16_t)), codes_.size());
  return codes_.as<int16_t>();
}

void CpuLinear(const LinearArgs& args, ThreadPool& pool, LinearScratch& scratch) {
  if (args.num_rows == 0) return;
  const auto& weight = static_cast<const CpuMatrix&>(*args.weight);
  const bool gated = args.output == LinearArgs::Output::kGatedSilu;
  LORC_CHECK_EQ(gated, weight.gated_width() > 0);

  const void* x = args.x;
  int64_t x_row_bytes = weight.columns() * ByteSize(args.x_type);
  if (weight.type() == DType::kInt8) {
    const int64_t padded = weight.padded_columns();
    int16_t* codes = scratch.codes(PaddedRows(args.num_rows), padded);
    pool.ParallelFor(args.num_rows, [&](int64_t row, int) {
      QuantizeRow(static_cast<const std::byte*>(x) + row * x_row_bytes, args.x_type,
                  weight.columns(), padded, codes + row * padded, scratch.code_scales() + row);
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
    const int64_t row = index % num_row_blocks * kMaxTaskRows;
    LinearTask task;
    task.weight = &weight;
    task.block_begin = index / num_row_blocks * slice;
    task.num_blocks = std::min(slice, weight.num_blocks() - task.block_begin);
    task.num_rows = std::min(kMaxTaskRows, args.num_rows - row);
    task.x = static_cast<const std::byte*>(x) + row * x_row_bytes;
    task.tile = scratch.tile(thread);
    if (weight.type() == DType::kInt8) {
      task.code_scales = scratch.code_scales() + row;
      Int8LinearTask(task);
    } else if (onednn) {
      OneDnnLinearTask(task, scratch.onednn(thread));
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
