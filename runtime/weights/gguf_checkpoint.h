// A LLaMA model in one GGUF file.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGgufCheckpoint(const std::string& path);

}  // namespace lorc
