#include "service/chat_template/text.h"

#include <string.h>  // memmem

#include <algorithm>
#include <set>

#include "runtime/tokenizer/utf8.h"

namespace lorc::jinja {
namespace {

// The character before text[end].
Utf8Step LastCharacter(std::string_view text, size_t end) {
  for (size_t size = std::min<size_t>(4, end); size > 1; --size) {
    const Utf8Step step = NextUtf8(text.substr(end - size, size));
    if (step.kind == Utf8Kind::kValid && static_cast<size_t>(step.size) == size) return step;
  }
  return NextUtf8(text.substr(end - 1, 1)).code_point < 0x80
             ? NextUtf8(text.substr(end - 1, 1))
             : Utf8Step{kReplacementCharacter, 1, Utf8Kind::kInvalid};
}

// One character from the front; a byte that begins none stands alone.
Utf8Step FirstCharacter(std::string_view text) {
  Utf8Step step = NextUtf8(text);
  if (step.kind != Utf8Kind::kValid) step.size = 1;
  return step;
}

}  // namespace

std::vector<int64_t> CharacterOffsets(std::string_view text) {
  std::vector<int64_t> offsets;
  size_t at = 0;
  while (at < text.size()) {
    offsets.push_back(static_cast<int64_t>(at));
    at += FirstCharacter(text.substr(at)).size;
  }
  offsets.push_back(static_cast<int64_t>(at));
  return offsets;
}

int64_t CountCharacters(std::string_view text) {
  int64_t count = 0;
  for (size_t at = 0; at < text.size(); ++count) at += FirstCharacter(text.substr(at)).size;
  return count;
}

bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string_view Strip(std::string_view text, const std::string* characters, bool left,
                       bool right) {
  std::set<char32_t> stripped;
  if (characters != nullptr) {
    for (std::string_view rest = *characters; !rest.empty();) {
      const Utf8Step step = FirstCharacter(rest);
      stripped.insert(step.code_point);
      rest.remove_prefix(step.size);
    }
  }
  const auto strips = [&](const Utf8Step& step) {
    if (characters == nullptr) return step.kind == Utf8Kind::kValid && IsSpace(step.code_point);
    return stripped.contains(step.code_point);
  };
  while (left && !text.empty()) {
    const Utf8Step step = FirstCharacter(text);
    if (!strips(step)) break;
    text.remove_prefix(step.size);
  }
  while (right && !text.empty()) {
    const Utf8Step step = LastCharacter(text, text.size());
    if (!strips(step)) break;
    text.remove_suffix(step.size);
  }
  return text;
}

size_t Find(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

size_t FindLast(std::string_view text, std::string_view needle) {
  const std::string reversed_text(text.rbegin(), text.rend());
  const std::string reversed_needle(needle.rbegin(), needle.rend());
  const size_t found = Find(reversed_text, reversed_needle);
  return found == std::string_view::npos ? found : text.size() - found - needle.size();
}

std::string Replace(std::string_view text, std::string_view old_text, std::string_view new_text,
                    int64_t count, int64_t max_bytes) {
  std::string out;
  const auto full = [&] { return static_cast<int64_t>(out.size()) > max_bytes; };
  size_t at = 0;
  // An empty text is found before every character and at the end.
  for (; count != 0 && !full(); --count) {
    size_t found = Find(text, old_text, at);
    if (found == std::string_view::npos) break;
    out.append(text.substr(at, found - at)).append(new_text);
    at = found + old_text.size();
    if (!old_text.empty()) continue;
    if (at == text.size()) return out;
    const size_t size = FirstCharacter(text.substr(at)).size;
    out.append(text.substr(at, size));
    at += size;
  }
  return full() ? out : out.append(text.substr(at));
}

std::vector<std::string_view> Split(std::string_view text, std::string_view separator,
                                    int64_t max_split) {
  std::vector<std::string_view> parts;
  size_t at = 0;
  for (; max_split != 0; --max_split) {
    const size_t found = Find(text, separator, at);
    if (found == std::string_view::npos) break;
    parts.push_back(text.substr(at, found - at));
    at = found + separator.size();
  }
  parts.push_back(text.substr(at));
  return parts;
}

std::vector<std::string_view> SplitFromRight(std::string_view text, std::string_view separator,
                                             int64_t max_split) {
  const std::string reversed_text(text.rbegin(), text.rend());
  const std::string reversed_separator(separator.rbegin(), separator.rend());
  std::vector<std::string_view> parts;
  size_t end = text.size();
  for (const std::string_view part : Split(reversed_text, reversed_separator, max_split)) {
    parts.push_back(text.substr(end - part.size(), part.size()));
    end -= std::min(end, part.size() + separator.size());
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> SplitSpace(std::string_view text, int64_t max_split) {
  std::vector<std::string_view> parts;
  text = Strip(text, nullptr, true, false);
  while (!text.empty()) {
    if (max_split-- == 0) {
      parts.push_back(text);
      break;
    }
    size_t end = 0;
    while (end < text.size()) {
      const Utf8Step step = FirstCharacter(text.substr(end));
      if (step.kind == Utf8Kind::kValid && IsSpace(step.code_point)) break;
      end += step.size;
    }
    parts.push_back(text.substr(0, end));
    text = Strip(text.substr(end), nullptr, true, false);
  }
  return parts;
}

std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = FirstCharacter(text.substr(at));
    const char32_t c = step.code_point;
    size_t end = at + step.size;
    if ((c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
        c == 0x2029) {
      if (c == '\r' && end < text.size() && text[end] == '\n') ++end;
      lines.push_back(text.substr(begin, (keep_ends ? end : at) - begin));
      begin = end;
    }
    at = end;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

}  // namespace lorc::jinja
