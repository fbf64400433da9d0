// The part of text.h that needs Unicode's tables.
#include <utf8proc.h>

#include "runtime/tokenizer/utf8.h"
#include "service/chat_template/text.h"

namespace lorc::jinja {
namespace {

utf8proc_int32_t Code(char32_t c) { return static_cast<utf8proc_int32_t>(c); }
utf8proc_category_t Category(char32_t c) { return utf8proc_category(Code(c)); }

bool IsLetter(char32_t c) {
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return true;
    default:
      return false;
  }
}
bool IsDigitCharacter(char32_t c) {
  return Category(c) == UTF8PROC_CATEGORY_ND || c == 0xB2 || c == 0xB3 || c == 0xB9;
}
bool IsLowerCharacter(char32_t c) { return utf8proc_islower(Code(c)) != 0; }
bool IsUpperCharacter(char32_t c) { return utf8proc_isupper(Code(c)) != 0; }
bool HasCase(char32_t c) {
  return IsLowerCharacter(c) || IsUpperCharacter(c) || Category(c) == UTF8PROC_CATEGORY_LT;
}

enum class Mapping { kLower, kUpper, kTitle };

void AppendMapped(char32_t c, Mapping mapping, std::string* out) {
  if (c == 0xDF && mapping != Mapping::kLower) {
    out->append(mapping == Mapping::kUpper ? "SS" : "Ss");
    return;
  }
  const utf8proc_int32_t mapped = mapping == Mapping::kLower   ? utf8proc_tolower(Code(c))
                                  : mapping == Mapping::kUpper ? utf8proc_toupper(Code(c))
                                                               : utf8proc_totitle(Code(c));
  AppendUtf8(static_cast<char32_t>(mapped), out);
}

// Maps each character as `choose(character)` says; broken bytes stay.
template <typename Choose>
std::string Map(std::string_view text, Choose choose) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    const Mapping mapping = choose(step.code_point);
    if (step.kind == Utf8Kind::kValid) {
      AppendMapped(step.code_point, mapping, &out);
    } else {
      out.append(text.substr(0, step.size));
    }
    text.remove_prefix(step.size);
  }
  return out;
}

template <typename Is>
bool All(std::string_view text, Is is) {
  if (text.empty()) return false;
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    if (step.kind != Utf8Kind::kValid || !is(step.code_point)) return false;
    text.remove_prefix(step.size);
  }
  return true;
}

template <typename Is>
bool OnlyCase(std::string_view text, Is is) {
  bool any = false;
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    text.remove_prefix(step.size);
    if (step.kind != Utf8Kind::kValid || !HasCase(step.code_point)) continue;
    if (!is(step.code_point)) return false;
    any = true;
  }
  return any;
}

}  // namespace

bool IsPrintable(char32_t c) {
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return c == ' ';
    default:
      return true;
  }
}

std::string ToUpper(std::string_view text) {
  return Map(text, [](char32_t) { return Mapping::kUpper; });
}
std::string ToLower(std::string_view text) {
  return Map(text, [](char32_t) { return Mapping::kLower; });
}

std::string Capitalize(std::string_view text) {
  bool first = true;
  return Map(text, [&first](char32_t) {
    const Mapping mapping = first ? Mapping::kTitle : Mapping::kLower;
    first = false;
    return mapping;
  });
}

std::string TitleWords(std::string_view text) {
  bool first = true;
  return Map(text, [&first](char32_t c) {
    const bool separates = IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    const Mapping mapping = first ? Mapping::kUpper : Mapping::kLower;
    first = separates;
    return mapping;
  });
}

std::string TitleLetters(std::string_view text) {
  bool after_letter = false;
  return Map(text, [&after_letter](char32_t c) {
    const Mapping mapping = after_letter ? Mapping::kLower : Mapping::kTitle;
    after_letter = HasCase(c);
    return mapping;
  });
}

bool IsAlpha(std::string_view text) { return All(text, IsLetter); }
bool IsAlnum(std::string_view text) {
  return All(text, [](char32_t c) {
    const utf8proc_category_t category = Category(c);
    return IsLetter(c) || category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
           category == UTF8PROC_CATEGORY_NO;
  });
}
bool IsDigit(std::string_view text) { return All(text, IsDigitCharacter); }
bool IsSpaceText(std::string_view text) { return All(text, IsSpace); }
bool IsLower(std::string_view text) { return OnlyCase(text, IsLowerCharacter); }
bool IsUpper(std::string_view text) { return OnlyCase(text, IsUpperCharacter); }

}  // namespace lorc::jinja
