#include "runtime/tokenizer/bpe.h"

#include <algorithm>
#include <limits>
#include <string>
#include <unordered_map>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/byte_level.h"

namespace lorc {
namespace {

// Heap order: the top is the best rank, then the leftmost.
bool Worse(const Bpe::Scratch::Candidate& a, const Bpe::Scratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
}

}  // namespace

absl::StatusOr<Bpe> Bpe::Create(const Vocabulary& vocabulary) {
  if (vocabulary.merges.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return absl::InvalidArgumentError("vocabulary: too many merges");
  }
  std::unordered_map<std::string_view, TokenId> ids;  // the lowest id of each text
  ids.reserve(vocabulary.tokens.size());
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.tokens[id].kind == Vocabulary::Kind::kControl) continue;
    ids.emplace(vocabulary.tokens[id].text, static_cast<TokenId>(id));
  }
  const auto find = [&ids](const std::string& text) {
    const auto found = ids.find(text);
    return found == ids.end() ? kNoToken : found->second;
  };

  Bpe bpe;
  bool any_byte = false;
  for (int byte = 0; byte < 256; ++byte) {
    const char character = static_cast<char>(byte);
    bpe.byte_tokens_[byte] = find(BytesToByteLevel(std::string_view(&character, 1)));
    any_byte |= bpe.byte_tokens_[byte] != kNoToken;
  }
  if (!any_byte) {
    return absl::InvalidArgumentError("vocabulary: no token stands for a single byte");
  }
  bpe.merges_.reserve(vocabulary.merges.size());
  int32_t rank = 0;
  for (const auto& [left, right] : vocabulary.merges) {
    const TokenId left_id = find(left);
    const TokenId right_id = find(right);
    const TokenId result = find(left + right);
    if (left_id == kNoToken || right_id == kNoToken || result == kNoToken) {
      return absl::InvalidArgumentError(absl::StrCat("vocabulary: merge ", rank, ": \"",
                                                     left_id == kNoToken    ? left
                                                     : right_id == kNoToken ? right
                                                                            : left + right,
                                                     "\" is not a token that text can make"));
    }
    bpe.merges_.emplace(PairKey(left_id, right_id), Merge{rank++, result});
  }
  return bpe;
}

void Bpe::Encode(std::string_view piece, Scratch* scratch, std::vector<TokenId>* out) const {
  while (piece.size() > kMaxPieceBytes) {
    EncodePart(piece.substr(0, kMaxPieceBytes), scratch, out);
    piece.remove_prefix(kMaxPieceBytes);
  }
  EncodePart(piece, scratch, out);
}

void Bpe::EncodePart(std::string_view piece, Scratch* scratch, std::vector<TokenId>* out) const {
  std::vector<Scratch::Symbol>& symbols = scratch->symbols;
  std::vector<Scratch::Candidate>& heap = scratch->heap;
  symbols.clear();
  heap.clear();
  for (const char byte : piece) {
    const TokenId token = byte_tokens_[static_cast<uint8_t>(byte)];
    if (token == kNoToken) continue;
    const int32_t index = static_cast<int32_t>(symbols.size());
    if (index > 0) symbols.back().next = index;
    symbols.push_back({token, 1, index - 1, -1});
  }
  for (size_t i = 0; i + 1 < symbols.size(); ++i) Propose(static_cast<int32_t>(i), scratch);
  std::make_heap(heap.begin(), heap.end(), Worse);

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), Worse);
    const Scratch::Candidate best = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[best.left];
    if (left.token == kNoToken || left.next < 0) continue;
    Scratch::Symbol& right = symbols[left.next];
    if (left.size + right.size != best.size) continue;
    left.token = best.result;
    left.size = best.size;
    left.next = right.next;
    right.token = kNoToken;
    if (left.next >= 0) symbols[left.next].previous = best.left;
    for (const int32_t changed : {left.previous, best.left}) {
      const size_t before = heap.size();
      if (changed >= 0) Propose(changed, scratch);
      if (heap.size() > before) std::push_heap(heap.begin(), heap.end(), Worse);
    }
  }
  for (const Scratch::Symbol& symbol : symbols) {
    if (symbol.token != kNoToken) out->push_back(symbol.token);
  }
}

// Appends the pair of `left` and its neighbour to the candidates, if it has a merge.
void Bpe::Propose(int32_t left, Scratch* scratch) const {
  const Scratch::Symbol& first = scratch->symbols[left];
  if (first.next < 0) return;
  const Scratch::Symbol& second = scratch->symbols[first.next];
  const auto found = merges_.find(PairKey(first.token, second.token));
  if (found == merges_.end()) return;
  scratch->heap.push_back(
      {found->second.rank, left, first.size + second.size, found->second.result});
}

}  // namespace lorc
