// Text to token ids and back: byte-level BPE.
//
// Any byte string encodes and decodes to itself (without special tokens). Constant after
// construction: all methods may be called from any thread at once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/tokenizer/vocabulary.h"

namespace lorc {

class Tokenizer {
 public:
  // Checks the vocabulary (merges name tokens, all 256 bytes are there, the pre-tokenizer is
  // known).
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(Vocabulary vocabulary);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // `parse_special`: control tokens written out in the text become those tokens; else they are
  // text. Does not add bos. Works on any bytes, valid UTF-8 or not, in time close to linear in the
  // text's length.
  std::vector<TokenId> Encode(std::string_view text, bool parse_special) const;

  // Concatenated bytes of the tokens; control tokens are dropped unless keep_special. Ids out of
  // range are dropped.
  std::string Decode(std::span<const TokenId> tokens, bool keep_special) const;

  // The bytes of one token; empty for an id out of range.
  std::string_view TokenBytes(TokenId token) const;

  // The id of a token written exactly so (control tokens too), or kNoToken.
  TokenId Find(std::string_view text) const;

  int32_t size() const;
  bool IsControl(TokenId token) const;
  const Vocabulary& vocabulary() const;

 private:
  class Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lorc
