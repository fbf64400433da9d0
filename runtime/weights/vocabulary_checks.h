// What the tokenizers of both checkpoint formats have in common.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/tokenizer/vocabulary.h"

namespace lorc {

inline constexpr int64_t kMaxMerges = int64_t{1} << 23;
inline constexpr size_t kMaxChatTemplateBytes = size_t{1} << 20;

// "left right": one space between two parts that are not empty.
absl::StatusOr<std::pair<std::string, std::string>> SplitMerge(std::string_view merge);

// Adds an end-of-generation token unless it is there already.
void AddEos(TokenId token, Vocabulary* vocabulary);

// Sizes and ids: tokens fit the embedding's rows, bos and eos name tokens.
absl::Status ValidateVocabulary(const Vocabulary& vocabulary, int32_t embedding_rows,
                                const std::string& source);

}  // namespace lorc
