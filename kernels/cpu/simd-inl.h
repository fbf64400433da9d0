// Vector helpers shared by the CPU kernels. Include inside a foreach_target file, after
// hwy/highway.h.
//
// Every sum that crosses rows, tokens or threads has one fixed order, so that a row's result is the
// same in any batch.

// clang-format off
#if defined(LORC_KERNELS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LORC_KERNELS_CPU_SIMD_INL_H_
#undef LORC_KERNELS_CPU_SIMD_INL_H_
#else
#define LORC_KERNELS_CPU_SIMD_INL_H_
#endif
// clang-format on

#include <hwy/highway.h>

#include <cstdint>

#include "kernels/base/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace lorc::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Vectors of at most 16 lanes: a block's 16 tokens are a whole number of them on every target.
using DF = hn::CappedTag<float, 16>;
using VF = hn::Vec<DF>;
using DI32 = hn::RebindToSigned<DF>;
using VI32 = hn::Vec<DI32>;
using DU32 = hn::RebindToUnsigned<DF>;
using DU16 = hn::Rebind<uint16_t, DF>;
using DI16Pairs = hn::Repartition<int16_t, DI32>;  // two per 32-bit lane
using VI16 = hn::Vec<DI16Pairs>;

// `Lanes` bf16 values as floats.
HWY_INLINE VF LoadBf16(const bf16_t* HWY_RESTRICT from) {
  const auto bits = hn::PromoteTo(DU32(), hn::LoadU(DU16(), from));
  return hn::BitCast(DF(), hn::ShiftLeft<16>(bits));
}

// fp8 values as floats, as many as `d` has lanes.
template <class D>
HWY_INLINE hn::Vec<D> LoadFp8(D d, const fp8_t* HWY_RESTRICT from) {
  const hn::Rebind<int16_t, D> d16;
  const hn::Rebind<uint8_t, D> d8;
  const hn::Rebind<hwy::float16_t, D> dh;
  // The sign to bit 15, the rest to bits 7 to 13, which is a binary16 of 2^-8 the value.
  const auto wide = hn::PromoteTo(d16, hn::LoadU(d8, from));
  const auto half = hn::And(hn::ShiftRight<1>(hn::ShiftLeft<8>(wide)),
                            hn::Set(d16, static_cast<int16_t>(0xbfff)));
  const auto top = hn::Set(d16, 0x3f80);
  const auto nan = hn::IfThenElseZero(hn::Eq(hn::And(half, top), top), hn::Set(d16, 0x7c00));
  const auto values = hn::PromoteTo(d, hn::BitCast(dh, hn::Or(half, nan)));
  return hn::Mul(values, hn::Set(d, 256.0f));
}

HWY_INLINE VF LoadValues(const float* HWY_RESTRICT from) { return hn::LoadU(DF(), from); }
HWY_INLINE VF LoadValues(const bf16_t* HWY_RESTRICT from) { return LoadBf16(from); }
HWY_INLINE VF LoadValues(const fp8_t* HWY_RESTRICT from) { return LoadFp8(DF(), from); }

// Rounds to nearest even. NaN may become infinity's neighbour but stays NaN for quiet NaNs, which
// is what arithmetic produces.
HWY_INLINE void StoreBf16(VF value, bf16_t* HWY_RESTRICT to) {
  const DU32 du;
  const auto bits = hn::BitCast(du, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff)));
  const auto kept = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), bits, rounded);
  hn::StoreU(hn::TruncateTo(DU16(), hn::ShiftRight<16>(kept)), DU16(), to);
}

HWY_INLINE void StoreValues(VF value, float* HWY_RESTRICT to) { hn::StoreU(value, DF(), to); }
HWY_INLINE void StoreValues(VF value, bf16_t* HWY_RESTRICT to) { StoreBf16(value, to); }

// `Lanes` IEEE halves as floats.
HWY_INLINE VF LoadF16(const f16_t* HWY_RESTRICT from) {
  const hn::Rebind<hwy::float16_t, DF> dh;
  return hn::PromoteTo(DF(), hn::BitCast(dh, hn::LoadU(DU16(), from)));
}

// Two 16-bit values per 32-bit lane: acc + a.lo * b.lo + a.hi * b.hi, exact modulo 2^32.
HWY_INLINE VI32 PairDot(VI32 acc, VI16 a, VI16 b) {
#if HWY_TARGET == HWY_AVX3_DL
  // Machines of this target have VNNI, but Highway does not turn it on for the compiler's
  // intrinsics.
  asm("vpdpwssd %2, %1, %0" : "+v"(acc.raw) : "v"(a.raw), "v"(b.raw));
  return acc;
#elif HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
  VI32 unused = hn::Zero(DI32());
  return hn::ReorderWidenMulAccumulate(DI32(), a, b, acc, unused);
#else
  const DI32 d;
  const auto a32 = hn::BitCast(d, a);
  const auto b32 = hn::BitCast(d, b);
  const auto low = hn::Mul(hn::ShiftRight<16>(hn::ShiftLeft<16>(a32)),
                           hn::ShiftRight<16>(hn::ShiftLeft<16>(b32)));
  const auto high = hn::Mul(hn::ShiftRight<16>(a32), hn::ShiftRight<16>(b32));
  return hn::Add(acc, hn::Add(low, high));
#endif
}

// The same 32-bit pair in every lane.
HWY_INLINE VI16 SetPair(int32_t pair) { return hn::BitCast(DI16Pairs(), hn::Set(DI32(), pair)); }

HWY_INLINE constexpr int64_t LanesF() { return static_cast<int64_t>(hn::MaxLanes(DF())); }

}  // namespace lorc::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LORC_KERNELS_CPU_SIMD_INL_H_
