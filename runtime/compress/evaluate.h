// Perplexity and recall of a model under a plan.
//
// Perplexity: the text's tokens, cut into windows of `window` tokens without overlap; the negative
// log-likelihood (natural) of tokens 2..window of each, mean over all; perplexity is its
// exponential. Recall: runtime/compress/recall.h.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "runtime/compress/score_sequence.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/model/model_executor.h"
#include "runtime/weights/checkpoint.h"

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
  std::vector<double> passage_nll;   // per passage of the recall
};

// INVALID_ARGUMENT where the text is shorter than one window. The executor holds one sequence of a
// window.
absl::StatusOr<Evaluation> Evaluate(ModelExecutor& executor, std::span<const TokenId> tokens,
                                    const EvaluationOptions& options, const Progress& progress);

// The same under a plan, by a model that is made for it (MakeOfflineModel) and gone afterwards.
absl::StatusOr<Evaluation> EvaluatePlan(Backend& backend, const Checkpoint& checkpoint,
                                        const KvPlan& plan, DType weight_type,
                                        std::span<const TokenId> tokens,
                                        const EvaluationOptions& options, const Progress& progress);

}  // namespace lorc
