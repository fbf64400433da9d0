// Text that the model writes itself, for calibration where no text is given.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/model/model_executor.h"
#include "runtime/tokenizer/tokenizer.h"

namespace lorc {

// Sequences that an executor for SampleWindows best has memory for.
inline constexpr int32_t kSampledAtOnce = 16;

struct SampleOptions {
  int32_t num_windows = 16;
  int32_t window = 1024;
  uint64_t seed = 0;
};

// Windows of `window` tokens, drawn at temperature 1 from the token that starts a text
// (<|endoftext|>, else bos, else eos); control tokens are never drawn. The executor's steps hold as
// many sequences as it likes; windows are written in batches of that many. Deterministic.
absl::StatusOr<std::vector<std::vector<TokenId>>> SampleWindows(ModelExecutor& executor,
                                                                const Tokenizer& tokenizer,
                                                                const SampleOptions& options,
                                                                const Progress& progress);

}  // namespace lorc
