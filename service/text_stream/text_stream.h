// A request's text, token by token: valid UTF-8 as early as it is certain, cut at a stop string.
//
// Text is what Python's decode("utf-8", errors="replace") makes of all tokens' bytes: what is not
// UTF-8 becomes U+FFFD. Held back is only what the next token may change: an unfinished character,
// and the longest end of the text that a stop string may begin with.
//
// A stop string is found in that text, wherever tokens end. The one that is complete first counts;
// of those complete at the same byte, the longest, which hides most. So what is returned does not
// depend on how the text is cut into tokens, and a stop is known with the token that completes it.
//
// One request's object: not for several threads at once. Cost is linear in the text, about one step
// per byte and stop string.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "service/text_stream/stop_matcher.h"
#include "service/text_stream/utf8_assembler.h"

namespace lorc {

class TextStream {
 public:
  static constexpr size_t kMaxStopStrings = 16;
  static constexpr size_t kMaxStopStringBytes = 256;

  // INVALID_ARGUMENT if there are too many stop strings, or one is empty, too long or not UTF-8.
  static absl::StatusOr<TextStream> Create(const std::vector<std::string>& stop_strings);

  // The next token's bytes (none for a token that has no text); returns the text that is now
  // certain, often none. Without `stop_allowed`, a stop string that this token completes is text;
  // one that it begins may still be completed by a later token. After a stop nothing is returned.
  std::string Feed(std::string_view token_bytes, bool stop_allowed = true);

  // No token follows: returns what was held back. An unfinished character becomes U+FFFD.
  std::string Finish();

  // The index of the stop string that ended the text. Once set, nothing changes any more.
  std::optional<int32_t> stop() const { return stop_; }

  // How many of the tokens fed have all of their text in what has been returned; after a stop these
  // are the tokens wholly before it. A token within an unfinished character has that character's
  // text.
  int64_t tokens_returned() const { return tokens_returned_; }

 private:
  static constexpr int64_t kOpen = -1;  // a token whose last character is unfinished

  explicit TextStream(StopMatcher matcher) : matcher_(std::move(matcher)) {}
  void CloseTokens(int64_t position);
  std::string Append(std::string_view text, bool stop_allowed);
  std::string Release(int64_t end);

  Utf8Assembler assembler_;
  StopMatcher matcher_;
  std::optional<int32_t> stop_;
  // Positions are bytes of the text since its beginning.
  std::string held_;                // text not returned, from returned_ on
  int64_t returned_ = 0;            // end of the text that was returned
  std::deque<int64_t> token_ends_;  // where the text of each token not yet returned ends, or kOpen
  int64_t tokens_returned_ = 0;
};

}  // namespace lorc
