// Where the numbers come from that are written to the cache.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/cache_numbers.h"

namespace lorc::cuda {

// Up to 16 consecutive tokens of one block.
struct WriteRun {
  int32_t block = 0;  // pool row of the block that is written
  int32_t slot = 0;   // of the run's token 0 in the block: a multiple of 16
  int32_t begin = 0;  // tokens [begin, end) of the run are written
  int32_t end = 0;
  int32_t source = 0;    // row of the step that token 0 has or would have; for a block that ages,
                         // the pool row of its exact block
  int32_t position = 0;  // of token 0
};

// What a layer's full keys and values look like.
struct HeadFrame {
  int32_t head_dim = 0;
  int32_t block_tokens = 0;
  int32_t anchor = 0;
  const float* rope_cos = nullptr;  // [positions, d/2]
  const float* rope_sin = nullptr;

  LORC_HOST_DEVICE int32_t ChunkStart(int32_t position) const {
    return anchor == 0 ? 0 : position - position % anchor;
  }
};

enum class SourceKind : uint8_t {
  kStep,         // rows of the step as they are
  kStepRotated,  // full keys of the step, to be rotated within their chunk
  kGathered,     // 16 rows per run, in the order of the runs
  kExact,        // an exact block
};

struct TokenSource {
  SourceKind kind = SourceKind::kStep;
  bool is_key = false;
  const float* rows = nullptr;       // of the step, or gathered
  int64_t stride = 0;                // floats from row to row
  const std::byte* exact = nullptr;  // K or V part of the exact pool's first block
  int64_t block_bytes = 0;           // from exact block to exact block
};

#ifdef __CUDACC__

// Number `column` of run `index`'s token t.
__device__ __forceinline__ float LoadNumber(const TokenSource& source, const HeadFrame& frame,
                                            const WriteRun& run, int32_t index, int32_t t,
                                            int32_t column) {
  switch (source.kind) {
    case SourceKind::kStep:
      return source.rows[static_cast<int64_t>(run.source + t) * source.stride + column];
    case SourceKind::kGathered:
      return source.rows[(static_cast<int64_t>(index) * 16 + t) * source.stride + column];
    case SourceKind::kStepRotated: {
      const float* row = source.rows + static_cast<int64_t>(run.source + t) * source.stride;
      const int32_t half = frame.head_dim / 2;
      const int32_t i = column % frame.head_dim;
      const bool first = i < half;
      const int32_t position = run.position + t;
      const int64_t turn = static_cast<int64_t>(position - frame.ChunkStart(position)) * half +
                           (first ? i : i - half);
      const float c = frame.rope_cos[turn];
      const float s = frame.rope_sin[turn];
      const float own = __fmul_rn(row[column], c);
      const float other = __fmul_rn(row[first ? column + half : column - half], s);
      return first ? __fsub_rn(own, other) : __fadd_rn(own, other);
    }
    case SourceKind::kExact: {
      const int32_t d = frame.head_dim;
      const std::byte* head = source.exact + run.source * source.block_bytes +
                              static_cast<int64_t>(column / d) * d * frame.block_tokens * 2;
      return ReadNumber(SegmentType::kBf16, source.is_key, d, frame.block_tokens, head,
                        run.slot + t, column % d);
    }
  }
  return 0.0f;
}

#endif  // __CUDACC__

}  // namespace lorc::cuda
