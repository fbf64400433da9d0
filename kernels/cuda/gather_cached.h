// Kernels that read runs of cached tokens back as rows.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/tensor_shape.h"
#include "kernels/cuda/token_source.cuh"

namespace lorc::cuda {

// 16 consecutive tokens of one block, from a slot that is a multiple of 16 on.
struct CacheRun {
  int32_t block = 0;     // pool row; not read where count is 0
  int32_t position = 0;  // of the first token
  int32_t count = 0;     // tokens that are there; the rows of the others are zero
};

struct CachedTensor {
  TensorShape shape;                // groups 0: nothing is read
  const std::byte* part = nullptr;  // K or V part of the pool's first block
  uint16_t* rows = nullptr;         // bf16; run i gives rows 16 i .. 16 i + 15
};

struct GatherCachedArgs {
  const CacheRun* runs = nullptr;  // device memory
  int32_t num_runs = 0;
  int64_t block_bytes = 0;
  HeadFrame frame;
  CachedTensor key, value;
};

// Latents as they are: rows [groups * rank].
void GatherLatents(const GatherCachedArgs& args, cudaStream_t stream);

// Full keys and values of tensors without a basis: rows [g * d]. Keys are rotated on from their
// chunk to their positions, their numbers in the order of RotatedColumn (cache_product.h).
void GatherHeads(const GatherCachedArgs& args, cudaStream_t stream);

}  // namespace lorc::cuda
