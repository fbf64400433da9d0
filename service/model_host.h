// From a configuration to a model that runs: files opened and checked, the cache sized, weights
// loaded. Every stage can be the last: --dry-run stops before the third.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "runtime/kv/kv_layout.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/model/model_executor.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/weights/checkpoint.h"
#include "scheduler/options.h"
#include "service/available_memory.h"
#include "service/chat_template/chat_template.h"
#include "service/memory_estimate.h"
#include "service/server_config.h"

namespace lorc {

// Constant after OpenModel; may be read from any thread.
struct ModelFiles {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;
  std::string no_chat_reason;  // where there is no template: why
  size_t longest_token_bytes = 1;
  KvPlan plan;
  KvLayout layout;  // of the plan
  DType weight_type = DType::kBf16;
  DType full_type = DType::kBf16;  // of an uncompressed cache with these weights

  const ModelConfig& config() const { return checkpoint->config(); }
};

// Errors say what is wrong with which file.
absl::StatusOr<std::unique_ptr<ModelFiles>> OpenModel(const ServerConfig& config);

// How the memory is shared out. Constant after SizeCache.
struct CacheSize {
  AvailableMemory available;
  MemoryEstimate memory;
  int64_t budget_bytes = 0;
  bool budget_is_default = false;
  int32_t max_sequence_tokens = 0;
  bool sequence_is_cut = false;  // below the context length because more does not fit
  KvGeometry geometry;           // with its numbers of blocks
  SchedulerOptions scheduler;
  StepLimits step;
};

// RESOURCE_EXHAUSTED or FAILED_PRECONDITION with the arithmetic where the budget does not hold one
// request of max_sequence_tokens or the memory does not hold the budget.
absl::StatusOr<CacheSize> SizeCache(const ServerConfig& config, const ModelFiles& files);

// Takes all memory and packs the weights: seconds to minutes. `files` outlives the executor.
absl::StatusOr<std::unique_ptr<ModelExecutor>> LoadModel(const ModelFiles& files,
                                                         const CacheSize& size,
                                                         const Progress& progress);

}  // namespace lorc
