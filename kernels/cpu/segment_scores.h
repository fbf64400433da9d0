// Scores of query rows against the keys of one segment, numbers or codes as they lie in the cache.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/token_run.h"
#include "kernels/ops/kv_cache.h"

namespace lorc {

// Queries as 16-bit codes where their segments hold codes: query = scale * codes + rounding; a key
// is minimum + step * u, so that query . key = scale * step * (codes . u) + minimum * sum(query).
struct QueryCodes {
  int16_t* codes = nullptr;  // [h][stride], as the queries
  float* scales = nullptr;   // [h][segments]
  float* sums = nullptr;     // [h][segments]
};

// Codes of the queries [num_heads][stride], of every segment that holds codes.
void EncodeQueries(const std::vector<CacheSegment>& segments, const float* queries, int64_t stride,
                   int64_t num_heads, const QueryCodes& to);

struct ScoreArgs {
  CacheSegment segment;
  const TokenRun* run = nullptr;
  int64_t offset = 0;  // of the segment within the run's parts
  int64_t num_heads = 0;
  const float* query = nullptr;  // [num_heads][query_stride], from the segment's first number on
  int64_t query_stride = 0;
  // Of the first head, the segment's first number and the segment.
  QueryCodes codes;
  int64_t num_segments = 0;
  float* scores = nullptr;  // [num_heads][kRunTokens]
};

// scores += query . key.
void ScoreSegment(const ScoreArgs& args);

}  // namespace lorc
