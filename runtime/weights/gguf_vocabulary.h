// The tokenizer's data in a GGUF file.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/tokenizer/vocabulary.h"
#include "runtime/weights/gguf.h"

namespace lorc {

// `embedding_rows`: ids must stay below it; fewer tokens than rows are fine (padding).
absl::StatusOr<Vocabulary> ReadGgufVocabulary(const Gguf& gguf, int32_t embedding_rows);

}  // namespace lorc
