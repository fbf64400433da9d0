// Hyperparameters of a LLaMA model from a Hugging Face folder's config.json.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "runtime/model/model_config.h"

namespace lorc {

// `json`: the text of config.json; `source` stands in error messages. RoPE's settings are read in
// the spelling of transformers 4 (rope_theta, rope_scaling) and of 5 (rope_parameters). The name is
// empty where the file has none. Validated; variations of LLaMA that this program does not compute
// are UNIMPLEMENTED.
absl::StatusOr<ModelConfig> ParseHfConfig(std::string_view json, const std::string& source);

}  // namespace lorc
