// Reads one word inside a tag.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "service/chat_template/token.h"

namespace lorc::jinja {

// Reads the token at text[position], which exists and is no space. `token->line` is given; sets the
// rest and `size`, the bytes it takes, at least 1. Errors as Tokenize.
absl::Status ReadToken(std::string_view text, size_t position, Token* token, size_t* size);

}  // namespace lorc::jinja
