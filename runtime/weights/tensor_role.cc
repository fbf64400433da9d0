#include "runtime/weights/tensor_role.h"

namespace lorc {
namespace {

constexpr int64_t kFirstPerLayer = static_cast<int64_t>(TensorRole::kAttentionNorm);
constexpr int64_t kPerLayer = static_cast<int64_t>(kAllTensorRoles.size()) - kFirstPerLayer;

}  // namespace

const char* Name(TensorRole role) {
  switch (role) {
    case TensorRole::kTokenEmbedding:
      return "the token embedding";
    case TensorRole::kOutputNorm:
      return "the last norm";
    case TensorRole::kOutput:
      return "the output matrix";
    case TensorRole::kAttentionNorm:
      return "the attention norm";
    case TensorRole::kQuery:
      return "W_q";
    case TensorRole::kKey:
      return "W_k";
    case TensorRole::kValue:
      return "W_v";
    case TensorRole::kAttentionOutput:
      return "W_o";
    case TensorRole::kFfnNorm:
      return "the feed-forward norm";
    case TensorRole::kGate:
      return "W_gate";
    case TensorRole::kUp:
      return "W_up";
    case TensorRole::kDown:
      return "W_down";
  }
  return "?";
}

bool IsPerLayer(TensorRole role) { return static_cast<int64_t>(role) >= kFirstPerLayer; }

bool IsNorm(TensorRole role) {
  return role == TensorRole::kOutputNorm || role == TensorRole::kAttentionNorm ||
         role == TensorRole::kFfnNorm;
}

TensorShape ExpectedShape(const ModelConfig& config, TensorRole role) {
  switch (role) {
    case TensorRole::kTokenEmbedding:
    case TensorRole::kOutput:
      return {config.vocabulary_size, config.hidden_size};
    case TensorRole::kOutputNorm:
    case TensorRole::kAttentionNorm:
    case TensorRole::kFfnNorm:
      return {1, config.hidden_size};
    case TensorRole::kQuery:
      return {config.query_width(), config.hidden_size};
    case TensorRole::kKey:
    case TensorRole::kValue:
      return {config.kv_width(), config.hidden_size};
    case TensorRole::kAttentionOutput:
      return {config.hidden_size, config.query_width()};
    case TensorRole::kGate:
    case TensorRole::kUp:
      return {config.ffn_size, config.hidden_size};
    case TensorRole::kDown:
      return {config.hidden_size, config.ffn_size};
  }
  return {};
}

int64_t TensorIndex(TensorRole role, int32_t layer) {
  const auto place = static_cast<int64_t>(role);
  return IsPerLayer(role) ? place + kPerLayer * layer : place;
}

int64_t NumTensors(const ModelConfig& config) {
  return kFirstPerLayer + kPerLayer * config.num_layers;
}

}  // namespace lorc
