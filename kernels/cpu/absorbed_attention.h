// Attention of one query row over one stretch of cached tokens, latents as they are.
//
// A stretch is read in runs of at most kRunTokens tokens of one kind. Exact and latent tokens are
// summed apart, each with its own running maximum; the parts of a row are put together at the end.
// Where runs and stretches begin depends on positions alone.
#pragma once

#include <cstdint>

#include "kernels/cpu/token_run.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {

// Sums over some tokens for all heads: of exp(score - maximum), and of the same times the values.
struct SoftmaxPart {
  float* maximum = nullptr;  // [h]
  float* sum = nullptr;      // [h]
  float* out = nullptr;      // [h][columns]
  int64_t columns = 0;
};

// Columns of a latent part's row, those of one group: each segment padded to whole vectors of 16.
int64_t ValueColumns(const CacheTensor& value);

// Floats of a thread's scratch memory for AttendStretch.
int64_t StretchScratchFloats(int64_t num_heads, int64_t head_dim, int64_t max_rank);

struct StretchArgs {
  const CacheLayer* layer = nullptr;
  const float* query = nullptr;  // [h, d], before RoPE
  int64_t position = 0;          // of the query
  int64_t begin = 0;  // tokens [begin, end), begin a multiple of the block, end <= position + 1
  int64_t end = 0;
  const int32_t* latent_blocks = nullptr;
  const int32_t* exact_blocks = nullptr;
  SoftmaxPart exact;   // columns: padded d
  SoftmaxPart latent;  // columns: ValueColumns
  float* scratch = nullptr;
};

// Both parts are set, to nothing where the stretch has no such tokens.
void AttendStretch(const StretchArgs& args);

// out [d] of one head from its latent sums [columns], by the value's basis (or a copy where there
// is none).
void ValueOutput(const CacheLayer& layer, int64_t kv_head, const float* sums, float* out);

}  // namespace lorc
