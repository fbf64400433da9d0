// RoPE's frequency scaling in one form.
#pragma once

#include <vector>

#include "runtime/model/model_config.h"

namespace lorc {

// By what the inverse frequency rope_base^(-2j/d) of pair j is divided, for j = 0..d/2-1. The
// config is validated. Llama 3.1's rule: transformers modeling_rope_utils.py,
// _compute_llama3_parameters.
std::vector<double> RopeFrequencyDivisors(const ModelConfig& config);

}  // namespace lorc
