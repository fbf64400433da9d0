// Products with f32 and bf16 weights on any machine, and with int8 weights on all of them.
//
// Bound of the int8 loop for few rows: one pass over the weights. For 16 outputs and two inputs it
// loads 32 bytes, widens once and multiplies once per row, so from about two rows on the
// multiplications bound it.

#include <algorithm>
#include <cmath>

#include "kernels/base/check.h"
#include "kernels/cpu/linear.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_simd.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lorc::HWY_NAMESPACE {

constexpr int64_t kBlock = CpuMatrix::kBlockColumns;

// kRows rows times 2 vectors of outputs, `w` at the first output's column of a block.
template <int kRows>
HWY_INLINE void TileF32(const float* HWY_RESTRICT w, int64_t columns, const float* HWY_RESTRICT x,
                        float* HWY_RESTRICT y, int64_t y_stride) {
  const DF d;
  constexpr int64_t kLanes = LanesF();
  VF sum0[kRows], sum1[kRows];
  for (int r = 0; r < kRows; ++r) sum0[r] = sum1[r] = hn::Zero(d);
  for (int64_t k = 0; k < columns; ++k) {
    const VF w0 = hn::LoadU(d, w + k * kBlock);
    const VF w1 = hn::LoadU(d, w + k * kBlock + kLanes);
    for (int r = 0; r < kRows; ++r) {
      const VF xr = hn::Set(d, x[r * columns + k]);
      sum0[r] = hn::MulAdd(xr, w0, sum0[r]);
      sum1[r] = hn::MulAdd(xr, w1, sum1[r]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    hn::StoreU(sum0[r], d, y + r * y_stride);
    hn::StoreU(sum1[r], d, y + r * y_stride + kLanes);
  }
}

template <int kRows>
HWY_INLINE void TileBf16(const bf16_t* HWY_RESTRICT w, int64_t columns,
                         const bf16_t* HWY_RESTRICT x, float* HWY_RESTRICT y, int64_t y_stride) {
  const DF d;
  const DU32 du;
  constexpr int64_t kLanes = LanesF();
  const auto high = hn::Set(du, 0xffff0000u);
  VF sum0[kRows], sum1[kRows];
  for (int r = 0; r < kRows; ++r) sum0[r] = sum1[r] = hn::Zero(d);
  for (int64_t k = 0; k < columns; k += 2) {
    const auto* pairs = reinterpret_cast<const uint32_t*>(w + k * kBlock);
    const auto p0 = hn::LoadU(du, pairs);
    const auto p1 = hn::LoadU(du, pairs + kLanes);
    const VF even0 = hn::BitCast(d, hn::ShiftLeft<16>(p0));
    const VF even1 = hn::BitCast(d, hn::ShiftLeft<16>(p1));
    const VF odd0 = hn::BitCast(d, hn::And(p0, high));
    const VF odd1 = hn::BitCast(d, hn::And(p1, high));
    for (int r = 0; r < kRows; ++r) {
      const VF even = hn::Set(d, Bf16ToF32(x[r * columns + k]));
      // The pair of the last of an odd number of inputs is padding: its weight is zero.
      const VF odd = hn::Set(d, k + 1 < columns ? Bf16ToF32(x[r * columns + k + 1]) : 0.0f);
      sum0[r] = hn::MulAdd(odd, odd0, hn::MulAdd(even, even0, sum0[r]));
      sum1[r] = hn::MulAdd(odd, odd1, hn::MulAdd(even, even1, sum1[r]));
    }
  }
  for (int r = 0; r < kRows; ++r) {
    hn::StoreU(sum0[r], d, y + r * y_stride);
    hn::StoreU(sum1[r], d, y + r * y_stride + kLanes);
  }
}

// As many rows as the registers hold sums for.
constexpr int kInt8Rows = LanesF() == 16 ? 6 : 2;

// 4 vectors of outputs: with few rows more sums in flight hide the latency.
template <int kRows>
HWY_INLINE void TileInt8(const int8_t* HWY_RESTRICT w, int64_t padded_columns,
                         const int16_t* HWY_RESTRICT x, const float* x_scale,
                         const float* HWY_RESTRICT w_scale, float* HWY_RESTRICT y,
                         int64_t y_stride) {
  const DF d;
  const DI32 di;
  const DI16Pairs d16;
  const hn::Rebind<int8_t, DI16Pairs> d8;
  constexpr int64_t kLanes = LanesF();
  VI32 sum[kRows][4];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < 4; ++v) sum[r][v] = hn::Zero(di);
  }
  for (int64_t k = 0; k < padded_columns; k += 2) {
    VI16 wide[4];
    for (int v = 0; v < 4; ++v) {
      wide[v] = hn::PromoteTo(d16, hn::LoadU(d8, w + k * kBlock + 2 * v * kLanes));
    }
    for (int r = 0; r < kRows; ++r) {
      int32_t pair;
      hwy::CopyBytes<4>(x + r * padded_columns + k, &pair);
      const VI16 xr = SetPair(pair);
      for (int v = 0; v < 4; ++v) sum[r][v] = PairDot(sum[r][v], xr, wide[v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    const VF scale = hn::Set(d, x_scale[r]);
    for (int v = 0; v < 4; ++v) {
      const VF value =
          hn::Mul(hn::ConvertTo(d, sum[r][v]), hn::Mul(scale, hn::LoadU(d, w_scale + v * kLanes)));
      hn::StoreU(value, d, y + r * y_stride + v * kLanes);
    }
  }
}

// Calls tile<kRows>(first_row) so that all rows are covered, kMost at a time.
template <int kMost, typename Tile>
HWY_INLINE void ForRowTiles(int64_t num_rows, const Tile& tile, int64_t row = 0) {
  for (; row + kMost <= num_rows; row += kMost) tile(std::integral_constant<int, kMost>(), row);
  if constexpr (kMost > 1) ForRowTiles<kMost / 2>(num_rows, tile, row);
}

// The largest code: sums of `padded_width` products with weights of at most 127 stay below 2^31.
HWY_INLINE float LargestCode(int64_t padded_width) {
  return static_cast<float>(std::min<int64_t>(32767, 0x7fffffff / (127 * padded_width)));
}

template <typename T>
HWY_INLINE void Quantize(const T* HWY_RESTRICT x, int64_t width, int64_t padded_width,
                         int16_t* HWY_RESTRICT codes, float* scale) {
  const DF d;
  const DI32 di;
  const hn::Rebind<int16_t, DF> d16;
  constexpr int64_t kLanes = LanesF();
  const int64_t whole = width / kLanes * kLanes;
  // The tail goes through a zero-padded copy, so that every element takes the same path.
  HWY_ALIGN T tail[kLanes] = {};
  for (int64_t k = whole; k < width; ++k) tail[k - whole] = x[k];
  // Magnitudes are compared as integers: NaN counts as larger than infinity.
  auto largest_bits = hn::BitCast(di, hn::Abs(LoadValues(tail)));
  for (int64_t k = 0; k < whole; k += kLanes) {
    largest_bits = hn::Max(largest_bits, hn::BitCast(di, hn::Abs(LoadValues(x + k))));
  }
  const float largest = std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(di, largest_bits)));
  const float inverse = LargestCode(padded_width) / largest;
  std::fill(codes + whole, codes + padded_width, int16_t{0});
  if (!std::isfinite(largest) || !std::isfinite(inverse)) {
    // All (nearly) zero: so is the result. Not finite: neither is the result.
    std::fill_n(codes, whole, int16_t{0});
    *scale = std::isfinite(largest) ? 0.0f : largest;
    if (!std::isfinite(largest)) codes[0] = 1;
    return;
  }
  *scale = largest / LargestCode(padded_width);
  const VF factor = hn::Set(d, inverse);
  for (int64_t k = 0; k < whole; k += kLanes) {
    const auto code = hn::NearestInt(hn::Mul(LoadValues(x + k), factor));
    hn::StoreU(hn::DemoteTo(d16, code), d16, codes + k);
  }
  HWY_ALIGN int16_t tail_codes[kLanes];
  hn::Store(hn::DemoteTo(d16, hn::NearestInt(hn::Mul(LoadValues(tail), factor))), d16, tail_codes);
  for (int64_t k = whole; k < width; ++k) codes[k] = tail_codes[k - whole];
}

void QuantizeF32(const float* x, int64_t width, int64_t padded_width, int16_t* codes,
                 float* scale) {
  Quantize(x, width, padded_width, codes, scale);
}

void QuantizeBf16(const bf16_t* x, int64_t width, int64_t padded_width, int16_t* codes,
                  float* scale) {
  Quantize(x, width, padded_width, codes, scale);
}

void RunSimdTask(const LinearTask& task) {
  constexpr int64_t kStep = 2 * LanesF();
  const int64_t columns = task.weight->columns();
  for (int64_t output = 0; output < task.width(); output += kStep) {
    const std::byte* block = task.weight->block(task.block_begin + output / kBlock);
    const int64_t column = output % kBlock;
    ForRowTiles<6>(task.num_rows, [&](auto rows, int64_t row) HWY_ATTR {
      float* y = task.tile + row * task.width() + output;
      if (task.weight->type() == DType::kF32) {
        TileF32<rows.value>(reinterpret_cast<const float*>(block) + column, columns,
                            static_cast<const float*>(task.x) + row * columns, y, task.width());
      } else {
        TileBf16<rows.value>(reinterpret_cast<const bf16_t*>(block) + 2 * column, columns,
                             static_cast<const bf16_t*>(task.x) + row * columns, y, task.width());
      }
    });
  }
}

void RunInt8Task(const LinearTask& task) {
  constexpr int64_t kStep = 4 * LanesF();
  static_assert(kBlock % kStep == 0);
  const int64_t padded = task.weight->padded_columns();
  for (int64_t output = 0; output < task.width(); output += kStep) {
    const int64_t block = task.block_begin + output / kBlock;
    const auto* w =
        reinterpret_cast<const int8_t*>(task.weight->block(block)) + 2 * (output % kBlock);
    const float* scales = task.weight->scales() + block * kBlock + output % kBlock;
    ForRowTiles<kInt8Rows>(task.num_rows, [&](auto rows, int64_t row) HWY_ATTR {
      TileInt8<rows.value>(w, padded, static_cast<const int16_t*>(task.x) + row * padded,
                           task.code_scales + row, scales, task.tile + row * task.width() + output,
                           task.width());
    });
  }
}

// out[k] for k in [0, width), whole vectors through `vector(k)` and single ones through
// `single(k)`.
template <typename T, typename Vector>
HWY_INLINE void StoreRow(int64_t width, T* HWY_RESTRICT out, const Vector& vector) {
  constexpr int64_t kLanes = LanesF();
  int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes) StoreValues(vector(k), out + k);
  if (k == width) return;
  // The tile is padded to whole vectors, y is not.
  HWY_ALIGN T last[kLanes];
  StoreValues(vector(k), last);
  std::copy_n(last, width - k, out + k);
}

template <typename T>
HWY_INLINE void GatedSiluRow(const float* HWY_RESTRICT tile, int64_t width, T* HWY_RESTRICT out) {
  const DF d;
  const VF one = hn::Set(d, 1.0f);
  // Below about -88 exp(-z) overflows, where silu is zero anyway; the clamp keeps infinities away.
  const VF lowest = hn::Set(d, -80.0f);
  for (int64_t begin = 0; begin < width; begin += kBlock) {
    const float* gate = tile + 2 * begin;
    StoreRow(std::min(kBlock, width - begin), out + begin, [&](int64_t k) HWY_ATTR {
      const VF z = hn::LoadU(d, gate + k);
      const VF silu = hn::Div(z, hn::Add(one, hn::Exp(d, hn::Neg(hn::Max(z, lowest)))));
      return hn::Mul(silu, hn::LoadU(d, gate + kBlock + k));
    });
  }
}

void RunFinish(const float* tile, int64_t tile_stride, int64_t num_rows, int64_t width,
               LinearArgs::Output output, void* y, DType y_type, int64_t y_stride) {
  const DF d;
  for (int64_t t = 0; t < num_rows; ++t, tile += tile_stride) {
    auto* f32 = static_cast<float*>(y) + t * y_stride;
    if (output == LinearArgs::Output::kStore) {
      StoreRow(width, f32, [&](int64_t k) HWY_ATTR { return hn::LoadU(d, tile + k); });
    } else if (output == LinearArgs::Output::kAdd) {
      int64_t k = 0;
      for (; k + LanesF() <= width; k += LanesF()) {
        hn::StoreU(hn::Add(hn::LoadU(d, f32 + k), hn::LoadU(d, tile + k)), d, f32 + k);
      }
      for (; k < width; ++k) f32[k] += tile[k];
    } else if (y_type == DType::kF32) {
      GatedSiluRow(tile, width, f32);
    } else {
      GatedSiluRow(tile, width, static_cast<bf16_t*>(y) + t * y_stride);
    }
  }
}

}  // namespace lorc::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lorc {
namespace {

HWY_EXPORT(RunSimdTask);
HWY_EXPORT(RunInt8Task);
HWY_EXPORT(QuantizeF32);
HWY_EXPORT(QuantizeBf16);
HWY_EXPORT(RunFinish);

}  // namespace

void QuantizeRow(const void* x, DType x_type, int64_t width, int64_t padded_width, int16_t* codes,
                 float* scale) {
  if (x_type == DType::kF32) {
    HWY_DYNAMIC_DISPATCH(QuantizeF32)
    (static_cast<const float*>(x), width, padded_width, codes, scale);
  } else {
    LORC_CHECK(x_type == DType::kBf16);
    HWY_DYNAMIC_DISPATCH(QuantizeBf16)
    (static_cast<const bf16_t*>(x), width, padded_width, codes, scale);
  }
}

void SimdLinearTask(const LinearTask& task) { HWY_DYNAMIC_DISPATCH(RunSimdTask)(task); }

void Int8LinearTask(const LinearTask& task) { HWY_DYNAMIC_DISPATCH(RunInt8Task)(task); }

void FinishTile(const float* tile, int64_t tile_stride, int64_t num_rows, int64_t width,
                LinearArgs::Output output, void* y, DType y_type, int64_t y_stride) {
  LORC_CHECK(y_type == DType::kF32 ||
             (y_type == DType::kBf16 && output == LinearArgs::Output::kGatedSilu));
  HWY_DYNAMIC_DISPATCH(RunFinish)
  (tile, tile_stride, num_rows, width, output, y, y_type, y_stride);
}

}  // namespace lorc
#endif  // HWY_ONCE
