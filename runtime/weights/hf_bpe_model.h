// The parts of tokenizer.json that give the tokens and the merges.
#pragma once

#include <cstdint>
#include <string>
#include <nlohmann/json_fwd.hpp>

#include "absl/status/status.h"
#include "runtime/tokenizer/vocabulary.h"

namespace lorc {

// Fills tokens, merges and ignore_merges from `tokenizer`'s members "model" and "added_tokens", and
// from `added_tokens_decoder` of tokenizer_config.json (nullptr: none). Ids are unique and below
// `embedding_rows`; ids without a token become kUnused.
absl::Status ReadHfBpeModel(const nlohmann::json& tokenizer,
                            const nlohmann::json* added_tokens_decoder, int32_t embedding_rows,
                            const std::string& source, Vocabulary* vocabulary);

}  // namespace lorc
