// What a running model thinks of a given text, token by token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/model/model_executor.h"

namespace lorc {

// Log-probabilities (natural) of tokens[1..] given those before them. The first num_prompt_tokens
// are computed as a server computes a prompt, those after them as it computes its answer: two forms
// that differ by rounding (ARCHITECTURE.md, "Determinism"), so that a request's log-probabilities
// are those of its prompt and answer scored here. The executor has memory for one such sequence;
// 1 <= num_prompt_tokens <= tokens.size().
absl::StatusOr<std::vector<float>> ScoreSequence(ModelExecutor& executor,
                                                 std::span<const TokenId> tokens,
                                                 int32_t num_prompt_tokens);

// The same, all of it a prompt.
absl::StatusOr<std::vector<float>> ScoreSequence(ModelExecutor& executor,
                                                 std::span<const TokenId> tokens);

// What greedy choice would have taken instead of each of tokens[1..], given those before it.
absl::StatusOr<std::vector<TokenId>> BestTokens(ModelExecutor& executor,
                                                std::span<const TokenId> tokens,
                                                int32_t num_prompt_tokens);

// Mean negative log-likelihood; `logprobs` is not empty.
double MeanNll(std::span<const float> logprobs);

}  // namespace lorc
