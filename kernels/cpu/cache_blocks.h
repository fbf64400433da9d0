// How values lie inside a block on the CPU, and moving rows in and out.
//
// A block of one layer: K, then V; each its groups one after the other; each group its segments.
// Within a segment of width w (B = block_tokens):
//   K  f32, bf16, fp8   [w][B]   a vector of tokens per number: scores multiply it by one query
//                                number
//      int8 .. int2     codes of pairs of numbers, then scale f16 [B], minimum f16 [B]
//   V  f32, bf16, fp8   [B][w]   a vector of numbers per token: outputs multiply it by one weight
//      int8 .. int2     codes of pairs of tokens, then scale f16 [B], minimum f16 [B]
// How codes lie: code_planes.h. A vector of K holds tokens as well, one of V numbers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops/kv_cache.h"

namespace lorc {

inline int64_t SegmentBlockBytes(const CacheSegment& segment, int64_t block_tokens) {
  return segment.BytesPerToken() * block_tokens;
}

inline int64_t GroupBlockBytes(const CacheTensor& tensor, int64_t block_tokens) {
  int64_t bytes = 0;
  for (const CacheSegment& segment : tensor.segments) {
    bytes += SegmentBlockBytes(segment, block_tokens);
  }
  return bytes;
}

// K and V of an exact block as tensors: per KV head one segment of the exact type.
struct ExactTensors {
  CacheTensor tensor;  // the same for K and V
  explicit ExactTensors(const CacheLayer& layer)
      : tensor{layer.num_kv_heads,
               1,
               layer.head_dim,
               {{SegmentTypeOf(layer.exact_type), layer.head_dim}}} {}
};

// Writes one token's numbers [groups * rank] to slot `slot` of the tensor's part of a block. Tokens
// of a block may share bytes: they are written by one thread at a time, in any order.
void WriteToken(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens, int64_t slot,
                const float* values, std::byte* part);

// Reads tokens [0, num_tokens) of one group: row t at out + t * stride, `rank` numbers each.
void ReadTokens(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens, int32_t group,
                int64_t num_tokens, const std::byte* part, float* out, int64_t stride);
void ReadTokens(const CacheTensor& tensor, KeyOrValue which, int64_t block_tokens, int32_t group,
                int64_t num_tokens, const std::byte* part, bf16_t* out, int64_t stride);

// count floats as `type` (f32 or bf16).
void CopyAs(DType type, const float* from, int64_t count, std::byte* to);

// out = R(position) in, one row of `num_heads` heads: cosines and sines [d/2] of the position.
// `out` may be `in`.
void RotateHeads(const float* in, const float* cosines, const float* sines, int64_t num_heads,
                 int64_t head_dim, float* out);

}  // namespace lorc
