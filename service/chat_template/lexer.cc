#include "service/chat_template/lexer.h"

#include <string_view>
#include <utility>

#include "service/chat_template/errors.h"
#include "service/chat_template/expression_lexer.h"
#include "service/chat_template/text.h"

namespace lorc::jinja {
namespace {

std::string NormalizeNewlines(const std::string& source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text.push_back(source[i]);
    } else {
      text.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(const std::string& source) : source_(NormalizeNewlines(source)), text_(source_) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (position_ < text_.size()) {
      const size_t tag = NextTag();
      if (tag == std::string_view::npos) {
        AddText(text_.substr(position_));
        break;
      }
      if (absl::Status status = Tag(tag); !status.ok()) return status;
    }
    Add(TokenKind::kEnd);
    return std::move(tokens_);
  }

 private:
  size_t NextTag() const {
    for (size_t at = text_.find('{', position_); at != std::string_view::npos;
         at = text_.find('{', at + 1)) {
      if (at + 1 < text_.size() &&
          (text_[at + 1] == '{' || text_[at + 1] == '%' || text_[at + 1] == '#')) {
        return at;
      }
    }
    return std::string_view::npos;
  }

  // Handles the text before the tag at `tag`, and the tag.
  absl::Status Tag(size_t tag) {
    const char kind = text_[tag + 1];
    size_t after = tag + 2;
    const char sign = SignAt(after);
    if (sign != 0) ++after;
    AddText(TextBefore(tag, sign, kind != '{'));
    Advance(after);
    if (kind == '#') return Comment();
    if (kind == '%') {
      if (const size_t body = RawBegin(after); body != std::string_view::npos) {
        Advance(body);
        return Raw();
      }
    }
    return Expression(kind == '%');
  }

  char SignAt(size_t at) const {
    return at < text_.size() && (text_[at] == '-' || text_[at] == '+') ? text_[at] : '\0';
  }

  // The text from position_ to a tag, without the space that the tag strips.
  std::string_view TextBefore(size_t tag, char sign, bool strips_line) const {
    const std::string_view before = text_.substr(position_, tag - position_);
    if (sign == '-') return Strip(before, nullptr, false, true);
    if (sign == '+' || !strips_line) return before;
    const size_t newline = before.rfind('\n');
    if (newline == std::string_view::npos && !line_starting_) return before;
    const size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
    const std::string_view rest = before.substr(line_begin);
    return Strip(rest, nullptr, true, true).empty() ? before.substr(0, line_begin) : before;
  }

  void Add(TokenKind kind, std::string_view text = {}) {
    Token token;
    token.kind = kind;
    token.line = line_;
    token.text = text;
    tokens_.push_back(std::move(token));
  }
  void AddText(std::string_view text) {
    if (!text.empty()) Add(TokenKind::kText, text);
  }

  // Moves on to `to` and counts lines.
  void Advance(size_t to) {
    for (; position_ < to; ++position_) line_ += text_[position_] == '\n' ? 1 : 0;
    line_starting_ = to > 0 && text_[to - 1] == '\n';
  }

  size_t SkipSpace(size_t at) const {
    return text_.size() - Strip(text_.substr(at), nullptr, true, false).size();
  }

  // If a tag ends at `at` ("-%}" and the space after it, "+%}", or "%}" and a newline), where its
  // end is over; else npos.
  size_t TagEnd(size_t at, std::string_view end, bool trims_newline) const {
    const char sign = SignAt(at);
    const size_t delimiter = sign != 0 ? at + 1 : at;
    if (!text_.substr(delimiter).starts_with(end)) return std::string_view::npos;
    const size_t after = delimiter + end.size();
    if (sign == '-') return SkipSpace(after);
    if (sign == '+') return after;
    return trims_newline && after < text_.size() && text_[after] == '\n' ? after + 1 : after;
  }

  absl::Status Comment() {
    const size_t end = text_.find("#}", position_);
    if (end == std::string_view::npos) return InvalidAt(line_, "a comment {# without its end #}");
    const bool has_sign = end > position_ && SignAt(end - 1) != 0;
    Advance(TagEnd(has_sign ? end - 1 : end, "#}", true));
    return absl::OkStatus();
  }

  // If {% raw %} goes on at `at`, where it ends; else npos.
  size_t RawBegin(size_t at) const {
    size_t name = SkipSpace(at);
    if (!text_.substr(name).starts_with("raw")) return std::string_view::npos;
    const size_t end = SkipSpace(name + 3);
    if (SignAt(end) == '+') return std::string_view::npos;
    return TagEnd(end, "%}", false);
  }

  absl::Status Raw() {
    for (size_t at = text_.find("{%", position_); at != std::string_view::npos;
         at = text_.find("{%", at + 1)) {
      const char sign = SignAt(at + 2);
      const size_t name = SkipSpace(sign != 0 ? at + 3 : at + 2);
      if (!text_.substr(name).starts_with("endraw")) continue;
      const size_t end = TagEnd(SkipSpace(name + 6), "%}", true);
      if (end == std::string_view::npos) continue;
      AddText(TextBefore(at, sign, true));
      Advance(end);
      return absl::OkStatus();
    }
    return InvalidAt(line_, "{% raw %} without {% endraw %}");
  }

  // The tokens of one tag up to its end.
  absl::Status Expression(bool is_block) {
    const std::string_view end = is_block ? "%}" : "}}";
    Add(is_block ? TokenKind::kBlockBegin : TokenKind::kVariableBegin);
    std::string brackets;  // that are open: within them an end is none
    while (true) {
      if (brackets.empty() && (is_block || SignAt(position_) != '+')) {
        const size_t after = TagEnd(position_, end, is_block);
        if (after != std::string_view::npos) {
          Add(is_block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd);
          Advance(after);
          return absl::OkStatus();
        }
      }
      if (const size_t after = SkipSpace(position_); after != position_) {
        Advance(after);
        continue;
      }
      if (position_ == text_.size()) {
        return InvalidAt(line_, absl::StrCat("a tag without its end ", std::string(end)));
      }
      Token token;
      token.line = line_;
      size_t size = 0;
      if (absl::Status status = ReadToken(text_, position_, &token, &size); !status.ok()) {
        return status;
      }
      if (token.kind == TokenKind::kOperator) {
        if (absl::Status status = Balance(token, &brackets); !status.ok()) return status;
      }
      tokens_.push_back(std::move(token));
      Advance(position_ + size);
    }
  }

  static absl::Status Balance(const Token& token, std::string* brackets) {
    const char bracket = token.text[0];
    if (bracket == '(') brackets->push_back(')');
    if (bracket == '[') brackets->push_back(']');
    if (bracket == '{') brackets->push_back('}');
    if (bracket != ')' && bracket != ']' && bracket != '}') return absl::OkStatus();
    if (brackets->empty() || brackets->back() != bracket) {
      return InvalidAt(token.line, absl::StrCat("unexpected '", token.text, "'"));
    }
    brackets->pop_back();
    return absl::OkStatus();
  }

  const std::string source_;
  const std::string_view text_;  // all of source_
  size_t position_ = 0;
  int32_t line_ = 1;
  bool line_starting_ = true;  // what was read last ends with a newline
  std::vector<Token> tokens_;
};

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenize(const std::string& source) {
  return Lexer(source).Run();
}

}  // namespace lorc::jinja
