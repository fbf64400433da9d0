// The parser's view of the tokens: one at a time, with one error that ends everything.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "service/chat_template/errors.h"
#include "service/chat_template/limits.h"
#include "service/chat_template/token.h"

namespace lorc::jinja {

class TokenStream {
 public:
  // `tokens` ends with a kEnd.
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  int32_t line() const { return current().line; }

  // After a failure all tokens are kEnd, so that every loop of the parser ends by itself.
  const Token& current() const { return ok() ? tokens_[position_] : tokens_.back(); }
  const Token& next() const {
    return ok() && position_ + 1 < tokens_.size() ? tokens_[position_ + 1] : tokens_.back();
  }
  Token Take() {
    Token token = current();
    if (position_ + 1 < tokens_.size()) ++position_;
    return token;
  }

  bool Is(TokenKind kind) const { return current().kind == kind; }
  bool IsOperator(std::string_view text) const {
    return Is(TokenKind::kOperator) && current().text == text;
  }
  bool IsName(std::string_view text) const {
    return Is(TokenKind::kName) && current().text == text;
  }
  bool SkipOperator(std::string_view text) {
    const bool found = IsOperator(text);
    if (found) Take();
    return found;
  }
  bool SkipName(std::string_view text) {
    const bool found = IsName(text);
    if (found) Take();
    return found;
  }

  // Takes what must be there.
  void ExpectOperator(std::string_view text) {
    if (!SkipOperator(text)) Unexpected(absl::StrCat("'", std::string(text), "'"));
  }
  void Expect(TokenKind kind, const std::string& what) {
    if (Is(kind)) {
      Take();
    } else {
      Unexpected(what);
    }
  }
  std::string ExpectName() {
    if (Is(TokenKind::kName)) return Take().text;
    Unexpected("a name");
    return {};
  }

  void Unexpected(const std::string& wanted);
  void Fail(const std::string& message) { FailAt(line(), message); }
  void FailAt(int32_t line, const std::string& message) {
    if (ok()) status_ = InvalidAt(line, message);
  }
  void Unimplemented(const std::string& construct) {
    if (ok()) status_ = UnimplementedAt(line(), construct);
  }

  // Counts what the parser is inside of; fails beyond kMaxNesting.
  class Level {
   public:
    explicit Level(TokenStream* tokens) : tokens_(tokens) {
      if (++tokens_->level_ > kMaxNesting) tokens_->FailNesting();
    }
    ~Level() { --tokens_->level_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    TokenStream* tokens_;
  };
  void FailNesting();

 private:
  std::vector<Token> tokens_;
  size_t position_ = 0;
  int32_t level_ = 0;
  absl::Status status_;
};

}  // namespace lorc::jinja
