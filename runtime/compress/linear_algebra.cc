#include "runtime/compress/linear_algebra.h"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace lorc {

absl::StatusOr<EigenDecomposition> SymmetricEigen(std::vector<double> matrix, int64_t n) {
  EigenDecomposition result;
  std::vector<double> ascending(n);
  // Row-major upper is column-major lower: the eigenvectors come as columns in that reading, as
  // rows in ours.
  const auto size = static_cast<lapack_int>(n);
  const lapack_int info =
      LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', size, matrix.data(), size, ascending.data());
  if (info != 0) {
    return absl::InternalError(
        absl::StrCat("eigendecomposition failed (dsyevd ", info, "): are all statistics finite?"));
  }
  result.values.assign(ascending.rbegin(), ascending.rend());
  result.vectors.resize(n * n);
  for (int64_t i = 0; i < n; ++i) {
    std::copy_n(matrix.begin() + (n - 1 - i) * n, n, result.vectors.begin() + i * n);
  }
  return result;
}

absl::StatusOr<SingularDecomposition> SingularValues(std::vector<double> matrix, int64_t rows,
                                                     int64_t columns) {
  const int64_t count = std::min(rows, columns);
  SingularDecomposition result;
  result.values.resize(count);
  result.left.resize(count * rows);
  std::vector<double> right(count * columns);
  // The row-major matrix read column-major is its transpose: its right singular vectors are our
  // left ones, and LAPACK's V^T [count, rows] column-major is U row-major, hence [rows, count];
  // turned below.
  const auto m = static_cast<lapack_int>(columns);
  const auto n = static_cast<lapack_int>(rows);
  const auto k = static_cast<lapack_int>(count);
  std::vector<double> left(count * rows);
  const lapack_int info = LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', m, n, matrix.data(), m,
                                         result.values.data(), right.data(), m, left.data(), k);
  if (info != 0) {
    return absl::InternalError(absl::StrCat("singular value decomposition failed (dgesdd ", info,
                                            "): are all weights finite?"));
  }
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t r = 0; r < rows; ++r) result.left[i * rows + r] = left[r * count + i];
  }
  return result;
}

void AddOuterProducts(const double* x, int64_t rows, int64_t n, double* sum) {
  cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, static_cast<int>(n), static_cast<int>(rows),
              1.0, x, static_cast<int>(n), 1.0, sum, static_cast<int>(n));
}

}  // namespace lorc
