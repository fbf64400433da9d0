#include "service/text_stream/stop_matcher.h"

#include <algorithm>

namespace lorc {

StopMatcher::StopMatcher(const std::vector<std::string>& strings) {
  for (const std::string& text : strings) {
    Pattern pattern{text, std::vector<int32_t>(text.size() + 1, 0), 0};
    int32_t length = 0;
    for (size_t end = 1; end < text.size(); ++end) {
      while (length > 0 && text[length] != text[end]) length = pattern.border[length];
      if (text[length] == text[end]) ++length;
      pattern.border[end + 1] = length;
    }
    patterns_.push_back(std::move(pattern));
  }
}

int32_t StopMatcher::Step(char byte) {
  int32_t longest = -1;
  pending_ = 0;
  for (size_t i = 0; i < patterns_.size(); ++i) {
    Pattern& pattern = patterns_[i];
    int32_t matched = pattern.matched;
    while (matched > 0 && pattern.text[matched] != byte) matched = pattern.border[matched];
    if (pattern.text[matched] == byte) ++matched;
    if (static_cast<size_t>(matched) == pattern.text.size()) {
      if (longest < 0 || matched > size(longest)) longest = static_cast<int32_t>(i);
      matched = pattern.border[matched];
    }
    pattern.matched = matched;
    pending_ = std::max(pending_, matched);
  }
  return longest;
}

}  // namespace lorc
