// Perplexity and recall of a model under a plan.
//
// Perplexity: the text's tokens, cut into windows of `window` tokens without overlap; the negative
// log-likelihood (natural) of tokens 2..window of each, mean over all; perplexity is its
// exponential.
//
// Recall, what the far cache still knows: from the first n windows w (16, or as many as there are),
//   w_i[0:p] + w_(i+5 mod n)[p:q] + w_i[0:p],   p = 320/1024, q = 704/1024 of the window,   i <
//   min(8, n/2)
// and the mean negative log-likelihood of the second copy's tokens from its 22nd on. (Our
// definition.)
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/model/model_executor.h"

namespace lorc {

struct EvaluationOptions {
  int32_t window = 1024;
  int32_t max_windows = 0;  // 0: all
  bool recall = true;
};

struct Evaluation {
  int32_t num_windows = 0;
  double nll = 0;  // nats per token
  double perplexity = 0;
  std::vector<double> window_nll;    // per window
  std::vector<double> position_nll;  // mean over windows, by eighths of the window
  int32_t num_recall_passages = 0;   // 0: not measured (fewer than two windows)
  double recall = 0;                 // nats
};

// INVALID_ARGUMENT where the text is shorter than one window. The executor holds one sequence of a
// window.
absl::StatusOr<Evaluation> Evaluate(ModelExecutor& executor, std::span<const TokenId> tokens,
                                    const EvaluationOptions& options, const Progress& progress);

// Log-probabilities of tokens[1..] given those before them, computed in chunks.
absl::StatusOr<std::vector<float>> ScoreSequence(ModelExecutor& executor,
                                                 std::span<const TokenId> tokens);

}  // namespace lorc
