#include "runtime/compress/linear_algebra.h"

#include <lapacke.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

// LAPACK answers infinities with garbage, or not at all. `upper`: only columns >= row are looked
// at.
absl::Status CheckFinite(const std::vector<double>& matrix, int64_t rows, int64_t columns,
                         bool upper) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = upper ? row : 0; column < columns; ++column) {
      const double value = matrix[row * columns + column];
      if (!std::isfinite(value)) {
        return absl::InvalidArgumentError(absl::StrCat("expected finite numbers, got ", value,
                                                       " in row ", row, ", column ", column, " of ",
                                                       rows, " x ", columns));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<EigenDecomposition> SymmetricEigen(std::vector<double> matrix, int64_t n) {
  LORC_RETURN_IF_ERROR(CheckFinite(matrix, n, n, /*upper=*/true));
  EigenDecomposition result;
  std::vector<double> ascending(n);
  // Row-major upper is column-major lower: the eigenvectors come as columns in that reading, as
  // rows in ours.
  const auto size = static_cast<lapack_int>(n);
  const lapack_int info =
      LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', size, matrix.data(), size, ascending.data());
  if (info != 0) {
    return absl::InternalError(
        absl::StrCat("the eigendecomposition did not converge (dsyevd ", info, ")"));
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
  LORC_RETURN_IF_ERROR(CheckFinite(matrix, rows, columns, /*upper=*/false));
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
    return absl::InternalError(
        absl::StrCat("the singular value decomposition did not converge (dgesdd ", info, ")"));
  }
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t r = 0; r < rows; ++r) result.left[i * rows + r] = left[r * count + i];
  }
  return result;
}

}  // namespace lorc
