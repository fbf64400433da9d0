// Looks for several strings in a text at once, byte by byte (Knuth, Morris, Pratt: one small
// automaton for each).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lorc {

class StopMatcher {
 public:
  // None of `strings` is empty.
  explicit StopMatcher(const std::vector<std::string>& strings);

  // Takes the text's next byte. Returns the index of the longest string that ends with it (of equal
  // ones the first), or -1.
  int32_t Step(char byte);

  // How many bytes at the text's end may be the beginning of a string, a whole one excluded.
  int32_t pending() const { return pending_; }

  int32_t size(int32_t index) const { return static_cast<int32_t>(patterns_[index].text.size()); }

 private:
  struct Pattern {
    std::string text;
    // border[n]: the longest proper prefix of text[0, n) that is also its end.
    std::vector<int32_t> border;
    int32_t matched = 0;  // the longest prefix that the text ends with, less than the whole
  };
  std::vector<Pattern> patterns_;
  int32_t pending_ = 0;
};

}  // namespace lorc
