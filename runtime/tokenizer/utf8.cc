#include "runtime/tokenizer/utf8.h"

namespace lorc {
namespace {

struct Lead {
  int32_t size = 0;  // of the whole character; 0: no character starts so
  // The second byte's range: narrower than 80..BF where overlong forms, surrogates or values above
  // U+10FFFF would begin (Unicode 15, table 3-7).
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
};

Lead LeadOf(uint8_t byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

}  // namespace

Utf8Step NextUtf8(std::string_view text) {
  const uint8_t first = static_cast<uint8_t>(text[0]);
  if (first < 0x80) return {first, 1, Utf8Kind::kValid};
  const Lead lead = LeadOf(first);
  if (lead.size == 0) return {kReplacementCharacter, 1, Utf8Kind::kInvalid};
  char32_t code_point = first & (0x7F >> lead.size);
  for (int32_t i = 1; i < lead.size; ++i) {
    if (static_cast<size_t>(i) == text.size()) {
      return {kReplacementCharacter, i, Utf8Kind::kIncomplete};
    }
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    const uint8_t low = i == 1 ? lead.low : 0x80;
    const uint8_t high = i == 1 ? lead.high : 0xBF;
    if (byte < low || byte > high) return {kReplacementCharacter, i, Utf8Kind::kInvalid};
    code_point = (code_point << 6) | (byte & 0x3F);
  }
  return {code_point, lead.size, Utf8Kind::kValid};
}

void AppendUtf8(char32_t code_point, std::string* out) {
  if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF)) {
    code_point = kReplacementCharacter;
  }
  if (code_point < 0x80) {
    out->push_back(static_cast<char>(code_point));
  } else if (code_point < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (code_point >> 6)));
    out->push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
  } else if (code_point < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | (code_point >> 12)));
    out->push_back(static_cast<char>(0x80 | ((code_point >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | (code_point >> 18)));
    out->push_back(static_cast<char>(0x80 | ((code_point >> 12) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | ((code_point >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
  }
}

int64_t ValidUtf8Prefix(std::string_view text) {
  size_t position = 0;
  while (position < text.size()) {
    const Utf8Step step = NextUtf8(text.substr(position));
    if (step.kind != Utf8Kind::kValid) break;
    position += step.size;
  }
  return static_cast<int64_t>(position);
}

}  // namespace lorc
