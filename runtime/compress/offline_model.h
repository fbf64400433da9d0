// A model with memory for a few sequences, for work without a server.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "runtime/model/model_executor.h"

namespace lorc {

struct OfflineOptions {
  DType weight_type = DType::kBf16;
  int32_t max_sequence_tokens = 1024;
  int32_t num_sequences = 1;
  int32_t max_step_tokens = 512;
  int32_t block_tokens = 16;
};

// `plan` is checked (CheckPlan).
absl::StatusOr<std::unique_ptr<ModelExecutor>> MakeOfflineModel(Backend& backend,
                                                                const Checkpoint& checkpoint,
                                                                const KvPlan& plan,
                                                                const OfflineOptions& options,
                                                                const Progress& progress);

}  // namespace lorc
