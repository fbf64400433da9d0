// How many numbers each layer keeps of K and of V.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"

namespace lorc {

enum class RankRule {
  kUniform,      // the same in every layer
  kProgressive,  // LoRC's schedule by cumulative condition numbers
  kEnergy,  // the columns with the largest share of their tensor's energy, over all layers, K and V
  kTail,    // KQ-SVD's: per layer and tensor, what leaves a given share of the energy behind
};

const char* Name(RankRule rule);  // "uniform", "progressive", "energy", "tail"

struct LayerRanks {
  int32_t key = 0;  // numbers per token over all KV heads
  int32_t value = 0;
  bool left_alone = false;  // LoRC's threshold: the layer keeps its full cache
};

// ln(kappa(W_k) kappa(W_v)) summed over layers l..L-1 (LoRC, equation 12), kappa = largest over
// smallest singular value. Non-increasing in l.
std::vector<double> CumulativeLogCondition(const std::vector<double>& log_condition);

struct ProgressiveOptions {
  int32_t full_rank = 0;              // d_max of equation 13
  int32_t min_rank = 1;               // d_min
  std::optional<double> target_kept;  // solves for d_min so that this share of all ranks is kept;
                                      // (0, 1]. The least that can be had is what min_rank 1 keeps
  std::optional<double>
      threshold;  // on ln of the cumulative condition number: layers above it are left alone
};

// LoRC, equation 13: rank_l = d_max (1 - (max - c_l)/(max - min) (1 - d_min/d_max)), c =
// CumulativeLogCondition, to the nearest integer. Where all c are equal, equation 13 says nothing:
// the layers then keep target_kept each, or all of d_max.
std::vector<LayerRanks> ProgressiveRanks(const std::vector<double>& log_condition,
                                         const ProgressiveOptions& options);

std::vector<LayerRanks> UniformRanks(int32_t num_layers, int32_t full_rank, double kept);

// Spectra: squared singular values of each layer's K and V, largest first. Units of `multiple`
// columns are given to the tensors in turn by the share of energy that they add; each tensor gets
// one unit at least.
std::vector<LayerRanks> EnergyRanks(const std::vector<std::vector<double>>& key_spectra,
                                    const std::vector<std::vector<double>>& value_spectra,
                                    double kept, int32_t multiple);

// The least rank whose relative tail, sum_{i >= r} s_i^2 / sum s_i^2, averaged over the groups'
// spectra (squared singular values, largest first), is at most epsilon^2 (KQ-SVD, which sets 0.1).
int32_t TailRank(const std::vector<std::vector<double>>& spectra, double epsilon);

// The nearest rank that both backends run, per group of width `group_width`: a multiple of
// kRankMultiple, at least one of them, at most the width.
inline constexpr int32_t kRankMultiple = 8;
int32_t RoundRank(int32_t rank, int32_t group_width);

}  // namespace lorc
