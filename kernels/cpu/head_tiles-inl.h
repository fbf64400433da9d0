// What the kernels of absorbed attention share: tiles of heads and vectors, and pairs of codes in
// registers. Include inside a foreach_target file, after hwy/highway.h.

// clang-format off
#if defined(LORC_KERNELS_CPU_HEAD_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LORC_KERNELS_CPU_HEAD_TILES_INL_H_
#undef LORC_KERNELS_CPU_HEAD_TILES_INL_H_
#else
#define LORC_KERNELS_CPU_HEAD_TILES_INL_H_
#endif
// clang-format on

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/base/check.h"
#include "kernels/cpu/code_planes.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lorc::HWY_NAMESPACE {

constexpr int kMaxHeads = 12;  // heads whose sums the registers hold

constexpr int64_t RoundUp16(int64_t value) { return (value + 15) / 16 * 16; }

// Vectors of tokens (or columns) that go together, so that enough sums are in flight and a head's
// factor is loaded once for several: as many as the registers hold (AVX-512 has 32, others 16).
constexpr int VectorsFor(int heads) {
  return LanesF() == 16 ? (heads <= 6 ? 4 : 2) : (heads <= 3 ? 4 : heads <= 6 ? 2 : 1);
}

// Calls body(integral_constant<heads>, first) for tiles of at most kMaxHeads heads.
template <typename Body>
HWY_INLINE void ForHeadTiles(int64_t num_heads, const Body& body) {
  int64_t first = 0;
  while (first < num_heads) {
    const int64_t count = std::min<int64_t>(kMaxHeads, num_heads - first);
    switch (count) {
#define LORC_HEADS(n)                              \
  case n:                                          \
    body(std::integral_constant<int, n>(), first); \
    break
      LORC_HEADS(1);
      LORC_HEADS(2);
      LORC_HEADS(3);
      LORC_HEADS(4);
      LORC_HEADS(5);
      LORC_HEADS(6);
      LORC_HEADS(7);
      LORC_HEADS(8);
      LORC_HEADS(9);
      LORC_HEADS(10);
      LORC_HEADS(11);
      LORC_HEADS(12);
#undef LORC_HEADS
      default:
        break;
    }
    first += count;
  }
}

// Calls body(integral_constant<vectors>, first) over [0, count).
template <int kMost, typename Body>
HWY_INLINE void ForVectors(int64_t count, const Body& body, int64_t first = 0) {
  for (; first + kMost <= count; first += kMost) body(std::integral_constant<int, kMost>(), first);
  if constexpr (kMost > 1) ForVectors<kMost / 2>(count, body, first);
}

// Calls body(integral_constant<SegmentType>) with the segment's type.
template <typename Body>
HWY_INLINE void WithType(SegmentType type, const Body& body) {
  switch (type) {
#define LORC_TYPE(name)   \
  case SegmentType::name: \
    return body(std::integral_constant<SegmentType, SegmentType::name>())
    LORC_TYPE(kF32);
    LORC_TYPE(kBf16);
    LORC_TYPE(kFp8);
    LORC_TYPE(kInt8);
    LORC_TYPE(kInt4);
    LORC_TYPE(kInt3);
    LORC_TYPE(kInt2);
#undef LORC_TYPE
  }
  LORC_CHECK(false);
}

// The type of a plain segment's numbers.
template <SegmentType kType>
using PlainNumber =
    std::conditional_t<kType == SegmentType::kF32, float,
                       std::conditional_t<kType == SegmentType::kBf16, bf16_t, fp8_t>>;

// Words of a plane in 32-bit lanes, their halves at the bottoms of the lanes' halves; other bits
// are undefined.
HWY_INLINE hn::Vec<DU32> LoadWords(const uint32_t* words) { return hn::LoadU(DU32(), words); }
HWY_INLINE hn::Vec<DU32> LoadWords(const uint16_t* words) {
  const auto word = hn::PromoteTo(DU32(), hn::LoadU(DU16(), words));
  return hn::Or(word, hn::ShiftLeft<8>(word));
}
HWY_INLINE hn::Vec<DU32> LoadWords(const uint8_t* words) {
  const hn::Rebind<uint8_t, DU32> d8;
  const auto word = hn::PromoteTo(DU32(), hn::LoadU(d8, words));
  return hn::Or(word, hn::ShiftLeft<12>(word));
}

// Codes of kNumbers numbers (of as many tokens) of a vector of tokens (of numbers), pair by pair.
template <SegmentType kType, KeyOrValue kWhich>
class CodePairs {
 public:
  using Planes = CodePlanes<kType, kWhich>;
  using Low = typename Planes::Low;
  using High = typename Planes::High;
  static constexpr bool kHasHigh = !std::is_void_v<High>;
  static constexpr int kNumbers = Low::kNumbers;

  // `low`: the words of the low plane; `high`: of the high one, if there is one.
  HWY_INLINE void Load(const std::byte* low, const std::byte* high) {
    if constexpr (kType == SegmentType::kInt8) {
      // Pairs of bytes already.
      const hn::Rebind<uint8_t, DI16Pairs> d8;
      const auto bytes = hn::LoadU(d8, reinterpret_cast<const uint8_t*>(low));
      low_ = hn::BitCast(DU32(), hn::PromoteTo(hn::RebindToUnsigned<DI16Pairs>(), bytes));
    } else {
      low_ = LoadWords(reinterpret_cast<const typename Low::Word*>(low));
    }
    if constexpr (kHasHigh) {
      const auto words = LoadWords(reinterpret_cast<const typename High::Word*>(high));
      high_ = hn::ShiftLeft<Low::kBits>(words);
    }
  }

  HWY_INLINE VI16 Next() {
    const DU32 d;
    auto pair = low_;
    if constexpr (kType != SegmentType::kInt8) {
      pair = hn::And(pair, hn::Set(d, BothHalves((1u << Low::kBits) - 1)));
      low_ = hn::ShiftRight<Low::kBits>(low_);
    }
    if constexpr (kHasHigh) {
      pair = hn::Or(pair, hn::And(high_, hn::Set(d, BothHalves(1u << Low::kBits))));
      high_ = hn::ShiftRight<High::kBits>(high_);
    }
    return hn::BitCast(DI16Pairs(), pair);
  }

 private:
  static constexpr uint32_t BothHalves(uint32_t bits) { return bits << 16 | bits; }

  hn::Vec<DU32> low_;
  std::conditional_t<kHasHigh, hn::Vec<DU32>, int> high_;
};

// Bytes of a row of a plane's words, `columns` words long.
template <class Plane>
constexpr int64_t RowBytes(int64_t columns) {
  if constexpr (std::is_void_v<Plane>) {
    return 0;
  } else {
    return columns * static_cast<int64_t>(sizeof(typename Plane::Word));
  }
}

}  // namespace lorc::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LORC_KERNELS_CPU_HEAD_TILES_INL_H_
