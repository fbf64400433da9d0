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

// Windows of texts one after the other, each without its first token, which starts a text.
TokenWindows JoinTexts(const TokenWindows& texts, int32_t window);

// How many windows of `window` tokens take the place of `count`: windows of up to 1,024 tokens
// count as one, longer ones for as many as they hold of 1,024 (rounded so that no token is lost;
// two at least take the place of more than one).
int32_t WindowsInPlaceOf(int32_t count, int32_t window);

// The longest window of 4,096, 2,048 and 1,024 tokens, within the model's context, that a text of
// so many tokens has what calibrates (WindowsInPlaceOf) and two more of; 1,024, or the context
// where that is less, if it has not.
int32_t LongestWindow(int64_t text_tokens, int32_t calibration_windows, int32_t context_length);

// Windows whose last 5/16 say their first 5/16 again, as a far passage that is looked up: gradients
// then tell what such a look-up reads, of which other text has little.
TokenWindows RepeatBeginnings(TokenWindows windows);

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
