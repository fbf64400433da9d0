#include "runtime/weights/vocabulary_checks.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/weights/printable.h"

namespace lorc {

absl::StatusOr<std::pair<std::string, std::string>> SplitMerge(std::string_view merge) {
  const size_t space = merge.find(' ');
  if (space == 0 || space == std::string_view::npos || space + 1 == merge.size() ||
      merge.find(' ', space + 1) != std::string_view::npos)
    return absl::InvalidArgumentError(
        absl::StrCat("merge ", Printable(merge), " is not two parts with one space between"));
  return std::pair(std::string(merge.substr(0, space)), std::string(merge.substr(space + 1)));
}

void AddEos(TokenId token, Vocabulary* vocabulary) {
  if (std::ranges::find(vocabulary->eos, token) == vocabulary->eos.end())
    vocabulary->eos.push_back(token);
}

absl::Status ValidateVocabulary(const Vocabulary& vocabulary, int32_t embedding_rows,
                                const std::string& source) {
  const auto refuse = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(Printable(source), ": ", what));
  };
  const auto size = static_cast<int64_t>(vocabulary.tokens.size());
  if (size == 0) return refuse("the tokenizer has no tokens");
  if (size > embedding_rows)
    return refuse(absl::StrCat("the tokenizer has ids up to ", size - 1, ", the embedding only ",
                               embedding_rows, " rows; tokenizer and weights are of two models"));
  const auto names_token = [&](TokenId id) { return id >= 0 && id < size; };
  if (vocabulary.bos != kNoToken && !names_token(vocabulary.bos))
    return refuse(
        absl::StrCat("the bos token ", vocabulary.bos, " is none of the ", size, " tokens"));
  for (const TokenId id : vocabulary.eos)
    if (!names_token(id))
      return refuse(absl::StrCat("the eos token ", id, " is none of the ", size, " tokens"));
  if (vocabulary.add_bos && vocabulary.bos == kNoToken)
    return refuse("a bos token is to be added, but none is named");
  if (vocabulary.chat_template.size() > kMaxChatTemplateBytes)
    return refuse(absl::StrCat("the chat template has ", vocabulary.chat_template.size(),
                               " bytes; at most ", kMaxChatTemplateBytes, " are supported"));
  return absl::OkStatus();
}

}  // namespace lorc
