// What tokenizer.json's post-processor puts around every text.
#pragma once

#include <string>
#include <nlohmann/json_fwd.hpp>

#include "absl/status/statusor.h"

namespace lorc {

// The text of the one token that is put in front, empty where none is. `post_processor`: that
// member of tokenizer.json, or null. Anything else that is added is UNIMPLEMENTED.
absl::StatusOr<std::string> LeadingToken(const nlohmann::json& post_processor,
                                         const std::string& source);

}  // namespace lorc
