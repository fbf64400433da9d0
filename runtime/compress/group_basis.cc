#include "runtime/compress/group_basis.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "runtime/compress/linear_algebra.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr double kRidge = 1e-6;
constexpr double kMostRidge = 1e-2;

double MeanDiagonal(const std::vector<double>& matrix, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += matrix[i * n + i];
  return sum / static_cast<double>(n);
}

// L of M + ridge, with the least ridge that makes it positive definite in floating point.
absl::StatusOr<std::vector<double>> Factor(const std::vector<double>& metric, int64_t n) {
  const double mean = MeanDiagonal(metric, n);
  if (mean <= 0) {
    return absl::FailedPreconditionError(
        "its metric is zero: nothing in the calibration text reads this tensor");
  }
  absl::Status status;
  for (double ridge = kRidge; ridge <= kMostRidge; ridge *= 10) {
    std::vector<double> ridged = metric;
    for (int64_t i = 0; i < n; ++i) ridged[i * n + i] += ridge * mean;
    auto factor = Cholesky(std::move(ridged), n);
    if (factor.ok() || factor.status().code() != absl::StatusCode::kFailedPrecondition) {
      return factor;
    }
    status = factor.status();
  }
  return status;
}

GroupBasis FromEigen(const EigenDecomposition& eigen) {
  GroupBasis basis;
  basis.gains = eigen.values;
  for (double& gain : basis.gains) gain = std::max(gain, 0.0);
  return basis;
}

}  // namespace

absl::StatusOr<GroupBasis> WeightedBasis(std::vector<double> moment, std::vector<double> metric,
                                         int64_t n) {
  if (metric.empty()) {
    LORC_ASSIGN_OR_RETURN(EigenDecomposition eigen, SymmetricEigen(std::move(moment), n));
    GroupBasis basis = FromEigen(eigen);
    basis.encoder = eigen.vectors;
    basis.decoder = std::move(eigen.vectors);
    return basis;
  }
  LORC_ASSIGN_OR_RETURN(const std::vector<double> factor, Factor(metric, n));
  LORC_ASSIGN_OR_RETURN(EigenDecomposition eigen,
                        SymmetricEigen(Congruence(factor, std::move(moment), n), n));
  GroupBasis basis = FromEigen(eigen);
  basis.encoder = TimesTransposed(eigen.vectors, factor, n);  // U L^T
  basis.decoder =
      TimesInverse(std::move(eigen.vectors), factor, n);  // rows (L^-T u_j)^T = u_j^T L^-1
  return basis;
}

absl::StatusOr<GroupBasis> ChannelBasis(const std::vector<double>& moment,
                                        const std::vector<double>& metric, int64_t n) {
  std::vector<double> costs(n);
  for (int64_t i = 0; i < n; ++i) {
    costs[i] = moment[i * n + i] * (metric.empty() ? 1.0 : metric[i * n + i]);
    if (!std::isfinite(costs[i])) {
      return absl::InvalidArgumentError("expected finite numbers in its statistics");
    }
  }
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&costs](int64_t a, int64_t b) { return costs[a] > costs[b]; });
  GroupBasis basis;
  basis.encoder.assign(n * n, 0.0);
  for (int64_t j = 0; j < n; ++j) {
    basis.encoder[j * n + order[j]] = 1;
    basis.gains.push_back(costs[order[j]]);
  }
  basis.decoder = basis.encoder;
  return basis;
}

}  // namespace lorc
