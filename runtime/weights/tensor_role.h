// The tensors of a LLaMA model by role: which exist and what shape they have.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/model/model_config.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

inline constexpr std::array<TensorRole, 12> kAllTensorRoles = {
    TensorRole::kTokenEmbedding,
    TensorRole::kOutputNorm,
    TensorRole::kOutput,
    TensorRole::kAttentionNorm,
    TensorRole::kQuery,
    TensorRole::kKey,
    TensorRole::kValue,
    TensorRole::kAttentionOutput,
    TensorRole::kFfnNorm,
    TensorRole::kGate,
    TensorRole::kUp,
    TensorRole::kDown,
};

bool IsPerLayer(TensorRole role);
const char* Name(TensorRole role);  // as people write it: "W_q"
bool IsNorm(TensorRole role);       // stored as a vector
TensorShape ExpectedShape(const ModelConfig& config, TensorRole role);

// Place of a tensor in a list that holds the roles outside layers, then layer after layer.
int64_t TensorIndex(TensorRole role, int32_t layer);
int64_t NumTensors(const ModelConfig& config);

}  // namespace lorc
