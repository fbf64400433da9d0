#include "service/chat_template/token_stream.h"

#include "absl/strings/str_cat.h"

namespace lorc::jinja {
namespace {

std::string Describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kEnd:
      return "the end of the template";
    case TokenKind::kText:
      return "text";
    case TokenKind::kVariableBegin:
      return "{{";
    case TokenKind::kVariableEnd:
      return "}}";
    case TokenKind::kBlockBegin:
      return "{%";
    case TokenKind::kBlockEnd:
      return "%}";
    case TokenKind::kString:
      return "a string";
    default:
      return absl::StrCat("'", token.text, "'");
  }
}

}  // namespace

void TokenStream::Unexpected(const std::string& wanted) {
  Fail(absl::StrCat("expected ", wanted, ", found ", Describe(current())));
}

void TokenStream::FailNesting() {
  Fail(absl::StrCat("more than ", kMaxNesting, " levels inside each other"));
}

}  // namespace lorc::jinja
