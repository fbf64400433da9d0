// Reads a template.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "service/chat_template/ast.h"

namespace lorc::jinja {

// INVALID_ARGUMENT for what Jinja would not take or what is beyond limits.h; UNIMPLEMENTED, naming
// construct and line, for what Jinja has and this interpreter lacks.
absl::StatusOr<Block> ParseTemplate(const std::string& source);

}  // namespace lorc::jinja
