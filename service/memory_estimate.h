// What a model will take in memory before it is loaded, and the cache budget that this leaves.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "runtime/kv/kv_layout.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/model/model_executor.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

struct MemoryEstimate {
  int64_t weights = 0;      // matrices in their type, norms, bases, RoPE tables
  int64_t activations = 0;  // of the largest step
  int64_t workspace = 0;    // scratch of the kernels, exact

  int64_t total() const { return weights + activations + workspace; }
};

// Within a few percent. Reserves scratch memory on the backend, which loading will do anew.
absl::StatusOr<MemoryEstimate> EstimateMemory(Backend& backend, const Checkpoint& checkpoint,
                                              const KvPlan& plan, const KvLayout& layout,
                                              const ExecutorOptions& options);

// Not given to the cache by default: the larger of 512 MiB and a sixteenth of what is available.
int64_t MemoryMargin(int64_t available_bytes);

// The budget where none is configured: what is left of `available_bytes` after the estimate and the
// margin; not more than max_running requests of max_sequence_tokens can use, nor, unless the memory
// is a `device`'s own, than the larger of 4 GiB and one such request. 0 where nothing is left.
int64_t DefaultKvBudget(int64_t available_bytes, bool device, const MemoryEstimate& memory,
                        const KvGeometry& geometry, int64_t max_sequence_tokens,
                        int64_t max_step_tokens, int64_t max_running);

}  // namespace lorc
