// Does a plan generate what the uncompressed model generates?
//
// The uncompressed model continues prompts greedily (end tokens are tokens like others). Along each
// continuation the measured model says what it would have chosen next, given the same tokens before
// (teacher forced), computed as generated positions are. One pass gives three figures: up to the
// first token that differs, the model's own greedy continuation is the same text, so
//   common prefix: tokens before the first that differs, mean over the continuations,
//   identical:     share of continuations without a difference: those that the model itself
//                  would generate,
//   same choice:   share of all tokens chosen alike, which a single early difference does not hide.
// The uncompressed model agrees with itself: no result depends on how positions are chunked.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/model/model_executor.h"

namespace lorc {

struct AgreementOptions {
  int32_t num_tokens = 0;  // of a continuation; 0: not measured
  int32_t window = 1024;
  int32_t max_windows = 0;  // 0: all

  int32_t prompt_tokens() const { return window / 2; }
};

// INVALID_ARGUMENT says how many tokens fit the model's context after a prompt.
absl::Status CheckAgreement(const AgreementOptions& options, int32_t context_length);

// The first halves of the text's first windows, 16 at most.
std::vector<std::vector<TokenId>> AgreementPrompts(std::span<const TokenId> tokens,
                                                   const AgreementOptions& options);

struct Continuation {
  std::vector<TokenId> tokens;  // prompt, then what was generated
  int32_t num_prompt_tokens = 0;
};

// Greedy. The executor holds one sequence of prompt and continuation; prompts are not empty.
absl::StatusOr<std::vector<Continuation>> ContinueGreedily(
    ModelExecutor& executor, const std::vector<std::vector<TokenId>>& prompts, int32_t num_tokens,
    const Progress& progress);

struct Agreement {
  int32_t num_tokens = 0;              // of each continuation
  std::vector<int32_t> common_prefix;  // per continuation
  std::vector<int32_t> same_choice;    // per continuation, tokens
  double identical = 0;                // shares, 0..1
  double same_choice_share = 0;
  double mean_common_prefix = 0;  // tokens
};

// Continuations of equal lengths, at least one.
absl::StatusOr<Agreement> MeasureAgreement(ModelExecutor& executor,
                                           const std::vector<Continuation>& continuations,
                                           const Progress& progress);

}  // namespace lorc
