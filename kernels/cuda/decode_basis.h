// A basis's decoder in the order of the tensor cores' operands, for absorbed queries and for
// outputs.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/matrix.h"

namespace lorc::cuda {

struct DecoderFragments {
  std::vector<uint32_t> words;     // bf16 pairs
  std::vector<float> column_norm;  // [g], keys only: the largest norm of a column of D, as bf16
};

// D [d, rank] of each KV head as the B operand of q D: [g][d/16][rank/16][lane][b0 b1 of the first
// 8 columns, b0 b1 of the second]. d and rank are multiples of 16.
DecoderFragments PackKeyDecoder(const BasisSource& source);

// D^T [rank, d] of each KV head as the B operand of latent D^T: [g][rank/16][d/16][lane][4].
DecoderFragments PackValueDecoder(const BasisSource& source);

}  // namespace lorc::cuda
