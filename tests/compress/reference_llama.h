// The tiny model in double precision by plain formulas, with copies of keys and values that only
// far queries read.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/step.h"
#include "tests/support/tiny_model.h"

namespace lorc::test {

using Rows = std::vector<std::vector<double>>;

// Added to what far queries read of a layer, [T][g*d] each; empty: nothing.
struct FarOffsets {
  Rows keys;  // before RoPE
  Rows values;
};

struct ReferenceLayer {
  Rows inputs;                 // [T][D]: norm and gain applied
  Rows queries, keys, values;  // before RoPE
};

struct ReferenceRun {
  std::vector<ReferenceLayer> layers;
  Rows log_probabilities;  // [T][V]
};

// RoPE of heads in half-split order.
std::vector<double> Rotated(const ModelConfig& config, std::vector<double> heads, int64_t position);

// Far: block(i) - block(j) >= window / 16 and block(j) >= prefix / 16, blocks of 16 tokens.
// `offsets` has one entry per layer or none.
ReferenceRun RunReference(const TinyModel& model, const std::vector<TokenId>& tokens,
                          int64_t prefix, int64_t window, const std::vector<FarOffsets>& offsets);

}  // namespace lorc::test
