// The hyperparameters that this program accepts.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "kernels/ops/kv_cache.h"
#include "runtime/model/model_config.h"

namespace lorc {

inline constexpr int32_t kMaxLayers = 1024;
inline constexpr int32_t kMaxHiddenSize = 1 << 17;
inline constexpr int32_t kMaxHeads = 1024;
inline constexpr int32_t kMaxFfnSize = 1 << 20;
inline constexpr int32_t kMaxVocabulary = 1 << 22;
inline constexpr int32_t kMaxContext = 1 << 30;
inline constexpr double kMaxRopeBase = 1e15;
inline constexpr double kMaxRopeFactor = 1e6;

// Checks what no single value shows: that g divides h, that d is a multiple of 8, that the RoPE
// scaling is whole. Ranges of single values are the reader's.
absl::Status ValidateModelConfig(const ModelConfig& config, const std::string& source);

}  // namespace lorc
