// A small byte-level vocabulary made from merges: ids 0..255 are the bytes, then one token per
// merge, then the special ones.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/vocabulary.h"

namespace lorc {

// `merges` as bytes, best first; a merge that makes what is there already adds no token.
inline Vocabulary ToyVocabulary(
    const std::vector<std::pair<std::string, std::string>>& merges,
    const std::vector<std::pair<std::string, Vocabulary::Kind>>& special = {},
    const std::string& pre_tokenizer = "gpt2") {
  Vocabulary vocabulary;
  vocabulary.pre_tokenizer = pre_tokenizer;
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.tokens.push_back({BytesToByteLevel(std::string(1, static_cast<char>(byte)))});
  }
  for (const auto& [left, right] : merges) {
    vocabulary.merges.emplace_back(BytesToByteLevel(left), BytesToByteLevel(right));
    const std::string text = BytesToByteLevel(left + right);
    bool known = false;
    for (const Vocabulary::Token& token : vocabulary.tokens) known |= token.text == text;
    if (!known) vocabulary.tokens.push_back({text});
  }
  for (const auto& [text, kind] : special) vocabulary.tokens.push_back({text, kind});
  return vocabulary;
}

}  // namespace lorc
