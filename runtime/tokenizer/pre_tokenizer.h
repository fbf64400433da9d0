// Cuts text into the pieces within which byte pairs are merged.
//
// A pre-tokenizer is a list of patterns; each cuts every piece that the one before it left, without
// looking beyond that piece. Matches and what lies between them are pieces. Letters, numbers and
// spaces are those of the Unicode version that PCRE2 was built with (14 in PCRE2 10.42): what was
// assigned later counts as punctuation.
//
// Constant after construction: Split may be called from any thread at once.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lorc {

class PreTokenizer {
 public:
  // `name` is one of the table in the .cc file; INVALID_ARGUMENT lists them.
  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(const std::string& name);

  ~PreTokenizer();
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;

  // Appends the pieces of `text`: views into it, none empty, together the whole text. Bytes that
  // are not UTF-8 are set apart first: every longest run of them is one piece, and the text before
  // and after it is cut as if it stood alone. A text on which a pattern reaches its match limit (no
  // known pattern does) is left whole from there on.
  void Split(std::string_view text, std::vector<std::string_view>* pieces) const;

 private:
  class Pattern;
  class Search;
  PreTokenizer();
  void SplitValid(const Search& search, std::string_view text, size_t stage,
                  std::vector<std::string_view>* pieces) const;
  std::vector<std::unique_ptr<Pattern>> stages_;
};

}  // namespace lorc
