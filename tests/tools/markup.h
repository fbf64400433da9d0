// What tests ask of HTML and SVG.
#pragma once

#include <regex>
#include <string>
#include <vector>

namespace lorc::test {

// What is wrong with the elements' nesting or the quotes of attributes; empty: nothing.
inline std::string Malformed(const std::string& text) {
  static const std::regex kTag(
      R"(<(/?)([a-zA-Z][a-zA-Z0-9]*)((?:\s+[a-zA-Z0-9:-]+="[^"<>]*")*)\s*(/?)>)");
  std::vector<std::string> open;
  for (size_t at = text.find('<'); at != std::string::npos; at = text.find('<', at)) {
    if (text.compare(at, 15, "<!DOCTYPE html>") == 0) {
      at += 15;
      continue;
    }
    std::smatch match;
    if (!std::regex_search(text.begin() + static_cast<int64_t>(at), text.end(), match, kTag,
                           std::regex_constants::match_continuous)) {
      return "no tag: " + text.substr(at, 60);
    }
    if (match[1].length() > 0) {
      if (open.empty() || open.back() != match[2]) return "closes what is not open: " + match.str();
      open.pop_back();
    } else if (match[4].length() == 0 && match[2] != "meta") {
      open.push_back(match[2]);
    }
    at += match.length();
  }
  return open.empty() ? "" : "never closed: " + open.back();
}

inline int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace lorc::test
