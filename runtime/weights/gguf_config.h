// Hyperparameters of a LLaMA model in a GGUF file.
#pragma once

#include "absl/status/statusor.h"
#include "runtime/model/model_config.h"
#include "runtime/weights/gguf.h"

namespace lorc {

// Validated. The vocabulary's size is the embedding's rows. Another architecture, or a variation of
// LLaMA that this program does not compute, is UNIMPLEMENTED.
absl::StatusOr<ModelConfig> ReadGgufConfig(const Gguf& gguf);

}  // namespace lorc
