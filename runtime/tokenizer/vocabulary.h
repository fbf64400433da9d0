// A tokenizer's data as read from a checkpoint, before it is turned into a Tokenizer. Plain data.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "runtime/sampling/sampling_params.h"

namespace lorc {

struct Vocabulary {
  enum class Model { kByteLevelBpe };
  enum class Kind : uint8_t {
    kNormal,
    kControl,      // special: never produced by text unless special tokens are parsed, dropped by
                   // Decode
    kUserDefined,  // matched literally in any text, kept by Decode
    kUnused,
  };
  struct Token {
    std::string text;  // in byte-level alphabet for normal tokens, as it is for the others
    Kind kind = Kind::kNormal;
  };

  Model model = Model::kByteLevelBpe;
  std::string pre_tokenizer;  // a name in the table of pre-tokenizers ("gpt2", "smollm", ...)
  std::vector<Token> tokens;  // index = id
  std::vector<std::pair<std::string, std::string>> merges;  // best first
  bool ignore_merges = false;  // a piece that is a token as a whole is taken whole
  bool add_bos = false;        // a prompt of plain text starts with bos: whoever builds it adds it
  TokenId bos = kNoToken;
  std::vector<TokenId> eos;   // any of them ends a generation
  std::string chat_template;  // Jinja source; empty = none
};

}  // namespace lorc
