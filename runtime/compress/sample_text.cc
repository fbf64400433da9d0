#include "runtime/compress/sample_text.h"

#include <algorithm>

#include "runtime/model/local_sequences.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

TokenId StartToken(const Tokenizer& tokenizer) {
  const TokenId end_of_text = tokenizer.Find("<|endoftext|>");
  if (end_of_text != kNoToken) return end_of_text;
  const Vocabulary& vocabulary = tokenizer.vocabulary();
  if (vocabulary.bos != kNoToken) return vocabulary.bos;
  return vocabulary.eos.empty() ? 0 : vocabulary.eos.front();
}

}  // namespace

absl::StatusOr<std::vector<std::vector<TokenId>>> SampleWindows(ModelExecutor& executor,
                                                                const Tokenizer& tokenizer,
                                                                const SampleOptions& options,
                                                                const Progress& progress) {
  SamplingParams sampling;
  sampling.temperature = 1.0f;
  sampling.min_tokens = options.window;
  const int32_t rows = executor.model().config().vocabulary_size;  // may be padded
  for (TokenId token = 0; token < rows; ++token) {
    if (token >= tokenizer.size() || tokenizer.IsControl(token)) {
      sampling.suppressed_tokens.push_back(token);
    }
  }
  std::vector<SamplingParams> sampling_of(options.num_windows, sampling);
  std::vector<std::vector<TokenId>> windows(options.num_windows, {StartToken(tokenizer)});
  for (int32_t i = 0; i < options.num_windows; ++i) sampling_of[i].seed = options.seed + i;

  const int32_t batch = std::min(executor.max_step_sequences(), options.num_windows);
  LocalSequences sequences(executor.kv_geometry());
  for (int32_t i = 0; i < batch; ++i) sequences.Add();
  std::vector<SequenceWork> work;
  std::vector<StepResult> results(batch);
  for (int32_t begin = 0; begin < options.num_windows; begin += batch) {
    const int32_t count = std::min(batch, options.num_windows - begin);
    for (int32_t position = 0; position + 1 < options.window; ++position) {
      work.clear();
      for (int32_t i = 0; i < count; ++i) {
        const auto& tokens = windows[begin + i];
        LORC_ASSIGN_OR_RETURN(const SequenceWork next, sequences.Prepare(i, tokens, 1, position, 1,
                                                                         &sampling_of[begin + i]));
        work.push_back(next);
      }
      LORC_RETURN_IF_ERROR(executor.Execute(work, std::span(results).first(count)));
      for (int32_t i = 0; i < count; ++i) {
        LORC_RETURN_IF_ERROR(results[i].status);
        windows[begin + i].push_back(results[i].token);
        sequences.Finish(i, position + 1);
      }
      if (progress) {
        progress((begin + count * static_cast<double>(position + 2) / options.window) /
                 options.num_windows);
      }
    }
    for (int32_t i = 0; i < count; ++i) sequences.Clear(i);
  }
  return windows;
}

}  // namespace lorc
