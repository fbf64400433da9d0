#include "service/chat_template/expression_lexer.h"

#include <charconv>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/utf8.h"
#include "service/chat_template/errors.h"

namespace lorc::jinja {
namespace {

bool IsDigitIn(char c, int base) {
  const int value = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : 16;
  return value < base;
}
bool IsDecimal(char c) { return IsDigitIn(c, 10); }
bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || IsDecimal(c);
}

// How many characters from `at` are digits, single underscores between them.
size_t Digits(std::string_view text, size_t at, int base) {
  size_t end = at;
  while (end < text.size()) {
    if (IsDigitIn(text[end], base)) {
      ++end;
    } else if (text[end] == '_' && end > at && end + 1 < text.size() &&
               IsDigitIn(text[end + 1], base)) {
      end += 2;
    } else {
      break;
    }
  }
  return end - at;
}

std::string WithoutUnderscores(std::string_view text) {
  std::string digits;
  for (const char c : text) {
    if (c != '_') digits.push_back(c);
  }
  return digits;
}

// The size of a float at `at`: digits with a fraction, an exponent or both; 0 if there is none.
size_t FloatSize(std::string_view text, size_t at) {
  if (at > 0 && text[at - 1] == '.') return 0;
  size_t end = at + Digits(text, at, 10);
  if (end == at) return 0;
  bool is_float = false;
  if (end + 1 < text.size() && text[end] == '.' && IsDecimal(text[end + 1])) {
    end += 1 + Digits(text, end + 1, 10);
    is_float = true;
  }
  if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    size_t digits = end + 1;
    if (digits < text.size() && (text[digits] == '+' || text[digits] == '-')) ++digits;
    if (const size_t size = Digits(text, digits, 10); size > 0) {
      end = digits + size;
      is_float = true;
    }
  }
  return is_float ? end - at : 0;
}

absl::Status ReadNumber(std::string_view text, size_t at, Token* token, size_t* size) {
  if (const size_t float_size = FloatSize(text, at); float_size > 0) {
    const std::string digits = WithoutUnderscores(text.substr(at, float_size));
    token->kind = TokenKind::kFloat;
    token->text = digits;
    *size = float_size;
    const auto result =
        std::from_chars(digits.data(), digits.data() + digits.size(), token->number);
    if (result.ec != std::errc())
      return InvalidAt(token->line, absl::StrCat("number ", digits, " overflows"));
    return absl::OkStatus();
  }
  int base = 10;
  size_t prefix = 0;
  if (text[at] == '0' && at + 1 < text.size()) {
    const char letter = static_cast<char>(text[at + 1] | 0x20);
    base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
    if (base != 10) {
      prefix = 2;
      if (at + 2 < text.size() && text[at + 2] == '_') ++prefix;
      if (Digits(text, at + prefix, base) == 0) {
        base = 10;
        prefix = 0;
      }
    }
  }
  size_t end = at + prefix + Digits(text, at + prefix, base);
  if (base == 10 && text[at] == '0') {  // leading zeros: only zeros are one number
    end = at + Digits(text, at, 1);
  }
  const std::string digits = WithoutUnderscores(text.substr(at + prefix, end - at - prefix));
  token->kind = TokenKind::kInteger;
  token->text = digits;
  *size = end - at;
  const auto result =
      std::from_chars(digits.data(), digits.data() + digits.size(), token->integer, base);
  if (result.ec != std::errc()) {
    return UnimplementedAt(token->line, absl::StrCat("integer ", digits, " beyond 64 bits"));
  }
  return absl::OkStatus();
}

// Reads `count` hexadecimal digits after an escape's letter.
absl::Status ReadHexEscape(std::string_view body, size_t at, size_t count, int32_t line,
                           std::string* out) {
  uint32_t code_point = 0;
  const std::string_view digits = body.substr(at, count);
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), code_point, 16);
  if (digits.size() < count || result.ec != std::errc() ||
      result.ptr != digits.data() + digits.size() || code_point > 0x10FFFF ||
      (code_point >= 0xD800 && code_point <= 0xDFFF)) {
    return InvalidAt(line, "a string escape that is no character");
  }
  AppendUtf8(code_point, out);
  return absl::OkStatus();
}

// What the backslash escape at body[at] (after the backslash) stands for, as in Python; sets how
// many bytes it takes there.
absl::Status ReadEscape(std::string_view body, size_t at, int32_t line, std::string* out,
                        size_t* size) {
  static constexpr std::string_view kLetters = "abfnrtv\\'\"\n";
  static constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
  const char letter = body[at];
  *size = 1;
  if (const size_t index = kLetters.find(letter); index != std::string_view::npos) {
    if (letter != '\n') out->push_back(kMeanings[index]);
    return absl::OkStatus();
  }
  if (letter == 'x' || letter == 'u' || letter == 'U') {
    const size_t count = letter == 'x' ? 2 : letter == 'u' ? 4 : 8;
    *size += count;
    return ReadHexEscape(body, at + 1, count, line, out);
  }
  if (letter == 'N') return UnimplementedAt(line, "the string escape \\N");
  if (IsDigitIn(letter, 8)) {
    uint32_t code_point = 0;
    *size = 0;
    while (*size < 3 && at + *size < body.size() && IsDigitIn(body[at + *size], 8)) {
      code_point = code_point * 8 + static_cast<uint32_t>(body[at + *size] - '0');
      ++*size;
    }
    AppendUtf8(code_point, out);
    return absl::OkStatus();
  }
  out->push_back('\\');  // no escape: both characters stand
  *size = 0;
  return absl::OkStatus();
}

absl::Status ReadString(std::string_view text, size_t at, Token* token, size_t* size) {
  const char quote = text[at];
  size_t end = at + 1;
  while (end < text.size() && text[end] != quote) end += text[end] == '\\' ? 2 : 1;
  if (end >= text.size()) return InvalidAt(token->line, "a string without its end");
  const std::string_view body = text.substr(at + 1, end - at - 1);
  token->kind = TokenKind::kString;
  *size = end + 1 - at;
  for (size_t i = 0; i < body.size(); ++i) {
    if (body[i] != '\\') {
      token->text.push_back(body[i]);
      continue;
    }
    size_t escape_size = 0;
    if (absl::Status status = ReadEscape(body, i + 1, token->line, &token->text, &escape_size);
        !status.ok()) {
      return status;
    }
    i += escape_size;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadToken(std::string_view text, size_t position, Token* token, size_t* size) {
  const char first = text[position];
  if (IsDecimal(first)) return ReadNumber(text, position, token, size);
  if (first == '\'' || first == '"') return ReadString(text, position, token, size);
  if (IsNameCharacter(first)) {
    size_t end = position;
    while (end < text.size() && IsNameCharacter(text[end])) ++end;
    token->kind = TokenKind::kName;
    token->text = text.substr(position, end - position);
    *size = end - position;
    return absl::OkStatus();
  }
  static constexpr std::string_view kLong[] = {"//", "**", "==", "!=", ">=", "<="};
  static constexpr std::string_view kShort = "+-/*%~[](){}><=.:|,;";
  size_t length = kShort.find(first) != std::string_view::npos ? 1 : 0;
  for (const std::string_view spelling : kLong) {
    if (text.substr(position).starts_with(spelling)) length = spelling.size();
  }
  if (length == 0) {
    length = static_cast<size_t>(NextUtf8(text.substr(position)).size);
    return InvalidAt(token->line, absl::StrCat("unexpected character '",
                                               std::string(text.substr(position, length)), "'"));
  }
  token->kind = TokenKind::kOperator;
  token->text = std::string(text.substr(position, length));
  *size = length;
  return absl::OkStatus();
}

}  // namespace lorc::jinja
