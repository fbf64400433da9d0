// The text that a plan is made from: read or written by the model, cut into windows, divided into
// what calibrates and what measures.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/model/model_executor.h"

namespace lorc {

using TokenWindows = std::vector<std::vector<TokenId>>;

// Reads a text file for calibration or evaluation. INVALID_ARGUMENT where it is empty or not UTF-8.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

// Whole windows of `window` tokens, without overlap; a rest is dropped.
TokenWindows CutWindows(const std::vector<TokenId>& tokens, int32_t window);

struct SplitText {
  TokenWindows calibration;
  std::vector<TokenId> measuring;  // whole windows, one after the other
};

// Windows for calibration are spread evenly over the text; of the others the first are for
// measuring. A quarter of the text at least is kept for measuring. FAILED_PRECONDITION where there
// are less than two windows (of `window` tokens, for the message).
absl::StatusOr<SplitText> SplitWindows(const TokenWindows& windows, int32_t window,
                                       int32_t calibration_windows, int32_t measure_windows);

}  // namespace lorc
