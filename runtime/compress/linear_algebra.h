// The few decompositions that the methods need, by LAPACK, in double precision. Matrices are
// row-major.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace lorc {

struct EigenDecomposition {
  std::vector<double> values;   // [n], largest first
  std::vector<double> vectors;  // [n, n], row i belongs to values[i]
};

// Of a symmetric matrix [n, n], of which the upper triangle (column >= row) is read.
// INVALID_ARGUMENT names the first element that is not finite; INTERNAL where LAPACK does not
// converge.
absl::StatusOr<EigenDecomposition> SymmetricEigen(std::vector<double> matrix, int64_t n);

struct SingularDecomposition {
  std::vector<double> values;  // [min(rows, columns)], largest first
  std::vector<double> left;    // [values, rows]: row i is the i-th left singular vector
};

// Of a matrix [rows, columns]. Errors as above.
absl::StatusOr<SingularDecomposition> SingularValues(std::vector<double> matrix, int64_t rows,
                                                     int64_t columns);

}  // namespace lorc
