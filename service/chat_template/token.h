// The words of a template.
#pragma once

#include <cstdint>
#include <string>

namespace lorc::jinja {

enum class TokenKind : uint8_t {
  kEnd,            // after the last token
  kText,           // literal text between tags, whitespace control applied
  kVariableBegin,  // {{
  kVariableEnd,    // }}
  kBlockBegin,     // {%
  kBlockEnd,       // %}
  kName,           // a name or keyword
  kString,         // text = the unescaped string
  kInteger,
  kFloat,
  kOperator,  // text = how it is written
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int32_t line = 1;  // of the template, from 1
  std::string text;
  int64_t integer = 0;
  double number = 0.0;
};

}  // namespace lorc::jinja
