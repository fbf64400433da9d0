// Products of the cache with its bases: y = x W^T on tensor cores, bf16 in, f32 sums.
//
// A number of y is one sum over k in rising order, whatever the sizes, so rows do not depend on how
// many are computed together.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/token_source.cuh"

namespace lorc::cuda {

inline constexpr int32_t kKeyTile = 64;  // positions of a tile of keys, aligned

struct KeyTile {
  int32_t position = 0;  // of its first row
  int32_t end = 0;       // of the sequence; rows from there on are zero
};

// For each group i: y[m, i * n + j] = sum_k x[m, i * k + ...] w[i][j, ...].
struct GroupProduct {
  int32_t groups = 0;           // 0: nothing to do
  int32_t n = 0;                // of a group: a multiple of 16
  int32_t k = 0;                // of a group: a multiple of 16
  const uint16_t* x = nullptr;  // bf16 [num_rows, groups * k]
  const uint16_t* w = nullptr;  // bf16 [groups, n, k]
};

// latents[m, groups * rank], f32.
struct ProjectArgs {
  int32_t num_rows = 0;
  GroupProduct key, value;
  float* key_latents = nullptr;
  float* value_latents = nullptr;
};

void Project(const ProjectArgs& args, cudaStream_t stream);

// Full keys and values [num_rows, groups * n] as bf16. Rows come in tiles of kKeyTile positions of
// a sequence. Keys are rotated on from their chunk to their positions, and a head's numbers j and
// j + d/2 lie side by side (order of RotatedColumn).
struct RebuildArgs {
  int32_t num_tiles = 0;
  const KeyTile* tiles = nullptr;  // device memory
  HeadFrame frame;
  GroupProduct key, value;
  uint16_t* keys = nullptr;  // bf16
  uint16_t* values = nullptr;
};

void Rebuild(const RebuildArgs& args, cudaStream_t stream);

// Once before the first product: asks for the shared memory that they need.
cudaError_t PrepareCacheProducts();

// Which number of a head stands in column i of a rotated key or query.
LORC_HOST_DEVICE constexpr int32_t RotatedColumn(int32_t i, int32_t head_dim) {
  return i / 2 + (i % 2 == 0 ? 0 : head_dim / 2);
}

}  // namespace lorc::cuda
