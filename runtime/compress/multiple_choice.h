// Multiple-choice questions, answered by log-likelihood.
//
// The tokens of a choice follow those of the question (each encoded by itself, so that all choices
// of a question follow the same tokens: a choice brings its own leading space), a beginning-of-text
// token first where the model wants one. A choice's score is the sum of its tokens'
// log-probabilities; the normalised score is that divided by the choice's bytes. The largest is
// picked, the first of equals.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/model/model_executor.h"
#include "runtime/tokenizer/tokenizer.h"

namespace lorc {

struct ChoiceQuestion {
  std::string source;  // file and line, for messages
  std::string question;
  std::vector<std::string> choices;  // at least two
  int32_t answer = 0;                // index into choices
};

// One object per line, {"question": text, "choices": [texts], "answer": index}; other members and
// empty lines are ignored. INVALID_ARGUMENT names file, line and field.
absl::StatusOr<std::vector<ChoiceQuestion>> ReadChoices(const std::string& path);

struct EncodedQuestion {
  std::vector<TokenId> question;
  std::vector<std::vector<TokenId>> choices;
  std::vector<int64_t> choice_bytes;
  int32_t answer = 0;

  int32_t longest_tokens() const;  // question and longest choice
};

// INVALID_ARGUMENT names the source of a question that has no tokens, or more than the model's
// context with its longest choice.
absl::StatusOr<std::vector<EncodedQuestion>> EncodeChoices(
    const std::vector<ChoiceQuestion>& questions, const Tokenizer& tokenizer,
    int32_t context_length);

struct ChoiceScores {
  std::vector<std::vector<double>> scores;  // [questions][choices], nats
  std::vector<int32_t> picked;              // [questions], by score
  std::vector<int32_t> picked_normalised;   // [questions], by score per byte
  std::vector<int32_t> answers;             // [questions]
};

// The executor holds one sequence of the longest question.
absl::StatusOr<ChoiceScores> ScoreChoices(ModelExecutor& executor,
                                          const std::vector<EncodedQuestion>& questions,
                                          const Progress& progress);

}  // namespace lorc
