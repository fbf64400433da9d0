#include "runtime/compress/score_sequence.h"

#include <algorithm>
#include <numeric>

#include "kernels/base/check.h"
#include "runtime/model/local_sequences.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

// `best` may be empty; else it is as long as `logprobs`, [tokens.size()], of which the last says
// nothing of the text.
absl::Status Score(ModelExecutor& executor, std::span<const TokenId> tokens,
                   int32_t num_prompt_tokens, std::span<float> logprobs, std::span<TokenId> best) {
  LORC_CHECK(!tokens.empty());
  LocalSequences sequences(executor.kv_geometry());
  const int sequence = sequences.Add();
  const auto length = static_cast<int32_t>(tokens.size());
  for (int32_t first = 0; first < length; first += executor.max_step_tokens()) {
    const int32_t count = std::min(executor.max_step_tokens(), length - first);
    LORC_ASSIGN_OR_RETURN(const SequenceWork work,
                          sequences.Prepare(sequence, tokens, num_prompt_tokens, first, count));
    LORC_RETURN_IF_ERROR(
        executor.Score(work, logprobs.subspan(first, count),
                       best.empty() ? std::span<TokenId>() : best.subspan(first, count)));
    sequences.Finish(sequence, first + count);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<float>> ScoreSequence(ModelExecutor& executor,
                                                 std::span<const TokenId> tokens,
                                                 int32_t num_prompt_tokens) {
  std::vector<float> logprobs(tokens.size());
  LORC_RETURN_IF_ERROR(Score(executor, tokens, num_prompt_tokens, logprobs, {}));
  logprobs.pop_back();
  return logprobs;
}

absl::StatusOr<std::vector<float>> ScoreSequence(ModelExecutor& executor,
                                                 std::span<const TokenId> tokens) {
  return ScoreSequence(executor, tokens, static_cast<int32_t>(tokens.size()));
}

absl::StatusOr<std::vector<TokenId>> BestTokens(ModelExecutor& executor,
                                                std::span<const TokenId> tokens,
                                                int32_t num_prompt_tokens) {
  std::vector<float> logprobs(tokens.size());
  std::vector<TokenId> best(tokens.size());
  LORC_RETURN_IF_ERROR(Score(executor, tokens, num_prompt_tokens, logprobs, best));
  best.pop_back();
  return best;
}

double MeanNll(std::span<const float> logprobs) {
  const double sum = std::accumulate(logprobs.begin(), logprobs.end(), 0.0);
  return -sum / static_cast<double>(logprobs.size());
}

}  // namespace lorc
