#include "kernels/cpu/cache_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cache_blocks.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lorc::HWY_NAMESPACE {

constexpr int64_t kStage = 64;  // numbers that are turned at once

// scale, minimum and codes of one token's segment: the smallest range of 255 equal steps that holds
// the values, with both numbers rounded to f16 before the codes are taken, so that reading uses
// what writing used.
HWY_INLINE void QuantizeSegment(const float* HWY_RESTRICT values, int64_t width, f16_t* scale,
                                f16_t* minimum, uint8_t* HWY_RESTRICT codes) {
  const hn::CappedTag<float, 8> d;  // widths are multiples of 8
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto low = hn::LoadU(d, values);
  auto high = low;
  for (int64_t i = lanes; i < width; i += lanes) {
    const auto v = hn::LoadU(d, values + i);
    low = hn::Min(low, v);
    high = hn::Max(high, v);
  }
  const float smallest = hn::GetLane(hn::MinOfLanes(d, low));
  const float largest = hn::GetLane(hn::MaxOfLanes(d, high));
  *minimum = F32ToF16(smallest);
  *scale = std::max<f16_t>(F32ToF16((largest - smallest) / 255.0f), 1);  // at least the least half
  const float step = F16ToF32(*scale);
  const float from = F16ToF32(*minimum);
  if (!std::isfinite(step) || !std::isfinite(from)) {
    // Not finite, or beyond what f16 holds: reading gives values that are not finite either.
    *scale = F32ToF16(NAN);
    std::fill_n(codes, width, uint8_t{0});
    return;
  }
  const auto inverse = hn::Set(d, 1.0f / step);
  const auto offset = hn::Set(d, from);
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<uint8_t, decltype(d)> du8;
  for (int64_t i = 0; i < width; i += lanes) {
    const auto code = hn::Mul(hn::Sub(hn::LoadU(d, values + i), offset), inverse);
    const auto whole = hn::Min(hn::Max(hn::NearestInt(code), hn::Zero(di)), hn::Set(di, 255));
    hn::StoreU(hn::DemoteTo(du8, whole), du8, codes + i);
  }
}

template <typename T>
HWY_INLINE void PutPlain(KeyOrValue which, int64_t block_tokens, int64_t slot, int64_t width,
                         const float* values, T* HWY_RESTRICT out) {
  const int64_t step = which == KeyOrValue::kKey ? block_tokens : 1;
  T* first = which == KeyOrValue::kKey ? out + slot : out + slot * width;
  for (int64_t i = 0; i < width; ++i) {
    if constexpr (sizeof(T) == 4) {
      first[i * step] = values[i];
    } else {
      first[i * step] = F32ToBf16(values[i]);
    }
  }
}

HWY_INLINE void PutInt8(KeyOrValue which, int64_t block_tokens, int64_t slot, int64_t width,
                        const float* values, std::byte* part) {
  auto* out = reinterpret_cast<uint8_t*>(part);
  auto* scales = reinterpret_cast<f16_t*>(part + width * block_tokens);
  HWY_ALIGN uint8_t codes[kMaxSegmentWidth];
  QuantizeSegment(values, width, scales + slot, scales + block_tokens + slot, codes);
  if (which == KeyOrValue::kKey) {
    for (int64_t i = 0; i < width; i += 2) {
      uint8_t* pair = out + (i / 2 * block_tokens + slot) * 2;
      pair[0] = codes[i];
      pair[1] = codes[i + 1];
    }
  } else {
    uint8_t* row = out + slot / 2 * width * 2 + slot % 2;
    for (int64_t i = 0; i < width; ++i) row[2 * i] = codes[i];
  }
}

void PutToken(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens, int64_t slot,
              const float* values, std::byte* part) {
  for (int32_t group = 0; group < tensor.groups; ++group) {
    for (const CacheSegment& segment : tensor.segments) {
      switch (segment.type) {
        case DType::kF32:
          PutPlain(which, block_tokens, slot, segment.width, values,
                   reinterpret_cast<float*>(part));
          break;
        case DType::kBf16:
          PutPlain(which, block_tokens, slot, segment.width, values,
                   reinterpret_cast<bf16_t*>(part));
          break;
        case DType::kInt8:
          PutInt8(which, block_tokens, slot, segment.width, values, part);
          break;
        case DType::kF16:
          LORC_CHECK(false);
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
      for (int64_t i = 0; i < count; ++i) {
        if constexpr (sizeof(T) == 4) {
          row[i] = stage[i * 16 + t];
        } else {
          row[i] = F32ToBf16(stage[i * 16 + t]);
        }
      }
    }
  }
}

template <typename From, typename T>
HWY_INLINE void GetPlain(KeyOrValue which, int64_t block_tokens, int64_t width, int64_t num_tokens,
                         const From* from, T* HWY_RESTRICT out, int64_t stride) {
  constexpr int64_t kLanes = LanesF();
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
      if constexpr (sizeof(From) == sizeof(T)) {
        out[t * stride + i] = from[t * width + i];
      } else if constexpr (sizeof(From) == 2) {
        out[t * stride + i] = Bf16ToF32(from[t * width + i]);
      } else {
        out[t * stride + i] = F32ToBf16(from[t * width + i]);
      }
    }
  }
}

// Codes 2 i and 2 i + 1 of `Lanes` tokens (or of tokens 2 t and 2 t + 1 of `Lanes` numbers), as
// floats.
HWY_INLINE void LoadCodePairs(const uint8_t* from, VF& first, VF& second) {
  const DF d;
  const DI32 di;
  const auto pairs =
      hn::PromoteTo(DU32(), hn::LoadU(DU16(), reinterpret_cast<const uint16_t*>(from)));
  first = hn::ConvertTo(d, hn::BitCast(di, hn::And(pairs, hn::Set(DU32(), 0xff))));
  second = hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<8>(pairs)));
}

template <typename T>
HWY_INLINE void GetInt8(KeyOrValue which, int64_t block_tokens, int64_t width, int64_t num_tokens,
                        const std::byte* part, T* HWY_RESTRICT out, int64_t stride) {
  constexpr int64_t kLanes = LanesF();
  const auto* codes = reinterpret_cast<const uint8_t*>(part);
  const auto* scales = reinterpret_cast<const f16_t*>(part + width * block_tokens);
  const f16_t* minima = scales + block_tokens;
  if (which == KeyOrValue::kKey) {
    for (int64_t t = 0; t < num_tokens; t += 16) {
      TurnTokens(
          width, std::min<int64_t>(16, num_tokens - t),
          [&](int64_t i, float* stage) HWY_ATTR {
            for (int64_t v = 0; v < 16; v += kLanes) {
              VF first, second;
              LoadCodePairs(codes + (i / 2 * block_tokens + t + v) * 2, first, second);
              hn::Store(hn::MulAdd(i % 2 == 0 ? first : second, LoadF16(scales + t + v),
                                   LoadF16(minima + t + v)),
                        DF(), stage + v);
            }
          },
          out + t * stride, stride);
    }
    return;
  }
  for (int64_t t = 0; t < num_tokens; ++t) {
    const float scale = F16ToF32(scales[t]);
    const float minimum = F16ToF32(minima[t]);
    const uint8_t* row = codes + t / 2 * width * 2 + t % 2;
    for (int64_t i = 0; i < width; ++i) {
      const float value = minimum + scale * static_cast<float>(row[2 * i]);
      if constexpr (sizeof(T) == 4) {
        out[t * stride + i] = value;
      } else {
        out[t * stride + i] = F32ToBf16(value);
      }
    }
  }
}

template <typename T>
HWY_INLINE void GetTokens(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens,
                          int32_t group, int64_t num_tokens, const std::byte* part, T* out,
                          int64_t stride) {
  part += group * GroupBlockBytes(tensor, block_tokens);
  for (const CacheSegment& segment : tensor.segments) {
    switch (segment.type) {
      case DType::kF32:
        GetPlain(which, block_tokens, segment.width, num_tokens,
                 reinterpret_cast<const float*>(part), out, stride);
        break;
      case DType::kBf16:
        GetPlain(which, block_tokens, segment.width, num_tokens,
                 reinterpret_cast<const bf16_t*>(part), out, stride);
        break;
      case DType::kInt8:
        GetInt8(which, block_tokens, segment.width, num_tokens, part, out, stride);
        break;
      case DType::kF16:
        LORC_CHECK(false);
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
