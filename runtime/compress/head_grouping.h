// Which KV heads share a latent where several groups of heads have one each: heads that are alike
// (ReCalKV, arXiv 2505.24357). The order is kept in the plan and applied to the weights, so kernels
// see neighbouring heads as ever.
#pragma once

#include <cstdint>
#include <vector>

namespace lorc {

// Similarity of every two heads, [g, g], by linear CKA of the uncentred vectors:
//   ||C_ab||^2 / (||C_aa|| ||C_bb||)  in Frobenius norms,
// C_ab the blocks [d, d] of a second moment over all heads (upper triangle read).
std::vector<double> HeadSimilarity(const std::vector<double>& moment, int32_t num_kv_heads,
                                   int32_t head_dim);

// The KV head at each place, groups of g / groups one after the other: greedily, the most similar
// pair that is left starts a group, which then takes the heads most similar to its own, on average.
// Ties go to the lower heads.
std::vector<int32_t> SimilarHeadsTogether(const std::vector<double>& similarity, int32_t groups);

}  // namespace lorc
