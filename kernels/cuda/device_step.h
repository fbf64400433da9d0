// A step's sequences as kernels see them: plain pointers to device memory, the same for all layers.
#pragma once

#include <cstdint>

#include "kernels/ops/kv_cache.h"

namespace lorc {

// Where a sequence's block tables begin in DeviceStep::tables; 0 for one that it lacks.
struct SequenceTables {
  int32_t latent = 0;
  int32_t exact = 0;
};

struct DeviceStep {
  int32_t num_sequences = 0;
  int32_t num_rows = 0;  // T
  // [num_sequences], in the order of StepArgs::sequences; their block tables lie in device memory
  // too, Blocks(first + count) entries each.
  const SequenceSpan* sequences = nullptr;
  const int32_t* row_sequence = nullptr;  // [T], index of each row's sequence
  const int32_t* row_position = nullptr;  // [T]
  const int32_t* tables = nullptr;        // all block tables
};

}  // namespace lorc
