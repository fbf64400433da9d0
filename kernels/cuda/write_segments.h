// Kernels that put tokens into blocks.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/tensor_shape.h"
#include "kernels/cuda/token_source.cuh"

namespace lorc::cuda {

struct SegmentWrite {
  TokenSource source;
  TensorShape shape;          // num_segments 0: nothing is written
  std::byte* part = nullptr;  // K or V part of the pool's first block
};

// Writes runs to the blocks of one pool, K and V: values are rounded or quantised, one warp per
// token and segment. Numbers of other tokens that lie in the same words stay.
struct WriteSegmentsArgs {
  const WriteRun* runs = nullptr;  // device memory
  int32_t num_runs = 0;
  int64_t block_bytes = 0;  // from block to block of the pool
  HeadFrame frame;
  SegmentWrite key, value;
};

void WriteSegments(const WriteSegmentsArgs& args, cudaStream_t stream);

// rows[16 * i + t] = token t of run i as bf16 [width], 0 for tokens that are not written: what
// projections multiply. K and V in one launch; `rows` nullptr: nothing.
struct GatherRowsArgs {
  const WriteRun* runs = nullptr;  // device memory
  int32_t num_runs = 0;
  int32_t width = 0;
  HeadFrame frame;
  TokenSource key, value;
  uint16_t* key_rows = nullptr;  // bf16
  uint16_t* value_rows = nullptr;
};

void GatherRows(const GatherRowsArgs& args, cudaStream_t stream);

}  // namespace lorc::cuda
