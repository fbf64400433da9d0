#include "service/memory_estimate.h"

#include <algorithm>

#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

int64_t MatrixBytes(int64_t rows, int64_t columns, DType type) {
  const int64_t scales = type == DType::kInt8 ? rows * int64_t{sizeof(float)} : 0;
  return rows * columns * ByteSize(type) + scales;
}

int64_t LayerWeightBytes(const Backend& backend, const Checkpoint& checkpoint, const KvPlan& plan,
                         const KvLayout& layout, int32_t layer, DType type) {
  const auto bytes = [&](TensorRole role) {
    const TensorShape shape = checkpoint.Shape(role, layer);
    return MatrixBytes(shape.rows, shape.columns, type);
  };
  int64_t sum = 0;
  for (const TensorRole role : {TensorRole::kQuery, TensorRole::kAttentionOutput, TensorRole::kGate,
                                TensorRole::kUp, TensorRole::kDown}) {
    sum += bytes(role);
  }
  const ModelConfig& config = checkpoint.config();
  for (const bool is_key : {true, false}) {
    const TensorPlan& tensor = is_key ? plan.layers[layer].key : plan.layers[layer].value;
    const int64_t rank = int64_t{tensor.groups} * tensor.rank;
    const bool latent = WeightsGiveLatents(plan, tensor, is_key);
    sum += MatrixBytes(latent ? rank : config.kv_width(), config.hidden_size, type);
    if (tensor.layout != KvLayoutKind::kFull) {
      sum += backend.BasisBytes(BasisShape(layout.layers[layer], is_key), is_key, BasisType(type));
    }
  }
  return sum;
}

int64_t WeightBytes(const Backend& backend, const Checkpoint& checkpoint, const KvPlan& plan,
                    const KvLayout& layout, const ExecutorOptions& options) {
  const ModelConfig& config = checkpoint.config();
  const int64_t embedding =
      MatrixBytes(config.vocabulary_size, config.hidden_size, options.weight_type);
  int64_t sum = embedding * (config.tied_embeddings ? 1 : 2);
  for (int32_t i = 0; i < config.num_layers; ++i) {
    sum += LayerWeightBytes(backend, checkpoint, plan, layout, i, options.weight_type);
  }
  const int64_t rope = int64_t{options.max_sequence_tokens} * config.head_dim * 4;
  const int64_t norms = (2 * int64_t{config.num_layers} + 1) * config.hidden_size * 4;
  return sum + rope + norms;
}

// As LlamaModel takes them.
int64_t ActivationBytes(const ModelConfig& config, const ExecutorOptions& options) {
  const int64_t rows = options.max_step_tokens;
  const int64_t type = ByteSize(ActivationType(options.weight_type));
  const int64_t qkv = config.query_width() + 2 * int64_t{config.kv_width()};
  return rows * 4 * (config.hidden_size + qkv) +
         rows * type * (int64_t{config.hidden_size} + config.query_width() + config.ffn_size) +
         int64_t{options.max_logit_rows()} * config.vocabulary_size * 4;
}

}  // namespace

absl::StatusOr<MemoryEstimate> EstimateMemory(Backend& backend, const Checkpoint& checkpoint,
                                              const KvPlan& plan, const KvLayout& layout,
                                              const ExecutorOptions& options) {
  MemoryEstimate estimate;
  estimate.weights = WeightBytes(backend, checkpoint, plan, layout, options);
  estimate.activations = ActivationBytes(checkpoint.config(), options);
  LORC_RETURN_IF_ERROR(backend.Reserve(LimitsOf(checkpoint.config(), layout, options)));
  estimate.workspace = backend.memory().bytes(MemoryUse::kWorkspace);
  return estimate;
}

int64_t MemoryMargin(int64_t available_bytes) {
  return std::max<int64_t>(int64_t{512} << 20, available_bytes / 16);
}

int64_t DefaultKvBudget(int64_t available_bytes, bool device, const MemoryEstimate& memory,
                        const KvGeometry& geometry, int64_t max_sequence_tokens,
                        int64_t max_step_tokens, int64_t max_running) {
  constexpr int64_t kCap = int64_t{4} << 30;
  const int64_t left = available_bytes - memory.total() - MemoryMargin(available_bytes);
  const int64_t step = geometry.ExactHeadroom(max_step_tokens) * geometry.exact_block_bytes;
  const int64_t request = geometry.BytesPromised(max_sequence_tokens);
  const int64_t usable = max_running * request + step;
  const int64_t cap = device ? left : std::max(kCap, request + step);
  return std::max<int64_t>(0, std::min({left, usable, cap}));
}

}  // namespace lorc
