// Weighted sums of the values of one segment, numbers or codes as they lie in the cache.
#pragma once

#include <cstdint>

#include "kernels/cpu/token_run.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {

struct ValueArgs {
  CacheSegment segment;
  const TokenRun* run = nullptr;
  int64_t offset = 0;  // of the segment within the run's parts
  int64_t num_heads = 0;
  const float* weights = nullptr;  // [num_heads][kRunTokens]; 0 beyond the run's tokens
  const float* keep = nullptr;     // [num_heads]
  const float* take = nullptr;     // [num_heads]
  int16_t* codes = nullptr;        // [num_heads][kRunTokens], scratch
  float* minimum_sums = nullptr;   // [num_heads], scratch
  // [num_heads][out_stride], from the segment's first column on, which has whole vectors of 16.
  float* out = nullptr;
  int64_t out_stride = 0;
};

// out[head][column] = keep * out + take * sum_t weight[head][t] value[t][column].
void ValueSegment(const ValueArgs& args);

}  // namespace lorc
