// Reading UTF-8 that may be broken: one step at a time, never past the end, never failing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lorc {

// U+FFFD, which stands for what is not UTF-8.
inline constexpr char32_t kReplacementCharacter = 0xFFFD;
inline constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";

enum class Utf8Kind : uint8_t {
  kValid,
  kInvalid,     // no continuation can make these bytes valid
  kIncomplete,  // the text ends within a character that is valid so far
};

struct Utf8Step {
  char32_t code_point = kReplacementCharacter;  // the replacement unless kValid
  int32_t size = 0;                             // bytes it takes, 1..4
  Utf8Kind kind = Utf8Kind::kInvalid;
};

// The first character of `text`, which is not empty. What is not UTF-8 comes in the largest parts
// that Unicode's chapter 3.9 ("maximal subparts") and Python's errors="replace" would each replace
// by one U+FFFD.
Utf8Step NextUtf8(std::string_view text);

// Appends the UTF-8 of `code_point`; U+FFFD if it is a surrogate or above U+10FFFF.
void AppendUtf8(char32_t code_point, std::string* out);

// The length of the longest prefix of `text` that is valid UTF-8.
int64_t ValidUtf8Prefix(std::string_view text);

}  // namespace lorc
