// Names for the pre-tokenizers that tokenizer.json describes.
#pragma once

#include <string>
#include <nlohmann/json_fwd.hpp>

#include "absl/status/statusor.h"

namespace lorc {

// `pre_tokenizer`: that member of tokenizer.json. Returns its name in the table of pre-tokenizers
// ("gpt2", "smollm", "llama3"). Another one is UNIMPLEMENTED, with its parts or its pattern.
absl::StatusOr<std::string> PreTokenizerName(const nlohmann::json& pre_tokenizer,
                                             const std::string& source);

}  // namespace lorc
