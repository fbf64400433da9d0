#include "runtime/tokenizer/tokenizer.h"

#include <limits>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/literal_matcher.h"
#include "runtime/tokenizer/pre_tokenizer.h"

namespace lorc {
namespace {

using Kind = Vocabulary::Kind;

// Looking for literals costs the text's length times the longest of them.
constexpr size_t kMaxLiteralBytes = 1024;

absl::Status CheckVocabulary(const Vocabulary& vocabulary) {
  const size_t size = vocabulary.tokens.size();
  if (size == 0 || size > static_cast<size_t>(std::numeric_limits<TokenId>::max())) {
    return absl::InvalidArgumentError(absl::StrCat("vocabulary: ", size, " tokens"));
  }
  const auto in_range = [size](TokenId id) { return id >= 0 && static_cast<size_t>(id) < size; };
  if (vocabulary.bos != kNoToken && !in_range(vocabulary.bos)) {
    return absl::InvalidArgumentError(
        absl::StrCat("vocabulary: bos ", vocabulary.bos, " of ", size, " tokens"));
  }
  for (const TokenId eos : vocabulary.eos) {
    if (!in_range(eos)) {
      return absl::InvalidArgumentError(
          absl::StrCat("vocabulary: eos ", eos, " of ", size, " tokens"));
    }
  }
  for (size_t id = 0; id < size; ++id) {
    const Vocabulary::Token& token = vocabulary.tokens[id];
    if ((token.kind == Kind::kControl || token.kind == Kind::kUserDefined) &&
        token.text.size() > kMaxLiteralBytes) {
      return absl::InvalidArgumentError(absl::StrCat("vocabulary: token ", id, " is ",
                                                     token.text.size(), " bytes long; at most ",
                                                     kMaxLiteralBytes, " for a special token"));
    }
  }
  return absl::OkStatus();
}

LiteralMatcher MakeMatcher(const Vocabulary& vocabulary, bool with_control) {
  std::vector<std::pair<std::string, TokenId>> literals;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const Vocabulary::Token& token = vocabulary.tokens[id];
    if (token.kind == Kind::kUserDefined || (with_control && token.kind == Kind::kControl)) {
      literals.emplace_back(token.text, static_cast<TokenId>(id));
    }
  }
  return LiteralMatcher(std::move(literals));
}

}  // namespace

class Tokenizer::Impl {
 public:
  Impl(Vocabulary vocabulary, Bpe bpe, std::unique_ptr<PreTokenizer> pre_tokenizer)
      : vocabulary_(std::move(vocabulary)),
        bpe_(std::move(bpe)),
        pre_tokenizer_(std::move(pre_tokenizer)),
        user_matcher_(MakeMatcher(vocabulary_, false)),
        special_matcher_(MakeMatcher(vocabulary_, true)) {
    vocabulary_.merges = {};
    bytes_.reserve(vocabulary_.tokens.size());
    for (const Vocabulary::Token& token : vocabulary_.tokens) {
      std::optional<std::string> bytes;
      if (token.kind == Kind::kNormal) bytes = ByteLevelToBytes(token.text);
      bytes_.push_back(std::move(bytes).value_or(token.text));
    }
    Index([](Kind kind) { return kind == Kind::kControl || kind == Kind::kUserDefined; });
    Index([](Kind kind) { return kind == Kind::kNormal; });
    Index([](Kind kind) { return kind == Kind::kUnused; });
  }

  void Encode(std::string_view text, bool parse_special, std::vector<TokenId>* out) const {
    const LiteralMatcher& matcher = parse_special ? special_matcher_ : user_matcher_;
    Work work;
    size_t position = 0;
    while (const std::optional<LiteralMatcher::Match> match = matcher.Find(text, position)) {
      EncodeText(text.substr(position, match->begin - position), &work, out);
      out->push_back(match->token);
      position = match->end;
    }
    EncodeText(text.substr(position), &work, out);
  }

  bool Has(TokenId token) const { return token >= 0 && static_cast<size_t>(token) < bytes_.size(); }
  std::string_view Bytes(TokenId token) const {
    return Has(token) ? std::string_view(bytes_[token]) : std::string_view();
  }
  TokenId Find(std::string_view text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? kNoToken : found->second;
  }
  bool IsControl(TokenId token) const {
    return Has(token) && vocabulary_.tokens[token].kind == Kind::kControl;
  }
  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  struct Work {
    std::vector<std::string_view> pieces;
    Bpe::Scratch scratch;
  };

  // Names the tokens of some kinds by their bytes; what has a name keeps it.
  template <typename IsKind>
  void Index(IsKind is_kind) {
    for (size_t id = 0; id < bytes_.size(); ++id) {
      if (is_kind(vocabulary_.tokens[id].kind)) {
        ids_.emplace(bytes_[id], static_cast<TokenId>(id));
      }
    }
  }

  void EncodeText(std::string_view text, Work* work, std::vector<TokenId>* out) const {
    work->pieces.clear();
    pre_tokenizer_->Split(text, &work->pieces);
    for (const std::string_view piece : work->pieces) {
      if (vocabulary_.ignore_merges) {
        const TokenId whole = Find(piece);
        if (whole != kNoToken && vocabulary_.tokens[whole].kind == Kind::kNormal) {
          out->push_back(whole);
          continue;
        }
      }
      bpe_.Encode(piece, &work->scratch, out);
    }
  }

  Vocabulary vocabulary_;
  Bpe bpe_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  LiteralMatcher user_matcher_;
  LiteralMatcher special_matcher_;
  std::vector<std::string> bytes_;                     // of each token
  std::unordered_map<std::string_view, TokenId> ids_;  // views into bytes_
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(Vocabulary vocabulary) {
  if (absl::Status status = CheckVocabulary(vocabulary); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<PreTokenizer>> pre_tokenizer =
      PreTokenizer::Create(vocabulary.pre_tokenizer);
  if (!pre_tokenizer.ok()) return pre_tokenizer.status();
  absl::StatusOr<Bpe> bpe = Bpe::Create(vocabulary);
  if (!bpe.ok()) return bpe.status();
  return std::unique_ptr<Tokenizer>(new Tokenizer(
      std::make_unique<Impl>(std::move(vocabulary), *std::move(bpe), *std::move(pre_tokenizer))));
}

std::vector<TokenId> Tokenizer::Encode(std::string_view text, bool parse_special) const {
  std::vector<TokenId> tokens;
  impl_->Encode(text, parse_special, &tokens);
  return tokens;
}

std::string Tokenizer::Decode(std::span<const TokenId> tokens, bool keep_special) const {
  std::string text;
  for (const TokenId token : tokens) {
    if (keep_special || !impl_->IsControl(token)) text.append(impl_->Bytes(token));
  }
  return text;
}

std::string_view Tokenizer::TokenBytes(TokenId token) const { return impl_->Bytes(token); }
TokenId Tokenizer::Find(std::string_view text) const { return impl_->Find(text); }
int32_t Tokenizer::size() const { return static_cast<int32_t>(impl_->vocabulary().tokens.size()); }
bool Tokenizer::IsControl(TokenId token) const { return impl_->IsControl(token); }
const Vocabulary& Tokenizer::vocabulary() const { return impl_->vocabulary(); }

}  // namespace lorc
