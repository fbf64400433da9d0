#include "runtime/compress/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "runtime/model/local_sequences.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr int32_t kEighths = 8;
constexpr int32_t kRecallWindows = 16;
constexpr int32_t kRecallPassages = 8;
constexpr int32_t kRecallShift = 5;
constexpr int32_t kRecallSkip = 21;  // tokens of the second copy that are not counted

double MeanNll(std::span<const float> logprobs) {
  const double sum = std::accumulate(logprobs.begin(), logprobs.end(), 0.0);
  return -sum / static_cast<double>(logprobs.size());
}

std::vector<TokenId> RecallPassage(std::span<const TokenId> tokens, int32_t window,
                                   int32_t num_windows, int32_t i) {
  const int32_t copy = window * 320 / 1024;
  const int32_t gap_end = window * 704 / 1024;
  const auto first = tokens.subspan(int64_t{i} * window, window);
  const auto other = tokens.subspan(int64_t{(i + kRecallShift) % num_windows} * window, window);
  std::vector<TokenId> passage(first.begin(), first.begin() + copy);
  passage.insert(passage.end(), other.begin() + copy, other.begin() + gap_end);
  passage.insert(passage.end(), first.begin(), first.begin() + copy);
  return passage;
}

}  // namespace

absl::StatusOr<std::vector<float>> ScoreSequence(ModelExecutor& executor,
                                                 std::span<const TokenId> tokens) {
  LocalSequences sequences(executor.kv_geometry());
  const int sequence = sequences.Add();
  const auto length = static_cast<int32_t>(tokens.size());
  std::vector<float> logprobs(length);
  for (int32_t first = 0; first < length; first += executor.max_step_tokens()) {
    const int32_t count = std::min(executor.max_step_tokens(), length - first);
    LORC_ASSIGN_OR_RETURN(const SequenceWork work,
                          sequences.Prepare(sequence, tokens, length, first, count));
    LORC_RETURN_IF_ERROR(executor.Score(work, std::span(logprobs).subspan(first, count)));
    sequences.Finish(sequence, first + count);
  }
  logprobs.pop_back();
  return logprobs;
}

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
  const int32_t recall_windows = std::min(kRecallWindows, available);
  if (options.recall && recall_windows >= 2) {
    result.num_recall_passages = std::min(kRecallPassages, recall_windows / 2);
  }
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
  for (int32_t i = 0; i < result.num_recall_passages; ++i) {
    const auto passage = RecallPassage(tokens, window, recall_windows, i);
    LORC_ASSIGN_OR_RETURN(const std::vector<float> logprobs, ScoreSequence(executor, passage));
    const int32_t copy = window * 320 / 1024;
    const int64_t counted = std::max<int64_t>(1, copy - kRecallSkip);
    result.recall += MeanNll(std::span(logprobs).last(counted)) / result.num_recall_passages;
    step();
  }
  return result;
}

}  // namespace lorc
