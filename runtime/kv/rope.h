// Rotary position embedding: angles of position n and pair j are n * inverse_frequency[j].
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/model/model_config.h"

namespace lorc {

// [d/2]: base^(-2 j / d), divided as the config's scaling says (weights/rope_divisors.h).
std::vector<double> InverseFrequencies(const ModelConfig& config);

// Cosines and sines, [num_positions, d/2] each, from angles in double precision.
void FillRopeTables(const ModelConfig& config, int64_t num_positions, float* cosines, float* sines);

}  // namespace lorc
