// A rival for measurements: keys quantised per channel over the tokens of a block (KIVI, arXiv
// 2402.02750), values per token in segments of 32, both with minimum and scale (f16). The cache
// keeps float32; what leaves the exact window is rounded to what the rival's codes would give.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/backend.h"

namespace lorc {

// Wraps a CPU backend. The model's plan is KvPlan::Full in f32 with an exact window, its blocks are
// the runs of tokens that share a scale.
std::unique_ptr<Backend> PerChannelKeys(std::unique_ptr<Backend> backend, int32_t bits);

// Of a token beyond the exact ones, one layer's K and V of `width` numbers each.
double PerChannelKeysBytes(int64_t width, int32_t bits, int32_t block_tokens);

}  // namespace lorc
