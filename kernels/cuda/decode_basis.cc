#include "kernels/cuda/decode_basis.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/dtype.h"

namespace lorc::cuda {
namespace {

// B(k, n) of every head, rows k in steps of 16, columns n in steps of 16.
template <typename B>
std::vector<uint32_t> PackOperand(int64_t heads, int64_t rows, int64_t columns, const B& b) {
  std::vector<uint32_t> words;
  words.reserve(heads * rows * columns / 2);
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t k = 0; k < rows; k += 16) {
      for (int64_t n = 0; n < columns; n += 16) {
        for (int lane = 0; lane < 32; ++lane) {
          for (int word = 0; word < 4; ++word) {
            const int64_t row = k + 2 * (lane % 4) + word % 2 * 8;
            const int64_t column = n + lane / 4 + word / 2 * 8;
            const uint32_t low = F32ToBf16(b(head, row, column));
            const uint32_t high = F32ToBf16(b(head, row + 1, column));
            words.push_back(high << 16 | low);
          }
        }
      }
    }
  }
  return words;
}

int64_t NumHeads(const BasisSource& source) {
  return int64_t{source.groups} * source.group_width / source.head_dim;
}

}  // namespace

DecoderFragments PackKeyDecoder(const BasisSource& source) {
  const int64_t d = source.head_dim;
  const int64_t rank = source.rank;
  const auto at = [&](int64_t head, int64_t i, int64_t r) {
    return source.decoder[(head * d + i) * rank + r];
  };
  DecoderFragments fragments;
  fragments.words = PackOperand(NumHeads(source), d, rank, at);
  for (int64_t head = 0; head < NumHeads(source); ++head) {
    double largest = 0;
    for (int64_t r = 0; r < rank; ++r) {
      double squares = 0;
      for (int64_t i = 0; i < d; ++i) {
        const double value = Bf16ToF32(F32ToBf16(at(head, i, r)));
        squares += value * value;
      }
      largest = std::max(largest, squares);
    }
    fragments.column_norm.push_back(static_cast<float>(std::sqrt(largest)));
  }
  return fragments;
}

DecoderFragments PackValueDecoder(const BasisSource& source) {
  const int64_t d = source.head_dim;
  const int64_t rank = source.rank;
  return {PackOperand(NumHeads(source), rank, d,
                      [&](int64_t head, int64_t r, int64_t i) {
                        return source.decoder[(head * d + i) * rank + r];
                      }),
          {}};
}

}  // namespace lorc::cuda
