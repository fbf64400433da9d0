// Cuts a template into tokens as Jinja 3.1 does with trim_blocks and lstrip_blocks on, the way
// transformers sets it up: a newline after a block tag or comment is dropped, and so is the space
// before one that begins its line; "-" in a tag strips all space on that side, "+" keeps it. Line
// ends become \n, and one at the very end is dropped.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "service/chat_template/token.h"

namespace lorc::jinja {

// INVALID_ARGUMENT for what is no template, UNIMPLEMENTED for a construct this reader lacks; both
// name the line. The last token is kEnd.
absl::StatusOr<std::vector<Token>> Tokenize(const std::string& source);

}  // namespace lorc::jinja
