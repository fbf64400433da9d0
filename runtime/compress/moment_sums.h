// Adds what one layer computes over one window, or the gradients there, to the statistics.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/thread_pool.h"
#include "runtime/compress/layer_pass.h"
#include "runtime/compress/rotation.h"
#include "runtime/compress/statistics.h"
#include "runtime/model/model_config.h"

namespace lorc {

class MomentSums {
 public:
  // `rotation` covers the longest window. It and the pool outlive this.
  MomentSums(const ModelConfig& config, int32_t anchor, int32_t exact_prefix,
             const Rotation& rotation, ThreadPool& pool);

  // Need a SingleThreadedBlas.
  void AddActivations(const LayerActivations& activations, LayerStatistics* layer);
  // Gradients by keys before RoPE and by values [T, g*d].
  void AddGradients(int64_t num_tokens, const float* keys, const float* values,
                    KvMoments* gradients);

 private:
  // Rows [num_tokens, heads*d], `stride` apart, into `to`, each rotated by its position in its
  // chunk.
  void RotateInChunks(int64_t num_tokens, int64_t num_heads, const float* rows, int64_t stride,
                      std::vector<float>& to);
  void AddQueries(int64_t num_tokens, const float* queries, double* sum) const;

  const ModelConfig config_;
  const int64_t anchor_;
  const int64_t exact_prefix_;
  const Rotation& rotation_;
  ThreadPool& pool_;
  std::vector<double> frequencies_;  // [d/2]
  std::vector<float> keys_, queries_;
};

}  // namespace lorc
