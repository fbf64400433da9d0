#include "kernels/cpu/cache_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/base/check.h"
#include "kernels/cpu/code_planes.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cache_blocks.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/quantize-inl.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lorc::HWY_NAMESPACE {

constexpr int64_t kStage = 64;  // numbers that are turned at once

inline float ToFloat(float value) { return value; }
inline float ToFloat(bf16_t value) { return Bf16ToF32(value); }
inline float ToFloat(fp8_t value) { return Fp8ToF32(value); }
inline void FromFloat(float value, float* to) { *to = value; }
inline void FromFloat(float value, bf16_t* to) { *to = F32ToBf16(value); }
inline void FromFloat(float value, fp8_t* to) { *to = F32ToFp8(value); }

template <typename T>
HWY_INLINE void PutPlain(KeyOrValue which, int64_t block_tokens, int64_t slot, int64_t width,
                         const float* values, std::byte* part) {
  const int64_t step = which == KeyOrValue::kKey ? block_tokens : 1;
  T* first = reinterpret_cast<T*>(part) + (which == KeyOrValue::kKey ? slot : slot * width);
  for (int64_t i = 0; i < width; ++i) FromFloat(values[i], first + i * step);
}

// Bits [kFrom, kFrom + Plane::kBits) of a token's codes.
template <class Plane, int kFrom>
HWY_INLINE void PutPlane(KeyOrValue which, int64_t block_tokens, int64_t slot, int64_t width,
                         const uint8_t* HWY_RESTRICT codes, std::byte* plane) {
  using Word = typename Plane::Word;
  constexpr uint32_t kMask = (1u << Plane::kBits) - 1;
  auto* words = reinterpret_cast<Word*>(plane);
  if (which == KeyOrValue::kKey) {
    for (int64_t i = 0; i < width; i += Plane::kNumbers, words += block_tokens) {
      uint32_t word = 0;
      for (int k = 0; k < Plane::kNumbers; ++k) {
        word |= (uint32_t{codes[i + k]} >> kFrom & kMask) << Plane::Shift(k);
      }
      words[slot] = static_cast<Word>(word);
    }
    return;
  }
  // Other tokens' bits stay, whatever they are.
  words += slot / Plane::kNumbers * width;
  const int shift = Plane::Shift(slot % Plane::kNumbers);
  const uint32_t others = ~(kMask << shift);
  for (int64_t i = 0; i < width; ++i) {
    const uint32_t bits = (uint32_t{codes[i]} >> kFrom & kMask) << shift;
    words[i] = static_cast<Word>((words[i] & others) | bits);
  }
}

template <SegmentType kType, KeyOrValue kWhich>
HWY_INLINE void PutCodes(int64_t block_tokens, int64_t slot, int64_t width, const float* values,
                         std::byte* part) {
  using Planes = CodePlanes<kType, kWhich>;
  HWY_ALIGN uint8_t codes[kMaxSegmentWidth];
  const Steps steps = SegmentQuantizer(kType, values, width).Run(codes);
  PutPlane<typename Planes::Low, 0>(kWhich, block_tokens, slot, width, codes, part);
  part += Planes::Low::Bytes(width, block_tokens);
  if constexpr (!std::is_void_v<typename Planes::High>) {
    PutPlane<typename Planes::High, Planes::Low::kBits>(kWhich, block_tokens, slot, width, codes,
                                                        part);
    part += Planes::High::Bytes(width, block_tokens);
  }
  auto* scales = reinterpret_cast<f16_t*>(part);
  scales[slot] = steps.scale;
  scales[block_tokens + slot] = steps.minimum;
}

// Calls body(integral_constant<SegmentType>) with a type that has scales.
template <typename Body>
HWY_INLINE void WithCodeType(SegmentType type, const Body& body) {
  switch (type) {
    case SegmentType::kInt8:
      return body(std::integral_constant<SegmentType, SegmentType::kInt8>());
    case SegmentType::kInt4:
      return body(std::integral_constant<SegmentType, SegmentType::kInt4>());
    case SegmentType::kInt3:
      return body(std::integral_constant<SegmentType, SegmentType::kInt3>());
    case SegmentType::kInt2:
      return body(std::integral_constant<SegmentType, SegmentType::kInt2>());
    case SegmentType::kF32:
    case SegmentType::kBf16:
    case SegmentType::kFp8:
      break;
  }
  LORC_CHECK(false);
}

void PutToken(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens, int64_t slot,
              const float* values, std::byte* part) {
  for (int32_t group = 0; group < tensor.groups; ++group) {
    for (const CacheSegment& segment : tensor.segments) {
      const int64_t width = segment.width;
      switch (segment.type) {
        case SegmentType::kF32:
          PutPlain<float>(which, block_tokens, slot, width, values, part);
          break;
        case SegmentType::kBf16:
          PutPlain<bf16_t>(which, block_tokens, slot, width, values, part);
          break;
        case SegmentType::kFp8:
          PutPlain<fp8_t>(which, block_tokens, slot, width, values, part);
          break;
        case SegmentType::kInt8:
        case SegmentType::kInt4:
        case SegmentType::kInt3:
        case SegmentType::kInt2:
          WithCodeType(segment.type, [&](auto type) HWY_ATTR {
            if (which == KeyOrValue::kKey) {
              PutCodes<type.value, KeyOrValue::kKey>(block_tokens, slot, width, values, part);
            } else {
              PutCodes<type.value, KeyOrValue::kValue>(block_tokens, slot, width, values, part);
            }
          });
      }
      values += segment.width;
      part += SegmentBlockBytes(segment, block_tokens);
    }
  }
}

// Rows of up to 16 tokens of one segment, from vectors over the tokens: stage [number][token], then
// turn.
template <typename T, typename LoadTokens>
HWY_INLINE void TurnTokens(int64_t width, int64_t num_tokens, const LoadTokens& load,
                           T* HWY_RESTRICT out, int64_t stride) {
  HWY_ALIGN float stage[kStage * 16];
  for (int64_t begin = 0; begin < width; begin += kStage) {
    const int64_t count = std::min(kStage, width - begin);
    for (int64_t i = 0; i < count; ++i) load(begin + i, stage + i * 16);
    for (int64_t t = 0; t < num_tokens; ++t) {
      T* row = out + t * stride + begin;
      for (int64_t i = 0; i < count; ++i) FromFloat(stage[i * 16 + t], row + i);
    }
  }
}

template <typename From, typename T>
HWY_INLINE void GetPlain(KeyOrValue which, int64_t block_tokens, int64_t width, int64_t num_tokens,
                         const std::byte* part, T* HWY_RESTRICT out, int64_t stride) {
  constexpr int64_t kLanes = LanesF();
  const auto* from = reinterpret_cast<const From*>(part);
  if (which == KeyOrValue::kKey) {
    for (int64_t t = 0; t < num_tokens; t += 16) {
      TurnTokens(
          width, std::min<int64_t>(16, num_tokens - t),
          [&](int64_t i, float* stage) HWY_ATTR {
            for (int64_t v = 0; v < 16; v += kLanes) {
              hn::Store(LoadValues(from + i * block_tokens + t + v), DF(), stage + v);
            }
          },
          out + t * stride, stride);
    }
    return;
  }
  for (int64_t t = 0; t < num_tokens; ++t) {
    for (int64_t i = 0; i < width; ++i) {
      if constexpr (std::is_same_v<From, T>) {
        out[t * stride + i] = from[t * width + i];
      } else {
        FromFloat(ToFloat(from[t * width + i]), out + t * stride + i);
      }
    }
  }
}

// The plane's bits of one number of its words, for as many words as `d` has lanes.
template <class Plane, class D>
HWY_INLINE hn::Vec<D> LoadBits(D d, const typename Plane::Word* HWY_RESTRICT words, int shift) {
  const auto word = [&]() HWY_ATTR {
    if constexpr (sizeof(typename Plane::Word) == 4) {
      return hn::LoadU(d, words);
    } else {
      return hn::PromoteTo(d, hn::LoadU(hn::Rebind<typename Plane::Word, D>(), words));
    }
  }();
  return hn::And(hn::ShiftRightSame(word, shift), hn::Set(d, (1u << Plane::kBits) - 1));
}

// Codes of number `i` of tokens from `t` on (K), or of token `t`, numbers from `i` on (V), as
// floats.
template <class Planes, class DFloat>
HWY_INLINE hn::Vec<DFloat> LoadCodes(DFloat d, KeyOrValue which, int64_t block_tokens,
                                     int64_t width, const std::byte* part, int64_t t, int64_t i) {
  const hn::RebindToUnsigned<DFloat> du;
  const auto load = [&](auto plane, const std::byte* words) HWY_ATTR {
    using Plane = decltype(plane);
    const auto* first = reinterpret_cast<const typename Plane::Word*>(words);
    return which == KeyOrValue::kKey
               ? LoadBits<Plane>(du, first + i / Plane::kNumbers * block_tokens + t,
                                 Plane::Shift(i % Plane::kNumbers))
               : LoadBits<Plane>(du, first + t / Plane::kNumbers * width + i,
                                 Plane::Shift(t % Plane::kNumbers));
  };
  auto code = load(typename Planes::Low(), part);
  if constexpr (!std::is_void_v<typename Planes::High>) {
    const auto high = load(typename Planes::High(), part + Planes::Low::Bytes(width, block_tokens));
    code = hn::Or(code, hn::ShiftLeft<Planes::Low::kBits>(high));
  }
  return hn::ConvertTo(d, hn::BitCast(hn::RebindToSigned<DFloat>(), code));
}

template <SegmentType kType, typename T>
HWY_INLINE void GetKeyCodes(int64_t block_tokens, int64_t width, int64_t num_tokens,
                            const std::byte* part, T* HWY_RESTRICT out, int64_t stride) {
  using Planes = CodePlanes<kType, KeyOrValue::kKey>;
  constexpr int64_t kLanes = LanesF();
  const auto* scales =
      reinterpret_cast<const f16_t*>(part + width * block_tokens * BitsPerNumber(kType) / 8);
  const f16_t* minima = scales + block_tokens;
  for (int64_t t = 0; t < num_tokens; t += 16) {
    TurnTokens(
        width, std::min<int64_t>(16, num_tokens - t),
        [&](int64_t i, float* stage) HWY_ATTR {
          for (int64_t v = 0; v < 16; v += kLanes) {
            const VF code =
                LoadCodes<Planes>(DF(), KeyOrValue::kKey, block_tokens, width, part, t + v, i);
            hn::Store(hn::MulAdd(code, LoadF16(scales + t + v), LoadF16(minima + t + v)), DF(),
                      stage + v);
          }
        },
        out + t * stride, stride);
  }
}

template <SegmentType kType, typename T>
HWY_INLINE void GetValueCodes(int64_t block_tokens, int64_t width, int64_t num_tokens,
                              const std::byte* part, T* HWY_RESTRICT out, int64_t stride) {
  using Planes = CodePlanes<kType, KeyOrValue::kValue>;
  const hn::CappedTag<float, 8> d;  // widths are multiples of 8
  const auto* scales =
      reinterpret_cast<const f16_t*>(part + width * block_tokens * BitsPerNumber(kType) / 8);
  const f16_t* minima = scales + block_tokens;
  HWY_ALIGN float row[kMaxSegmentWidth];
  for (int64_t t = 0; t < num_tokens; ++t) {
    const auto scale = hn::Set(d, F16ToF32(scales[t]));
    const auto minimum = hn::Set(d, F16ToF32(minima[t]));
    for (int64_t i = 0; i < width; i += static_cast<int64_t>(hn::Lanes(d))) {
      const auto code = LoadCodes<Planes>(d, KeyOrValue::kValue, block_tokens, width, part, t, i);
      hn::Store(hn::MulAdd(code, scale, minimum), d, row + i);
    }
    for (int64_t i = 0; i < width; ++i) FromFloat(row[i], out + t * stride + i);
  }
}

template <typename T>
HWY_INLINE void GetTokens(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens,
                          int32_t group, int64_t num_tokens, const std::byte* part, T* out,
                          int64_t stride) {
  part += group * GroupBlockBytes(tensor, block_tokens);
  for (const CacheSegment& segment : tensor.segments) {
    const int64_t width = segment.width;
    switch (segment.type) {
      case SegmentType::kF32:
        GetPlain<float>(which, block_tokens, width, num_tokens, part, out, stride);
        break;
      case SegmentType::kBf16:
        GetPlain<bf16_t>(which, block_tokens, width, num_tokens, part, out, stride);
        break;
      case SegmentType::kFp8:
        GetPlain<fp8_t>(which, block_tokens, width, num_tokens, part, out, stride);
        break;
      case SegmentType::kInt8:
      case SegmentType::kInt4:
      case SegmentType::kInt3:
      case SegmentType::kInt2:
        WithCodeType(segment.type, [&](auto type) HWY_ATTR {
          if (which == KeyOrValue::kKey) {
            GetKeyCodes<type.value>(block_tokens, width, num_tokens, part, out, stride);
          } else {
            GetValueCodes<type.value>(block_tokens, width, num_tokens, part, out, stride);
          }
        });
    }
    out += segment.width;
    part += SegmentBlockBytes(segment, block_tokens);
  }
}

void GetTokensF32(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens, int32_t group,
                  int64_t num_tokens, const std::byte* part, float* out, int64_t stride) {
  GetTokens(tensor, which, block_tokens, group, num_tokens, part, out, stride);
}
void GetTokensBf16(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens, int32_t group,
                   int64_t num_tokens, const std::byte* part, bf16_t* out, int64_t stride) {
  GetTokens(tensor, which, block_tokens, group, num_tokens, part, out, stride);
}

void Rotate(const float* in, const float* HWY_RESTRICT cosines, const float* HWY_RESTRICT sines,
            int64_t num_heads, int64_t head_dim, float* out) {
  const hn::CappedTag<float, 4> d;  // half a head is a multiple of 4
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < num_heads; ++head, in += head_dim, out += head_dim) {
    for (int64_t j = 0; j < half; j += static_cast<int64_t>(hn::Lanes(d))) {
      const auto a = hn::LoadU(d, in + j);
      const auto b = hn::LoadU(d, in + half + j);
      const auto c = hn::LoadU(d, cosines + j);
      const auto s = hn::LoadU(d, sines + j);
      hn::StoreU(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), d, out + j);
      hn::StoreU(hn::Add(hn::Mul(b, c), hn::Mul(a, s)), d, out + half + j);
    }
  }
}

}  // namespace lorc::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lorc {

HWY_EXPORT(PutToken);
HWY_EXPORT(GetTokensF32);
HWY_EXPORT(GetTokensBf16);
HWY_EXPORT(Rotate);

void WriteToken(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens, int64_t slot,
                const float* values, std::byte* part) {
  HWY_DYNAMIC_DISPATCH(PutToken)(tensor, which, block_tokens, slot, values, part);
}

void ReadTokens(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens, int32_t group,
                int64_t num_tokens, const std::byte* part, float* out, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(GetTokensF32)
  (tensor, which, block_tokens, group, num_tokens, part, out, stride);
}

void ReadTokens(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens, int32_t group,
                int64_t num_tokens, const std::byte* part, bf16_t* out, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(GetTokensBf16)
  (tensor, which, block_tokens, group, num_tokens, part, out, stride);
}

void CopyAs(DType type, const float* from, int64_t count, std::byte* to) {
  if (type == DType::kF32) {
    std::memcpy(to, from, count * sizeof(float));
  } else {
    LORC_CHECK(type == DType::kBf16);
    auto* out = reinterpret_cast<bf16_t*>(to);
    for (int64_t i = 0; i < count; ++i) out[i] = F32ToBf16(from[i]);
  }
}

void RotateHeads(const float* in, const float* cosines, const float* sines, int64_t num_heads,
                 int64_t head_dim, float* out) {
  HWY_DYNAMIC_DISPATCH(Rotate)(in, cosines, sines, num_heads, head_dim, out);
}

}  // namespace lorc
#endif  // HWY_ONCE
