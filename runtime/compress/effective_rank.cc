#include "runtime/compress/effective_rank.h"

#include <algorithm>
#include <cmath>

namespace lorc {

double EffectiveRank(std::span<const double> energies) {
  double sum = 0;
  for (const double energy : energies) sum += std::sqrt(std::max(energy, 0.0));
  if (sum <= 0) return 0;
  double entropy = 0;
  for (const double energy : energies) {
    const double p = std::sqrt(std::max(energy, 0.0)) / sum;
    if (p > 0) entropy -= p * std::log(p);
  }
  return std::exp(entropy);
}

}  // namespace lorc
