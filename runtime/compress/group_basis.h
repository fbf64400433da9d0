// The basis of one group of KV heads at full width, and the one formula behind the methods.
//
// Given the second moment C of the vectors z and a metric M of errors, the maps of rank r that
// minimise tr(M E[(z - z^)(z - z^)^T]) are, with M = L L^T (Cholesky) and L^T C L = U^T diag(s) U
// (rows of U, s falling),
//   c = U_r L^T z,   z^ = L^-T U_r^T c,   error = sum of s_j over j >= r.
// They are nested, and the metric is the identity in the space of c: an error of c costs its square
// there, whichever number it is in. M = I, C of the text: KV-CoRE. M = I, C = W W^T: LoRC.
// C = K^T K, M = Q^T Q: KQ-SVD in Gram form; s are the squared singular values of K Q^T, since
// those of L_K^T L_Q are, and with A = L U_r^T and B = L^-T U_r^T, K A B^T Q^T is the best
// approximation of rank r. M the Fisher information of the loss: ours.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace lorc {

struct GroupBasis {
  std::vector<double> encoder;  // [n, n]: row j gives number j of the latent
  std::vector<double> decoder;  // [n, n]: row j is what number j adds to the rebuilt vector
  std::vector<double> gains;    // [n], falling: the error that keeping number j removes

  int64_t width() const { return static_cast<int64_t>(gains.size()); }
};

// `moment` and `metric` [n, n], symmetric, upper triangles are read; an empty metric is the
// identity. A ridge of 1e-6 of its mean diagonal, more where that is not enough, keeps M
// invertible. INVALID_ARGUMENT where a number is not finite, FAILED_PRECONDITION where the metric
// is zero.
absl::StatusOr<GroupBasis> WeightedBasis(std::vector<double> moment, std::vector<double> metric,
                                         int64_t n);

// Keeps single channels (ThinK, arXiv 2407.21018): bases of zeros and ones, number j being the
// channel with the j-th largest product of moment and metric diagonals, E z_i^2 M_ii: what leaving
// it out costs where channels are independent.
absl::StatusOr<GroupBasis> ChannelBasis(const std::vector<double>& moment,
                                        const std::vector<double>& metric, int64_t n);

}  // namespace lorc
