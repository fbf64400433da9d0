// The small ops of a LLaMA layer. Rows are independent, results do not depend on the batch.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/matrix.h"

namespace lorc {

// out[t] = table[tokens[t]], dequantised. `tokens` are in the program's memory.
struct EmbedArgs {
  const Matrix* table = nullptr;    // [V, D]
  int64_t num_tokens = 0;           // T
  const int32_t* tokens = nullptr;  // [T], each in [0, V)
  float* out = nullptr;             // [T, D]
};

// out = x / sqrt(mean(x^2) + epsilon) * gain, the mean over a row. `rows` are in the program's
// memory.
struct RmsNormArgs {
  int64_t num_rows = 0;           // T
  int64_t width = 0;              // D
  const float* x = nullptr;       // [T, D]
  const int32_t* rows = nullptr;  // may be nullptr; else out[t] comes from x[rows[t]]
  const float* gain = nullptr;    // [D]
  float epsilon = 0;
  void* out = nullptr;           // [T, D]
  DType out_type = DType::kF32;  // f32 or bf16
};

// Per row of logits: the largest, where it is (the first one), and ln sum_v exp(logits[t, v]). A
// row with a value that is not finite gets a log_sum_exp that is not finite. The results are in the
// program's memory and there when the op returns.
struct RowStatsArgs {
  int64_t num_rows = 0;           // T
  int64_t width = 0;              // V
  const float* logits = nullptr;  // [T, V], rows `stride` apart
  int64_t stride = 0;
  int32_t* argmax = nullptr;     // [T]
  float* max = nullptr;          // [T]
  float* log_sum_exp = nullptr;  // [T]
};

// Unnormalised probabilities in place: x = exp((x - max[t]) * scale[t]), and the sums of each
// kWeightBlock of them, which sampling searches first. A row whose `scale` is 0 is left alone. All
// of it is in the program's memory.
inline constexpr int64_t kWeightBlock = 256;

struct WeightsArgs {
  int64_t num_rows = 0;  // T
  int64_t width = 0;     // V
  float* x = nullptr;    // [T, V], rows `stride` apart
  int64_t stride = 0;
  const float* max = nullptr;    // [T], at least the row's largest
  const float* scale = nullptr;  // [T], >= 0
  float* block_sums = nullptr;   // [T, ceil(V / kWeightBlock)]
};

}  // namespace lorc
