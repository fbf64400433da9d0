// How the codes of integer segments lie in words.
//
// A plane holds kBits bits of every number in words of kNumbers neighbouring numbers of a token (K)
// or of kNumbers neighbouring tokens (V): the even ones in the word's lower half, the odd ones in
// its upper half, each in rising order. Shifting a word by kBits after another thus brings pairs
// (0, 1), (2, 3), .. to the bottoms of its halves, where multiply-add instructions on 16-bit pairs
// want them. Words of a plane: K [width / kNumbers][B], V [B / kNumbers][width].
//
// int3 has a plane of the codes' lower two bits and, behind it, one of their highest bit.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cpu/cache_blocks.h"

namespace lorc {

template <typename WordType, int kBitsOfNumber>
struct CodePlane {
  using Word = WordType;
  static constexpr int kBits = kBitsOfNumber;
  static constexpr int kWordBits = 8 * sizeof(Word);
  static constexpr int kNumbers = kWordBits / kBits;

  // Of number `i` of a word.
  static constexpr int Shift(int64_t i) {
    return static_cast<int>(i / 2 * kBits + i % 2 * (kWordBits / 2));
  }
  static constexpr int64_t Bytes(int64_t width, int64_t block_tokens) {
    return width * block_tokens * kBits / 8;
  }
};

// Low: the only plane, or that of the lower bits. High: void, or that of the highest bit.
template <SegmentType kType, KeyOrValue kWhich>
struct CodePlanes;

template <KeyOrValue kWhich>
struct CodePlanes<SegmentType::kInt8, kWhich> {
  using Low = CodePlane<uint16_t, 8>;
  using High = void;
};
template <KeyOrValue kWhich>
struct CodePlanes<SegmentType::kInt4, kWhich> {
  using Low = CodePlane<uint32_t, 4>;
  using High = void;
};
template <KeyOrValue kWhich>
struct CodePlanes<SegmentType::kInt3, kWhich> {
  static constexpr bool kKey = kWhich == KeyOrValue::kKey;
  using Low = CodePlane<std::conditional_t<kKey, uint16_t, uint32_t>, 2>;
  using High = CodePlane<std::conditional_t<kKey, uint8_t, uint16_t>, 1>;
};
template <KeyOrValue kWhich>
struct CodePlanes<SegmentType::kInt2, kWhich> {
  using Low = CodePlane<std::conditional_t<kWhich == KeyOrValue::kKey, uint16_t, uint32_t>, 2>;
  using High = void;
};

}  // namespace lorc
