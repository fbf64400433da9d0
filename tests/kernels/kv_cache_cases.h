// Layers of a cache that the tests of the cache ops run through.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/ops/kv_cache.h"

namespace lorc {

// Latents of one tensor. groups 0: the identity.
struct TensorSpec {
  int32_t groups = 0;
  std::vector<CacheSegment> segments;
};

struct Case {
  std::string name;
  int32_t heads, kv_heads, head_dim;
  int32_t anchor;
  int32_t prefix_blocks, window_blocks;
  TensorSpec key, value;
  DType exact_type = DType::kF32;
  DType basis_type = DType::kF32;
  int32_t block_tokens = 16;
  int64_t prompt = 150;      // positions of the prompt
  int64_t generated = 40;    // positions after it
  int64_t other_prompt = 0;  // of the second sequence, where it is another: a shorter one
  bool latents_in = false;   // the layer's rows are latents already: no window, no rotated keys

  friend std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }
};

std::vector<Case> CpuCases();

// What the CUDA backend accepts: bf16 exact tokens and bases, segments of multiples of 16.
std::vector<Case> CudaCases();

}  // namespace lorc
