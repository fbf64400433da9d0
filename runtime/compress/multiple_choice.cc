#include "runtime/compress/multiple_choice.h"

#include <algorithm>
#include <numeric>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "runtime/compress/compress.h"
#include "runtime/compress/score_sequence.h"
#include "runtime/weights/json_fields.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

absl::StatusOr<ChoiceQuestion> ParseQuestion(std::string_view line, const std::string& source) {
  nlohmann::json object;
  LORC_RETURN_IF_ERROR(ParseJsonObject(line, source, &object));
  const JsonFields fields(object, source);
  ChoiceQuestion question;
  question.source = source;
  LORC_ASSIGN_OR_RETURN(question.question, fields.String("question", ""));
  if (question.question.empty()) return fields.Invalid("question is missing or empty");
  const nlohmann::json* choices = fields.Find("choices");
  if (choices == nullptr || !choices->is_array() || choices->size() < 2) {
    return fields.Invalid("choices is not a list of two texts or more");
  }
  for (const nlohmann::json& choice : *choices) {
    if (!choice.is_string() || choice.get_ref<const std::string&>().empty()) {
      return fields.Invalid(absl::StrCat("choices: number ", question.choices.size(),
                                         ", counted from 0, is not a text, or empty"));
    }
    question.choices.push_back(choice.get<std::string>());
  }
  LORC_ASSIGN_OR_RETURN(
      question.answer,
      fields.Integer("answer", 0, static_cast<int32_t>(question.choices.size()) - 1));
  return question;
}

int32_t Largest(const std::vector<double>& scores) {
  return static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

}  // namespace

absl::StatusOr<std::vector<ChoiceQuestion>> ReadChoices(const std::string& path) {
  LORC_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  std::vector<ChoiceQuestion> questions;
  int64_t line_number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    LORC_ASSIGN_OR_RETURN(
        ChoiceQuestion question,
        ParseQuestion({line.data(), line.size()}, absl::StrCat(path, ", line ", line_number)));
    questions.push_back(std::move(question));
  }
  if (questions.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, R"(: expected one {"question", "choices", "answer"} per line, the file has none)"));
  }
  return questions;
}

int32_t EncodedQuestion::longest_tokens() const {
  size_t longest = 0;
  for (const auto& choice : choices) longest = std::max(longest, choice.size());
  return static_cast<int32_t>(question.size() + longest);
}

absl::StatusOr<std::vector<EncodedQuestion>> EncodeChoices(
    const std::vector<ChoiceQuestion>& questions, const Tokenizer& tokenizer,
    int32_t context_length) {
  const Vocabulary& vocabulary = tokenizer.vocabulary();
  std::vector<EncodedQuestion> encoded;
  for (const ChoiceQuestion& question : questions) {
    EncodedQuestion& one = encoded.emplace_back();
    one.answer = question.answer;
    if (vocabulary.add_bos) one.question.push_back(vocabulary.bos);
    const auto tokens = tokenizer.Encode(question.question, /*parse_special=*/false);
    one.question.insert(one.question.end(), tokens.begin(), tokens.end());
    bool empty = one.question.empty();
    for (const std::string& choice : question.choices) {
      one.choices.push_back(tokenizer.Encode(choice, /*parse_special=*/false));
      one.choice_bytes.push_back(std::ssize(choice));
      empty = empty || one.choices.back().empty();
    }
    if (empty) {
      return absl::InvalidArgumentError(absl::StrCat(
          question.source, ": the model has no tokens for the question or one of its choices"));
    }
    if (one.longest_tokens() > context_length) {
      return absl::InvalidArgumentError(absl::StrCat(
          question.source, ": expected at most ", context_length,
          " tokens, the model's context, got ", one.longest_tokens(), " with the longest choice"));
    }
  }
  return encoded;
}

absl::StatusOr<ChoiceScores> ScoreChoices(ModelExecutor& executor,
                                          const std::vector<EncodedQuestion>& questions,
                                          const Progress& progress) {
  ChoiceScores result;
  for (const EncodedQuestion& question : questions) {
    std::vector<double>& scores = result.scores.emplace_back();
    std::vector<double> normalised;
    for (size_t i = 0; i < question.choices.size(); ++i) {
      std::vector<TokenId> tokens = question.question;
      tokens.insert(tokens.end(), question.choices[i].begin(), question.choices[i].end());
      LORC_ASSIGN_OR_RETURN(const std::vector<float> logprobs, ScoreSequence(executor, tokens));
      scores.push_back(
          std::accumulate(logprobs.end() - std::ssize(question.choices[i]), logprobs.end(), 0.0));
      normalised.push_back(scores.back() / static_cast<double>(question.choice_bytes[i]));
    }
    result.picked.push_back(Largest(scores));
    result.picked_normalised.push_back(Largest(normalised));
    result.answers.push_back(question.answer);
    if (progress) {
      progress(static_cast<double>(result.scores.size()) / static_cast<double>(questions.size()));
    }
  }
  return result;
}

}  // namespace lorc
