// How many numbers a spectrum is worth.
#pragma once

#include <span>

namespace lorc {

// exp(entropy of p), p_i = s_i / sum of s, of the singular values s whose squares are given (Roy
// and Vetterli, 2007; Swift-SVD, arXiv 2604.01609, equation 11): 1 where one direction holds
// everything, energies.size() where all are equal, 0 where there is no energy. Negative energies,
// which rounding leaves of zero, are zero. Over energies.size() it is KV-CoRE's normalised
// effective rank.
double EffectiveRank(std::span<const double> energies);

}  // namespace lorc
