// A LLaMA model in a Hugging Face folder: config.json, model.safetensors or
// model.safetensors.index.json with its shards, tokenizer.json.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenHfCheckpoint(const std::string& folder);

}  // namespace lorc
