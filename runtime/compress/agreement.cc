#include "runtime/compress/agreement.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "runtime/compress/score_sequence.h"
#include "runtime/model/local_sequences.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr int64_t kMaxPrompts = 16;

}  // namespace

absl::Status CheckAgreement(const AgreementOptions& options, int32_t context_length) {
  const int32_t most = context_length - options.prompt_tokens();
  if (options.num_tokens >= 0 && options.num_tokens <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--agreement: expected 0 to ", most, " tokens, a context of ", context_length,
      " less a prompt of ", options.prompt_tokens(), " (half a window), got ", options.num_tokens));
}

std::vector<std::vector<TokenId>> AgreementPrompts(std::span<const TokenId> tokens,
                                                   const AgreementOptions& options) {
  int64_t count = std::min(kMaxPrompts, std::ssize(tokens) / options.window);
  if (options.max_windows > 0) count = std::min<int64_t>(count, options.max_windows);
  std::vector<std::vector<TokenId>> prompts;
  for (int64_t i = 0; i < count; ++i) {
    const auto prompt = tokens.subspan(i * options.window, options.prompt_tokens());
    prompts.emplace_back(prompt.begin(), prompt.end());
  }
  return prompts;
}

absl::StatusOr<std::vector<Continuation>> ContinueGreedily(
    ModelExecutor& executor, const std::vector<std::vector<TokenId>>& prompts, int32_t num_tokens,
    const Progress& progress) {
  const SamplingParams greedy;
  LocalSequences sequences(executor.kv_geometry());
  const int sequence = sequences.Add();
  std::vector<Continuation> continuations;
  const double total = static_cast<double>(prompts.size()) * num_tokens;
  for (const auto& prompt : prompts) {
    Continuation& continuation = continuations.emplace_back();
    std::vector<TokenId>& tokens = continuation.tokens;
    tokens = prompt;
    continuation.num_prompt_tokens = static_cast<int32_t>(prompt.size());
    const int32_t end = continuation.num_prompt_tokens + num_tokens;
    for (int32_t computed = 0; std::ssize(tokens) < end;) {
      const auto known = static_cast<int32_t>(tokens.size());
      const int32_t count = std::min(executor.max_step_tokens(), known - computed);
      const bool last = computed + count == known;
      LORC_ASSIGN_OR_RETURN(const SequenceWork work,
                            sequences.Prepare(sequence, tokens, continuation.num_prompt_tokens,
                                              computed, count, last ? &greedy : nullptr));
      StepResult result;
      LORC_RETURN_IF_ERROR(executor.Execute({&work, 1}, {&result, 1}));
      LORC_RETURN_IF_ERROR(result.status);
      computed += count;
      sequences.Finish(sequence, computed);
      if (!last) continue;
      tokens.push_back(result.token);
      if (progress) {
        const auto before = static_cast<double>(continuations.size() - 1) * num_tokens;
        progress((before + known + 1 - continuation.num_prompt_tokens) / total);
      }
    }
    sequences.Clear(sequence);
  }
  return continuations;
}

absl::StatusOr<Agreement> MeasureAgreement(ModelExecutor& executor,
                                           const std::vector<Continuation>& continuations,
                                           const Progress& progress) {
  LORC_CHECK(!continuations.empty());
  Agreement result;
  const auto count = static_cast<double>(continuations.size());
  for (const Continuation& continuation : continuations) {
    const auto length =
        static_cast<int32_t>(continuation.tokens.size()) - continuation.num_prompt_tokens;
    LORC_CHECK(length > 0 && (result.num_tokens == 0 || result.num_tokens == length));
    result.num_tokens = length;
    LORC_ASSIGN_OR_RETURN(
        const std::vector<TokenId> best,
        BestTokens(executor, continuation.tokens, continuation.num_prompt_tokens));
    const auto chosen = std::span(best).last(length);
    const auto expected = std::span(continuation.tokens).last(length);
    int32_t same = 0;
    for (int32_t i = 0; i < length; ++i) same += chosen[i] == expected[i] ? 1 : 0;
    const auto prefix = static_cast<int32_t>(
        std::mismatch(chosen.begin(), chosen.end(), expected.begin()).first - chosen.begin());
    result.common_prefix.push_back(prefix);
    result.same_choice.push_back(same);
    result.identical += (same == length ? 1 : 0) / count;
    result.same_choice_share += same / (count * length);
    result.mean_common_prefix += prefix / count;
    if (progress) progress(static_cast<double>(result.same_choice.size()) / count);
  }
  return result;
}

}  // namespace lorc
