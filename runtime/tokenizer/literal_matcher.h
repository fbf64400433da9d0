// Finds tokens that are written out in a text: at the first place where any begins, the longest.
//
// Constant after construction. Cost: the text's length times the longest literal's, at worst.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/sampling/sampling_params.h"

namespace lorc {

class LiteralMatcher {
 public:
  // Empty literals are left out; of equal ones the first counts.
  explicit LiteralMatcher(std::vector<std::pair<std::string, TokenId>> literals);

  struct Match {
    size_t begin = 0;
    size_t end = 0;
    TokenId token = kNoToken;
  };
  // The first match in text[from..].
  std::optional<Match> Find(std::string_view text, size_t from) const;

 private:
  std::optional<Match> MatchAt(std::string_view text, size_t begin) const;

  std::vector<std::pair<std::string, TokenId>> literals_;  // sorted by text
  // [first, last) of the literals that begin with a byte.
  std::array<std::pair<int32_t, int32_t>, 256> ranges_{};
};

}  // namespace lorc
