#include "runtime/compress/products.h"

#include <cblas.h>

#include <algorithm>
#include <vector>

namespace lorc {
namespace {

constexpr int64_t kTileRows = 512;
constexpr int64_t kTileColumns = 512;
constexpr int64_t kOuterRows = 256;

CBLAS_TRANSPOSE ToBlas(Transposed transposed) {
  return transposed == Transposed::kYes ? CblasTrans : CblasNoTrans;
}

int ToInt(int64_t value) { return static_cast<int>(value); }

}  // namespace

void MultiplyHere(Transposed transpose_a, Transposed transpose_b, int64_t m, int64_t n, int64_t k,
                  MatrixView a, MatrixView b, Output output, float* y, int64_t y_stride) {
  if (m == 0 || n == 0) return;
  cblas_sgemm(CblasRowMajor, ToBlas(transpose_a), ToBlas(transpose_b), ToInt(m), ToInt(n), ToInt(k),
              1.0f, a.data, ToInt(a.stride), b.data, ToInt(b.stride),
              output == Output::kAdd ? 1.0f : 0.0f, y, ToInt(y_stride));
}

SingleThreadedBlas::SingleThreadedBlas() : num_threads_(openblas_get_num_threads()) {
  openblas_set_num_threads(1);
}

SingleThreadedBlas::~SingleThreadedBlas() { openblas_set_num_threads(num_threads_); }

void Multiply(ThreadPool& pool, Transposed transpose_w, int64_t m, int64_t n, int64_t k,
              MatrixView x, MatrixView w, Output output, float* y, int64_t y_stride) {
  const int64_t row_tiles = (m + kTileRows - 1) / kTileRows;
  const int64_t column_tiles = (n + kTileColumns - 1) / kTileColumns;
  pool.ParallelFor(row_tiles * column_tiles, [&](int64_t tile, int) {
    // Tiles of equal width, to a vector.
    const int64_t width = ((n + column_tiles - 1) / column_tiles + 15) / 16 * 16;
    const int64_t row = tile % row_tiles * kTileRows;
    const int64_t column = std::min(n, tile / row_tiles * width);
    const int64_t columns = std::min(width, n - column);
    const int64_t offset = transpose_w == Transposed::kYes ? column * w.stride : column;
    MultiplyHere(Transposed::kNo, transpose_w, std::min(kTileRows, m - row), columns, k,
                 {x.data + row * x.stride, x.stride}, {w.data + offset, w.stride}, output,
                 y + row * y_stride + column, y_stride);
  });
}

void AddOuterProducts(MatrixView x, int64_t rows, int64_t n, double* sum) {
  std::vector<float> piece(n * n);
  for (int64_t row = 0; row < rows; row += kOuterRows) {
    cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, ToInt(n),
                ToInt(std::min(kOuterRows, rows - row)), 1.0f, x.data + row * x.stride,
                ToInt(x.stride), 0.0f, piece.data(), ToInt(n));
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i; j < n; ++j) sum[i * n + j] += piece[i * n + j];
    }
  }
}

}  // namespace lorc
