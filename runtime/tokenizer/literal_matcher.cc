#include "runtime/tokenizer/literal_matcher.h"

#include <algorithm>

namespace lorc {

LiteralMatcher::LiteralMatcher(std::vector<std::pair<std::string, TokenId>> literals)
    : literals_(std::move(literals)) {
  std::erase_if(literals_, [](const auto& literal) { return literal.first.empty(); });
  const auto by_text = [](const auto& a, const auto& b) { return a.first < b.first; };
  std::stable_sort(literals_.begin(), literals_.end(), by_text);
  const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
  literals_.erase(std::unique(literals_.begin(), literals_.end(), same), literals_.end());
  for (size_t i = 0; i < literals_.size(); ++i) {
    auto& range = ranges_[static_cast<uint8_t>(literals_[i].first[0])];
    if (range.second == 0) range.first = static_cast<int32_t>(i);
    range.second = static_cast<int32_t>(i) + 1;
  }
}

std::optional<LiteralMatcher::Match> LiteralMatcher::Find(std::string_view text,
                                                          size_t from) const {
  if (literals_.empty()) return std::nullopt;
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (ranges_[static_cast<uint8_t>(text[begin])].second == 0) continue;
    if (std::optional<Match> match = MatchAt(text, begin)) return match;
  }
  return std::nullopt;
}

// Narrows the range of literals that agree with the text byte by byte; a literal that ends within
// the range is its first, as shorter sorts before longer.
std::optional<LiteralMatcher::Match> LiteralMatcher::MatchAt(std::string_view text,
                                                             size_t begin) const {
  auto [first, last] = ranges_[static_cast<uint8_t>(text[begin])];
  std::optional<Match> longest;
  for (size_t length = 1; first < last; ++length) {
    if (literals_[first].first.size() == length) {
      longest = Match{begin, begin + length, literals_[first].second};
      ++first;
    }
    if (begin + length >= text.size()) break;
    const uint8_t next = static_cast<uint8_t>(text[begin + length]);
    const auto at = [length](const auto& literal) {
      return static_cast<uint8_t>(literal.first[length]);
    };
    const auto low = std::partition_point(literals_.begin() + first, literals_.begin() + last,
                                          [&](const auto& l) { return at(l) < next; });
    const auto high = std::partition_point(low, literals_.begin() + last,
                                           [&](const auto& l) { return at(l) == next; });
    first = static_cast<int32_t>(low - literals_.begin());
    last = static_cast<int32_t>(high - literals_.begin());
  }
  return longest;
}

}  // namespace lorc
