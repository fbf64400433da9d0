// Puts characters together from bytes that come in parts.
#pragma once

#include <string>
#include <string_view>

namespace lorc {

class Utf8Assembler {
 public:
  // Appends to `text` every character that is certain with these bytes; what cannot become one is
  // U+FFFD. At most three bytes are kept for the next call.
  void Feed(std::string_view bytes, std::string* text);

  // Appends U+FFFD if a character was left unfinished.
  void Finish(std::string* text);

  bool has_unfinished() const { return !unfinished_.empty(); }

 private:
  std::string unfinished_;  // the valid beginning of a character
};

}  // namespace lorc
