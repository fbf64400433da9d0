// A request's input as token ids.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lorc/v1/generation.pb.h"
#include "runtime/tokenizer/tokenizer.h"
#include "service/model_host.h"

namespace lorc {

// INVALID_ARGUMENT names the field; FAILED_PRECONDITION where a chat is given and the model has no
// template. `max_tokens`: what is certain to be longer is refused before it is tokenised.

// A beginning-of-text token comes first where the model wants one and the text does not have it.
absl::StatusOr<std::vector<TokenId>> PromptFromText(const std::string& text, bool parse_special,
                                                    const ModelFiles& files, int64_t max_tokens);

absl::StatusOr<std::vector<TokenId>> PromptFromChat(const v1::ChatMessages& chat,
                                                    const ModelFiles& files, int64_t max_tokens);

// `field` names the ids in errors.
absl::StatusOr<std::vector<TokenId>> PromptFromIds(
    const google::protobuf::RepeatedField<uint32_t>& ids, const std::string& field,
    const ModelFiles& files);

}  // namespace lorc
