// Rotary position embedding: angles of position n and pair j are n * inverse_frequency[j].
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/model/model_config.h"

namespace lorc {

// [d/2]: base^(-2 j / d), scaled as the config says. Llama 3.1's rule (transformers,
// modeling_rope_utils, "llama3"): wavelengths below original/high_freq_factor stay, those above
// original/low_freq_factor are divided by `factor`, between them the two are blended.
std::vector<double> InverseFrequencies(const ModelConfig& config);

// Cosines and sines, [num_positions, d/2] each, from angles in double precision.
void FillRopeTables(const ModelConfig& config, int64_t num_positions, float* cosines, float* sines);

}  // namespace lorc
