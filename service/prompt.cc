#include "service/prompt.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/weights/status_macros.h"
#include "service/chat_template/chat_template.h"
#include "service/rpc_status.h"

namespace lorc {
namespace {

// Each token has at most so many bytes of the text.
absl::Status CheckLength(const std::string& field, size_t bytes, const ModelFiles& files,
                         int64_t max_tokens) {
  const auto most = static_cast<int64_t>(files.longest_token_bytes) * max_tokens;
  if (static_cast<int64_t>(bytes) <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " has ", bytes,
                                                 " bytes, which are more than the ", max_tokens,
                                                 " tokens that a request may have"));
}

bool IsKnownRole(const std::string& role) {
  return role == "system" || role == "user" || role == "assistant";
}

}  // namespace

absl::StatusOr<std::vector<TokenId>> PromptFromText(const std::string& text, bool parse_special,
                                                    const ModelFiles& files, int64_t max_tokens) {
  LORC_RETURN_IF_ERROR(CheckLength("text", text.size(), files, max_tokens));
  std::vector<TokenId> ids = files.tokenizer->Encode(text, parse_special);
  const Vocabulary& vocabulary = files.tokenizer->vocabulary();
  if (vocabulary.add_bos && vocabulary.bos != kNoToken &&
      (ids.empty() || ids.front() != vocabulary.bos)) {
    ids.insert(ids.begin(), vocabulary.bos);
  }
  return ids;
}

absl::StatusOr<std::vector<TokenId>> PromptFromChat(const v1::ChatMessages& chat,
                                                    const ModelFiles& files, int64_t max_tokens) {
  if (!files.chat_template) {
    return absl::FailedPreconditionError(
        absl::StrCat("chat input is not possible: ", files.no_chat_reason, "; send text"));
  }
  if (chat.messages().empty()) {
    return absl::InvalidArgumentError("chat.messages is empty, expected at least one message");
  }
  std::vector<ChatMessage> messages;
  size_t bytes = 0;
  for (int i = 0; i < chat.messages_size(); ++i) {
    const v1::ChatMessage& message = chat.messages(i);
    if (!IsKnownRole(message.role())) {
      return FieldError(absl::StrCat("chat.messages[", i, "].role"),
                        absl::StrCat("\"", message.role().substr(0, 64), "\""),
                        "system, user or assistant");
    }
    bytes += message.content().size();
    messages.push_back({message.role(), message.content()});
  }
  LORC_RETURN_IF_ERROR(CheckLength("chat", bytes, files, max_tokens));
  auto rendered = files.chat_template->Render(messages, /*add_generation_prompt=*/true);
  if (!rendered.ok()) {
    return absl::Status(rendered.status().code(),
                        absl::StrCat("chat: ", rendered.status().message()));
  }
  LORC_RETURN_IF_ERROR(CheckLength("the rendered chat", rendered->size(), files, max_tokens));
  return files.tokenizer->Encode(*rendered, /*parse_special=*/true);
}

absl::StatusOr<std::vector<TokenId>> PromptFromIds(
    const google::protobuf::RepeatedField<uint32_t>& ids, const std::string& field,
    const ModelFiles& files) {
  const auto vocabulary_size = static_cast<uint32_t>(files.config().vocabulary_size);
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] < vocabulary_size) continue;
    return FieldError(absl::StrCat(field, "[", i, "]"), absl::StrCat(ids[i]),
                      absl::StrCat("0..", vocabulary_size - 1, ", the model's vocabulary"));
  }
  return std::vector<TokenId>(ids.begin(), ids.end());
}

}  // namespace lorc
