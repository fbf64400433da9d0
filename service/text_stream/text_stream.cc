#include "service/text_stream/text_stream.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/utf8.h"

namespace lorc {

absl::StatusOr<TextStream> TextStream::Create(const std::vector<std::string>& stop_strings) {
  if (stop_strings.size() > kMaxStopStrings) {
    return absl::InvalidArgumentError(
        absl::StrCat("stop_strings: ", stop_strings.size(), " given; at most ", kMaxStopStrings));
  }
  for (size_t i = 0; i < stop_strings.size(); ++i) {
    const std::string& text = stop_strings[i];
    if (text.empty() || text.size() > kMaxStopStringBytes) {
      return absl::InvalidArgumentError(absl::StrCat("stop_strings[", i, "]: ", text.size(),
                                                     " bytes; 1 to ", kMaxStopStringBytes,
                                                     " are allowed"));
    }
    if (static_cast<size_t>(ValidUtf8Prefix(text)) != text.size()) {
      return absl::InvalidArgumentError(absl::StrCat("stop_strings[", i, "] is not UTF-8"));
    }
  }
  return TextStream(StopMatcher(stop_strings));
}

std::string TextStream::Feed(std::string_view token_bytes, bool stop_allowed) {
  if (stop_) return {};
  const bool was_unfinished = assembler_.has_unfinished();
  std::string text;
  assembler_.Feed(token_bytes, &text);
  const int64_t text_begin = returned_ + static_cast<int64_t>(held_.size());
  if (was_unfinished && !text.empty()) {
    // The character that earlier tokens began is the first of the new text.
    CloseTokens(text_begin + NextUtf8(text).size);
  }
  token_ends_.push_back(kOpen);
  if (!assembler_.has_unfinished()) CloseTokens(text_begin + static_cast<int64_t>(text.size()));
  return Append(text, stop_allowed);
}

std::string TextStream::Finish() {
  if (stop_) return {};
  std::string text;
  assembler_.Finish(&text);
  CloseTokens(returned_ + static_cast<int64_t>(held_.size() + text.size()));
  std::string released = Append(text, true);
  if (!stop_) released += Release(returned_ + static_cast<int64_t>(held_.size()));
  return released;
}

// Tokens that end within the character that ends at `position` have their text there.
void TextStream::CloseTokens(int64_t position) {
  for (auto end = token_ends_.rbegin(); end != token_ends_.rend() && *end == kOpen; ++end) {
    *end = position;
  }
}

// Looks for stop strings in `text`, which is next, and returns what has become certain.
std::string TextStream::Append(std::string_view text, bool stop_allowed) {
  int64_t position = returned_ + static_cast<int64_t>(held_.size());
  held_.append(text);
  for (const char byte : text) {
    const int32_t stop = matcher_.Step(byte);
    ++position;
    if (stop < 0 || !stop_allowed) continue;
    stop_ = stop;
    std::string released = Release(position - matcher_.size(stop));
    held_.clear();
    token_ends_.clear();
    return released;
  }
  return Release(position - matcher_.pending());
}

// Returns the text up to `end` and counts the tokens that end there or before.
std::string TextStream::Release(int64_t end) {
  std::string released = held_.substr(0, static_cast<size_t>(end - returned_));
  held_.erase(0, released.size());
  returned_ = end;
  while (!token_ends_.empty() && token_ends_.front() != kOpen && token_ends_.front() <= end) {
    token_ends_.pop_front();
    ++tokens_returned_;
  }
  return released;
}

}  // namespace lorc
