#include "runtime/compress/ranks.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "kernels/base/check.h"

namespace lorc {

const char* Name(RankRule rule) {
  switch (rule) {
    case RankRule::kUniform:
      return "uniform";
    case RankRule::kProgressive:
      return "progressive";
    case RankRule::kEnergy:
      return "energy";
    case RankRule::kTail:
      return "tail";
  }
  return "";
}

std::vector<double> CumulativeLogCondition(const std::vector<double>& log_condition) {
  std::vector<double> cumulative(log_condition.size());
  double sum = 0;
  for (size_t l = log_condition.size(); l-- > 0;) cumulative[l] = sum += log_condition[l];
  return cumulative;
}

std::vector<LayerRanks> ProgressiveRanks(const std::vector<double>& log_condition,
                                         const ProgressiveOptions& options) {
  const std::vector<double> cumulative = CumulativeLogCondition(log_condition);
  const auto ends = std::minmax_element(cumulative.begin(), cumulative.end());
  const double most = *ends.second;
  const double span = most - *ends.first;
  const double full = options.full_rank;
  const size_t num_layers = cumulative.size();
  const auto left_alone = [&](size_t l) {
    return options.threshold.has_value() && cumulative[l] > *options.threshold;
  };
  const auto rank_at = [&](size_t l, double min_rank) {
    if (left_alone(l)) return full;
    const double equal = options.target_kept.has_value() ? 1.0 : 0.0;
    const double depth = span > 0 ? (most - cumulative[l]) / span : equal;
    return std::clamp(full * (1 - depth * (1 - min_rank / full)), 1.0, full);
  };
  double min_rank = options.min_rank;
  if (options.target_kept.has_value()) {
    const double wanted = *options.target_kept * full * static_cast<double>(num_layers);
    double low = 0;
    double high = full;
    for (int i = 0; i < 60; ++i) {
      min_rank = (low + high) / 2;
      double sum = 0;
      for (size_t l = 0; l < num_layers; ++l) sum += rank_at(l, min_rank);
      (sum < wanted ? low : high) = min_rank;
    }
  }
  std::vector<LayerRanks> ranks(num_layers);
  for (size_t l = 0; l < num_layers; ++l) {
    const auto rank = static_cast<int32_t>(std::nearbyint(rank_at(l, min_rank)));
    ranks[l] = {rank, rank, left_alone(l)};
  }
  return ranks;
}

std::vector<LayerRanks> UniformRanks(int32_t num_layers, int32_t full_rank, double kept) {
  const auto rank = static_cast<int32_t>(std::nearbyint(kept * full_rank));
  return std::vector<LayerRanks>(num_layers, LayerRanks{rank, rank, false});
}

std::vector<LayerRanks> EnergyRanks(const std::vector<std::vector<double>>& key_spectra,
                                    const std::vector<std::vector<double>>& value_spectra,
                                    double kept, int32_t multiple) {
  const size_t num_layers = key_spectra.size();
  LORC_CHECK_EQ(value_spectra.size(), num_layers);
  struct Unit {
    double share;  // per column
    size_t layer;
    bool is_key;
    int32_t columns;
  };
  std::vector<LayerRanks> ranks(num_layers);
  std::vector<Unit> units;
  int64_t left = 0;
  for (size_t l = 0; l < num_layers; ++l) {
    for (const bool is_key : {true, false}) {
      const auto& spectrum = is_key ? key_spectra[l] : value_spectra[l];
      const auto n = static_cast<int32_t>(spectrum.size());
      const double total = std::accumulate(spectrum.begin(), spectrum.end(), 0.0);
      left += n;
      for (int32_t begin = 0; begin < n; begin += multiple) {
        const int32_t columns = std::min(multiple, n - begin);
        double energy = 0;
        for (int32_t i = begin; i < begin + columns; ++i) energy += spectrum[i];
        const double share = begin == 0 ? HUGE_VAL : total > 0 ? energy / total / columns : 0.0;
        units.push_back({share, l, is_key, columns});
      }
    }
  }
  left = static_cast<int64_t>(std::nearbyint(kept * static_cast<double>(left)));
  // Stable: of equal shares the earlier layer's comes first. A spectrum falls, so a tensor's units
  // stay in order.
  std::stable_sort(units.begin(), units.end(),
                   [](const Unit& a, const Unit& b) { return a.share > b.share; });
  for (const Unit& unit : units) {
    if (unit.share != HUGE_VAL && left < unit.columns) break;
    (unit.is_key ? ranks[unit.layer].key : ranks[unit.layer].value) += unit.columns;
    left -= unit.columns;
  }
  return ranks;
}

int32_t TailRank(const std::vector<std::vector<double>>& spectra, double epsilon) {
  const size_t n = spectra[0].size();
  std::vector<double> tails(n + 1, 0.0);  // tails[r]: of what lies from r on
  for (const std::vector<double>& spectrum : spectra) {
    const double total = std::accumulate(spectrum.begin(), spectrum.end(), 0.0);
    double tail = 0;
    for (size_t r = n; r-- > 0;) {
      tail += spectrum[r];
      if (total > 0) tails[r] += tail / total / static_cast<double>(spectra.size());
    }
  }
  size_t rank = 0;
  while (tails[rank] > epsilon * epsilon) ++rank;
  return static_cast<int32_t>(rank);
}

int32_t RoundRank(int32_t rank, int32_t group_width) {
  const int32_t rounded = (rank + kRankMultiple / 2) / kRankMultiple * kRankMultiple;
  return std::min(std::max(rounded, kRankMultiple), group_width);
}

}  // namespace lorc
