// A LLaMA model on a backend: weights, activations, one step.
//
// Per layer, x [T, D]: x += W_o attend(rope(W_q n), W_k n, W_v n) with n = rms_norm(x), then
// x += W_down (silu(W_gate n) * (W_up n)). Where a plan's weights give latents, W_k and W_v stand
// multiplied by the encoders.
//
// Threads: one caller at a time.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "runtime/kv/kv_cache.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

// Types of the products' inputs for weights of a type, of exact tokens in the cache and of products
// with bases.
DType ActivationType(DType weight_type);  // f32 -> f32, bf16 -> bf16, int8 -> f32
DType ExactType(DType weight_type);       // f32 -> f32, else bf16
DType BasisType(DType weight_type);       // f32 -> f32, else bf16

// Called with the share of the work that is done, 0..1, from the calling thread.
using Progress = std::function<void(double)>;

class LlamaModel {
 public:
  struct Options {
    DType weight_type = DType::kBf16;  // f32, bf16 or int8
    int32_t max_step_tokens = 0;
    int32_t max_logit_rows = 0;  // rows of logits at once
  };

  // Reads and packs the weights. `plan` decides which layers give latents. INVALID_ARGUMENT names a
  // tensor with values that are not finite.
  static absl::StatusOr<std::unique_ptr<LlamaModel>> Load(Backend& backend,
                                                          const Checkpoint& checkpoint,
                                                          const KvPlan& plan,
                                                          const Options& options,
                                                          const Progress& progress);

  const ModelConfig& config() const { return config_; }
  DType weight_type() const { return options_.weight_type; }
  int64_t num_parameters() const { return num_parameters_; }
  int32_t max_logit_rows() const { return options_.max_logit_rows; }

  // Computes rows [0, num_rows): token tokens[t] at its sequence's position. Rows of no sequence
  // meet no cache.
  void Forward(std::span<const int32_t> tokens, std::span<const SequenceSpan> sequences,
               const KvCache& cache);

  // Logits [rows.size(), V] of rows of the last Forward, in the backend's memory; rows.size() <=
  // max_logit_rows. Valid until the next call.
  std::span<float> Logits(std::span<const int32_t> rows);

 private:
  struct Layer {
    Buffer attention_norm;        // [D] f32
    std::unique_ptr<Matrix> qkv;  // [h*d + K + V, D]
    std::unique_ptr<Matrix> attention_output;
    Buffer ffn_norm;  // [D] f32
    std::unique_ptr<Matrix> gate_up;
    std::unique_ptr<Matrix> down;
    int64_t key_width = 0;  // of what the weights give: g*d or the latent's
    int64_t value_width = 0;
  };

  LlamaModel(Backend& backend, const ModelConfig& config, const Options& options);

  absl::Status LoadWeights(const Checkpoint& checkpoint, const KvPlan& plan,
                           const Progress& progress);
  absl::Status TakeActivations();
  absl::Status LoadLayer(const Checkpoint& checkpoint, const KvPlan& plan, int32_t index);
  absl::StatusOr<Buffer> LoadGain(const std::vector<float>& gain);
  void Normalize(const Buffer& gain, int64_t num_rows, const int32_t* rows, void* out);
  void Multiply(const Matrix& weight, const Buffer& x, int64_t num_rows, LinearArgs::Output output,
                float* y, int64_t y_stride);

  Backend& backend_;
  const ModelConfig config_;
  const Options options_;
  const DType activation_type_;
  int64_t num_parameters_ = 0;
  std::unique_ptr<Matrix> embedding_;
  std::unique_ptr<Matrix> output_;  // nullptr: the embedding
  Buffer output_norm_;              // [D] f32
  std::vector<Layer> layers_;

  Buffer residual_;    // [T, D] f32
  Buffer normalized_;  // [padded T, D] activation type
  Buffer qkv_;         // [T, widest qkv] f32
  Buffer attended_;    // [padded T, h*d] activation type
  Buffer gated_;       // [padded T, F] activation type
  Buffer logits_;      // [max_logit_rows, V] f32
};

}  // namespace lorc
