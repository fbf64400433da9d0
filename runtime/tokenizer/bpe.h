// Byte pair encoding: a piece's bytes become tokens, and neighbours are merged, the best-ranked
// pair first and of equal ones the leftmost, until no pair of neighbours has a merge.
//
// Constant after construction: Encode may be called from any thread at once.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "runtime/tokenizer/vocabulary.h"

namespace lorc {

class Bpe {
 public:
  // INVALID_ARGUMENT if a merge names or makes what is not a token or is a control token, or if no
  // byte has a token.
  static absl::StatusOr<Bpe> Create(const Vocabulary& vocabulary);

  // Memory that calls may share, one after the other.
  struct Scratch;

  // Appends the tokens of one piece. Bytes that have no token are left out before anything is
  // merged. Takes O(n log n) for n bytes. Pieces longer than kMaxPieceBytes are encoded in parts.
  void Encode(std::string_view piece, Scratch* scratch, std::vector<TokenId>* out) const;

  static constexpr size_t kMaxPieceBytes = size_t{1} << 28;

 private:
  struct Merge {
    int32_t rank = 0;
    TokenId result = kNoToken;
  };

  Bpe() = default;
  void EncodePart(std::string_view piece, Scratch* scratch, std::vector<TokenId>* out) const;
  void Propose(int32_t left, Scratch* scratch) const;
  static uint64_t PairKey(TokenId left, TokenId right) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) |
           static_cast<uint32_t>(right);
  }

  std::array<TokenId, 256> byte_tokens_{};
  absl::flat_hash_map<uint64_t, Merge> merges_;
};

struct Bpe::Scratch {
  struct Symbol {
    TokenId token = kNoToken;  // kNoToken: merged into the one before it
    int32_t size = 0;          // in bytes
    int32_t previous = -1;     // neighbours that still stand; -1: none
    int32_t next = -1;
  };
  struct Candidate {
    int32_t rank = 0;
    int32_t left = 0;  // index of the left symbol
    int32_t size = 0;  // of both: a symbol only grows, so a pair of another size is another pair
    TokenId result = kNoToken;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

}  // namespace lorc
