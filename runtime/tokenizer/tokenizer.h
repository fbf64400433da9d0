// Text to token ids and back: byte-level BPE.
//
// Any bytes, valid UTF-8 or not, encode and decode to themselves, except that a byte for which the
// vocabulary has no token is left out, as Hugging Face's BPE does without an unknown token (real
// vocabularies lack a few control characters and bytes that UTF-8 never uses).
//
// Constant after construction: all methods may be called from any thread at once.
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
  // INVALID_ARGUMENT says what is wrong: an unknown pre-tokenizer, a merge that names or makes what
  // is not a token, an id out of range, a special token above 1024 bytes, no token for any byte.
  // The merges are not kept: vocabulary().merges is empty.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(Vocabulary vocabulary);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // `parse_special`: control tokens written out in the text become those tokens; else they are
  // text. User-defined tokens always do. Where several begin at one place, the longest counts. Does
  // not add bos. Takes O(n log n) for n bytes.
  std::vector<TokenId> Encode(std::string_view text, bool parse_special) const;

  // Concatenated bytes of the tokens; control tokens are dropped unless keep_special. Ids out of
  // range are dropped.
  std::string Decode(std::span<const TokenId> tokens, bool keep_special) const;

  // The bytes of one token; empty for an id out of range.
  std::string_view TokenBytes(TokenId token) const;

  // The id of the token whose bytes these are, or kNoToken. Of several, special tokens come first,
  // then the lowest id.
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
