// Python's str, over UTF-8: lengths, positions and classes are those of code points. Bytes that are
// not UTF-8 count as one character each and are left as they are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lorc::jinja {

// Where each character begins, and last the text's size.
std::vector<int64_t> CharacterOffsets(std::string_view text);
int64_t CountCharacters(std::string_view text);

bool IsSpace(char32_t character);      // str.isspace
bool IsPrintable(char32_t character);  // str.isprintable

// The text without the characters of `characters` (whitespace if nullptr) at its ends.
std::string_view Strip(std::string_view text, const std::string* characters, bool left, bool right);

// Case mappings are those of single characters (Unicode's simple mappings, and "SS" for "ß").
std::string ToUpper(std::string_view text);
std::string ToLower(std::string_view text);
std::string Capitalize(std::string_view text);
std::string TitleWords(std::string_view text);    // Jinja's title filter
std::string TitleLetters(std::string_view text);  // str.title

// str.isalpha and so on: not empty, and all characters are so.
bool IsAlpha(std::string_view text);
bool IsAlnum(std::string_view text);
bool IsDigit(std::string_view text);
bool IsSpaceText(std::string_view text);
// str.islower, str.isupper: some characters have case, and all of those this one.
bool IsLower(std::string_view text);
bool IsUpper(std::string_view text);

// Byte position of the first or last `needle`, npos if there is none; linear in both lengths. An
// empty needle is found at once.
size_t Find(std::string_view text, std::string_view needle, size_t from = 0);
size_t FindLast(std::string_view text, std::string_view needle);

// At most `count` replacements, all if negative. Bytes of the result are bounded by `max_bytes`:
// a longer one is cut there, and has more bytes than that.
std::string Replace(std::string_view text, std::string_view old_text, std::string_view new_text,
                    int64_t count, int64_t max_bytes);

// str.split and str.rsplit with a separator (not empty), str.split without one, str.splitlines.
std::vector<std::string_view> Split(std::string_view text, std::string_view separator,
                                    int64_t max_split);
std::vector<std::string_view> SplitFromRight(std::string_view text, std::string_view separator,
                                             int64_t max_split);
std::vector<std::string_view> SplitSpace(std::string_view text, int64_t max_split);
std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends);

}  // namespace lorc::jinja
