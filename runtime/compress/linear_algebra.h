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

// sum += x^T x for x [rows, n]; only the upper triangle (column >= row) is kept up to date.
void AddOuterProducts(const double* x, int64_t rows, int64_t n, double* sum);

// L, lower, with L L^T = the symmetric matrix [n, n], of which the upper triangle is read; the rest
// of the result is 0. FAILED_PRECONDITION where it is not positive definite, INVALID_ARGUMENT where
// it is not finite.
absl::StatusOr<std::vector<double>> Cholesky(std::vector<double> matrix, int64_t n);

// L^T S L for lower L and symmetric S (upper triangle read), whole.
std::vector<double> Congruence(const std::vector<double>& lower, std::vector<double> symmetric,
                               int64_t n);

// X L^T and X L^-1 for lower L, all [n, n].
std::vector<double> TimesTransposed(std::vector<double> x, const std::vector<double>& lower,
                                    int64_t n);
std::vector<double> TimesInverse(std::vector<double> x, const std::vector<double>& lower,
                                 int64_t n);

}  // namespace lorc
