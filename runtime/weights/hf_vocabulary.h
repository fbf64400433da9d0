// The tokenizer's data in a Hugging Face folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "runtime/tokenizer/vocabulary.h"

namespace lorc {

// Texts of the files that together describe a tokenizer; empty: the file is not there.
struct HfTokenizerTexts {
  std::string_view tokenizer;           // tokenizer.json
  std::string_view tokenizer_config;    // tokenizer_config.json
  std::string_view special_tokens_map;  // special_tokens_map.json
  std::string_view config;              // config.json
  std::string_view generation_config;   // generation_config.json
  std::string_view chat_template;       // chat_template.jinja
};

// `source` (the folder) stands in error messages. Ids must stay below `embedding_rows`; fewer
// tokens than rows are fine (padding), ids that no token has are kUnused.
//
// bos, eos: tokenizer_config.json, else special_tokens_map.json, else the ids of the configs; every
// eos that a config or the tokenizer names ends a generation. add_bos: what tokenizer_config.json
// says, else whether tokenizer.json's post-processor puts bos in front.
absl::StatusOr<Vocabulary> ParseHfVocabulary(const HfTokenizerTexts& texts, int32_t embedding_rows,
                                             const std::string& source);

absl::StatusOr<Vocabulary> ReadHfVocabulary(const std::string& folder, int32_t embedding_rows);

}  // namespace lorc
