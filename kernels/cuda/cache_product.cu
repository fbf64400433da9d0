#include <algorithm>

#include "kernels/cuda/cache_product.h"
#include "kernels/cuda/mma.cuh"

namespace lorc::cuda {
namespace {

constexpr int kStep = 64;  // numbers of k that lie in shared memory per stage
constexpr int kStages = 3;
constexpr int kPieces = kStep / 8;  // 16-byte pieces of a row of a stage

// A CTA makes kRows x kColumns numbers of y, a warp kWarpRows x kWarpColumns.
template <int kRows_, int kColumns_, int kWarpRows_, int kWarpColumns_>
struct Tile {
  static constexpr int kRows = kRows_;
  static constexpr int kColumns = kColumns_;
  static constexpr int kWarpRows = kWarpRows_;
  static constexpr int kWarpColumns = kWarpColumns_;
  static constexpr int kWarpsAcross = kColumns / kWarpColumns;
  static constexpr int kThreads = kRows / kWarpRows * kWarpsAcross * 32;
  static constexpr int kStageBytes = (kRows + kColumns) * kStep * 2;
  static constexpr int kSharedBytes = kStages * kStageBytes;
};
using ProjectTile = Tile<64, 64, 32, 32>;
using RebuildTile = Tile<128, 128, 64, 32>;

// The CTA's product: sums[i][j] of rows first_row + 16 i and columns first_column + 8 j of the
// warp. `weight_row(j)`: the row of w that gives column j.
template <class T, typename WeightRow>
__device__ __forceinline__ void Multiply(const GroupProduct& product, int num_rows, int group,
                                         int row0, int column0, const WeightRow& weight_row,
                                         float (&sums)[T::kWarpRows / 16][T::kWarpColumns / 8][4]) {
  extern __shared__ __align__(128) unsigned char shared[];
  const uint32_t stages = SharedAddress(shared);
  const int k = product.k;
  const int64_t x_stride = static_cast<int64_t>(product.groups) * k;
  const uint16_t* x = product.x + static_cast<int64_t>(group) * k;
  const uint16_t* w = product.w + static_cast<int64_t>(group) * product.n * k;
  const int num_steps = (k + kStep - 1) / kStep;

  const auto load = [&](int step) {
    if (step < num_steps) {
      const uint32_t stage = stages + step % kStages * T::kStageBytes;
#pragma unroll
      for (int i = threadIdx.x; i < T::kRows * kPieces; i += T::kThreads) {
        const int row = i / kPieces;
        const int piece = i % kPieces;
        const int at = step * kStep + piece * 8;
        const bool valid = row0 + row < num_rows && at < k;
        CopyAsync16(stage + Swizzled<kPieces>(row, piece),
                    valid ? x + (row0 + row) * x_stride + at : x, valid);
      }
#pragma unroll
      for (int i = threadIdx.x; i < T::kColumns * kPieces; i += T::kThreads) {
        const int row = i / kPieces;
        const int piece = i % kPieces;
        const int at = step * kStep + piece * 8;
        const bool valid = column0 + row < product.n && at < k;
        CopyAsync16(stage + T::kRows * kStep * 2 + Swizzled<kPieces>(row, piece),
                    valid ? w + static_cast<int64_t>(weight_row(column0 + row)) * k + at : w,
                    valid);
      }
    }
    CommitCopies();
  };

  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int warp_row = warp / T::kWarpsAcross * T::kWarpRows;
  const int warp_column = warp % T::kWarpsAcross * T::kWarpColumns;
#pragma unroll
  for (auto& row : sums) {
#pragma unroll
    for (auto& sum : row) sum[0] = sum[1] = sum[2] = sum[3] = 0.0f;
  }
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) load(step);
  for (int step = 0; step < num_steps; ++step) {
    WaitForCopies<kStages - 2>();
    __syncthreads();  // the step's stage is there, and all are done with the one before
    load(step + kStages - 1);
    const uint32_t x_stage = stages + step % kStages * T::kStageBytes;
    const uint32_t w_stage = x_stage + T::kRows * kStep * 2;
#pragma unroll
    for (int kk = 0; kk < kStep / 16; ++kk) {
      uint32_t a[T::kWarpRows / 16][4];
#pragma unroll
      for (int i = 0; i < T::kWarpRows / 16; ++i) {
        LoadTiles(x_stage + Swizzled<kPieces>(warp_row + 16 * i + lane % 16, kk * 2 + lane / 16),
                  a[i]);
      }
#pragma unroll
      for (int j = 0; j < T::kWarpColumns / 16; ++j) {
        uint32_t b[4];
        LoadTiles(w_stage + Swizzled<kPieces>(warp_column + 16 * j + lane / 16 * 8 + lane % 8,
                                              kk * 2 + lane / 8 % 2),
                  b);
#pragma unroll
        for (int i = 0; i < T::kWarpRows / 16; ++i) {
          MultiplyAdd(sums[i][2 * j], a[i], b[0], b[1]);
          MultiplyAdd(sums[i][2 * j + 1], a[i], b[2], b[3]);
        }
      }
    }
  }
}

// Calls body(row, column, low, high) for two neighbouring columns at a time; columns of the group.
template <class T, typename Body>
__device__ __forceinline__ void ForSums(
    int row0, int column0, const float (&sums)[T::kWarpRows / 16][T::kWarpColumns / 8][4],
    const Body& body) {
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int row = row0 + warp / T::kWarpsAcross * T::kWarpRows + lane / 4;
  const int column = column0 + warp % T::kWarpsAcross * T::kWarpColumns + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < T::kWarpRows / 16; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int j = 0; j < T::kWarpColumns / 8; ++j) {
        body(row + 16 * i + 8 * half, column + 8 * j, sums[i][j][2 * half],
             sums[i][j][2 * half + 1]);
      }
    }
  }
}

__global__ void __launch_bounds__(ProjectTile::kThreads)
    ProjectKernel(const __grid_constant__ ProjectArgs args) {
  using T = ProjectTile;
  const bool is_key = static_cast<int>(blockIdx.z) < args.key.groups;
  const GroupProduct& product = is_key ? args.key : args.value;
  const int group = is_key ? blockIdx.z : blockIdx.z - args.key.groups;
  const int row0 = blockIdx.x * T::kRows;
  const int column0 = blockIdx.y * T::kColumns;
  if (column0 >= product.n) return;
  float sums[T::kWarpRows / 16][T::kWarpColumns / 8][4];
  Multiply<T>(
      product, args.num_rows, group, row0, column0, [](int j) { return j; }, sums);
  float* out =
      (is_key ? args.key_latents : args.value_latents) + static_cast<int64_t>(group) * product.n;
  const int64_t stride = static_cast<int64_t>(product.groups) * product.n;
  ForSums<T>(row0, column0, sums, [&](int row, int column, float low, float high) {
    if (row >= args.num_rows || column >= product.n) return;
    *reinterpret_cast<float2*>(out + row * stride + column) = make_float2(low, high);
  });
}

__global__ void __launch_bounds__(RebuildTile::kThreads, 2)
    RebuildKernel(const __grid_constant__ RebuildArgs args) {
  using T = RebuildTile;
  const bool is_key = static_cast<int>(blockIdx.z) < args.key.groups;
  const GroupProduct& product = is_key ? args.key : args.value;
  const int group = is_key ? blockIdx.z : blockIdx.z - args.key.groups;
  const int num_rows = args.num_tiles * kKeyTile;
  const int row0 = blockIdx.x * T::kRows;
  const int column0 = blockIdx.y * T::kColumns;
  if (column0 >= product.n) return;
  const int d = args.frame.head_dim;
  float sums[T::kWarpRows / 16][T::kWarpColumns / 8][4];
  Multiply<T>(
      product, num_rows, group, row0, column0,
      [&](int j) { return is_key ? j / d * d + RotatedColumn(j % d, d) : j; }, sums);
  uint16_t* out = (is_key ? args.keys : args.values) + static_cast<int64_t>(group) * product.n;
  const int64_t stride = static_cast<int64_t>(product.groups) * product.n;
  ForSums<T>(row0, column0, sums, [&](int row, int column, float low, float high) {
    if (row >= num_rows || column >= product.n) return;
    if (is_key) {
      const KeyTile tile = args.tiles[row / kKeyTile];
      const int position = min(tile.position + row % kKeyTile, tile.end - 1);
      const int64_t turn =
          static_cast<int64_t>(args.frame.ChunkStart(position)) * (d / 2) + column % d / 2;
      const float c = args.frame.rope_cos[turn];
      const float s = args.frame.rope_sin[turn];
      const float first = low * c - high * s;
      high = high * c + low * s;
      low = first;
    }
    *reinterpret_cast<uint32_t*>(out + row * stride + column) = PackBf16(low, high);
  });
}

template <class T>
dim3 Grid(int num_rows, const GroupProduct& key, const GroupProduct& value) {
  const int n = std::max(key.groups > 0 ? key.n : 0, value.groups > 0 ? value.n : 0);
  return dim3((num_rows + T::kRows - 1) / T::kRows, (n + T::kColumns - 1) / T::kColumns,
              key.groups + value.groups);
}

}  // namespace

void Project(const ProjectArgs& args, cudaStream_t stream) {
  const dim3 grid = Grid<ProjectTile>(args.num_rows, args.key, args.value);
  if (grid.x == 0 || grid.z == 0) return;
  ProjectKernel<<<grid, ProjectTile::kThreads, ProjectTile::kSharedBytes, stream>>>(args);
}

void Rebuild(const RebuildArgs& args, cudaStream_t stream) {
  const dim3 grid = Grid<RebuildTile>(args.num_tiles * kKeyTile, args.key, args.value);
  if (grid.x == 0 || grid.z == 0) return;
  RebuildKernel<<<grid, RebuildTile::kThreads, RebuildTile::kSharedBytes, stream>>>(args);
}

cudaError_t PrepareCacheProducts() {
  return cudaFuncSetAttribute(RebuildKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              RebuildTile::kSharedBytes);
}

}  // namespace lorc::cuda
