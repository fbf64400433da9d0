#include "runtime/compress/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "runtime/compress/offline_model.h"
#include "runtime/compress/recall.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr int32_t kEighths = 8;

}  // namespace

absl::StatusOr<Evaluation> Evaluate(ModelExecutor& executor, std::span<const TokenId> tokens,
                                    const EvaluationOptions& options, const Progress& progress) {
  const int32_t window = options.window;
  if (window < 2) {
    return absl::InvalidArgumentError(absl::StrCat("window: expected at least 2, got ", window));
  }
  const auto available = static_cast<int32_t>(std::ssize(tokens) / window);
  if (available == 0) {
    return absl::InvalidArgumentError(absl::StrCat("the text has ", tokens.size(),
                                                   " tokens, fewer than one window of ", window,
                                                   "; give a longer text or a smaller --window"));
  }
  Evaluation result;
  result.num_windows =
      options.max_windows > 0 ? std::min(options.max_windows, available) : available;
  std::vector<std::vector<TokenId>> passages;
  if (options.recall) passages = RecallSequences(tokens, window);
  result.num_recall_passages = static_cast<int32_t>(passages.size());
  const int32_t total = result.num_windows + result.num_recall_passages;
  int32_t done = 0;
  const auto step = [&] {
    if (progress) progress(static_cast<double>(++done) / total);
  };
  std::vector<double> eighth_sums(kEighths, 0.0);
  std::vector<int64_t> eighth_counts(kEighths, 0);
  for (int32_t i = 0; i < result.num_windows; ++i) {
    LORC_ASSIGN_OR_RETURN(const std::vector<float> logprobs,
                          ScoreSequence(executor, tokens.subspan(int64_t{i} * window, window)));
    result.window_nll.push_back(MeanNll(logprobs));
    for (int64_t t = 0; t < std::ssize(logprobs); ++t) {
      const int64_t eighth = t * kEighths / std::ssize(logprobs);
      eighth_sums[eighth] -= logprobs[t];
      ++eighth_counts[eighth];
    }
    step();
  }
  for (int32_t e = 0; e < kEighths; ++e) {
    result.position_nll.push_back(
        eighth_counts[e] == 0 ? 0.0 : eighth_sums[e] / static_cast<double>(eighth_counts[e]));
  }
  result.nll =
      std::accumulate(result.window_nll.begin(), result.window_nll.end(), 0.0) / result.num_windows;
  result.perplexity = std::exp(result.nll);
  for (const auto& passage : passages) {
    LORC_ASSIGN_OR_RETURN(const double nll,
                          CopyNll(executor, passage, RecallPassageTokens(window)));
    result.passage_nll.push_back(nll);
    result.recall += nll / result.num_recall_passages;
    step();
  }
  return result;
}

absl::StatusOr<Evaluation> EvaluatePlan(Backend& backend, const Checkpoint& checkpoint,
                                        const KvPlan& plan, DType weight_type,
                                        std::span<const TokenId> tokens,
                                        const EvaluationOptions& options,
                                        const Progress& progress) {
  OfflineOptions offline;
  offline.weight_type = weight_type;
  offline.max_sequence_tokens = options.window;
  LORC_ASSIGN_OR_RETURN(const auto model,
                        MakeOfflineModel(backend, checkpoint, plan, offline, nullptr));
  return Evaluate(*model, tokens, options, progress);
}

}  // namespace lorc
