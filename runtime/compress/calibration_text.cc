#include "runtime/compress/calibration_text.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/utf8.h"

namespace lorc {
namespace {

constexpr int32_t kCountedTokens = 1024;  // of a window that counts as one
constexpr int32_t kLongestWindow = 4096;

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  std::error_code unknown;
  if (std::filesystem::is_directory(path, unknown)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected a text file, got a folder"));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file.is_open()) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open the text ", path));
  }
  std::ostringstream bytes;
  bytes << file.rdbuf();
  std::string text = std::move(bytes).str();
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": the file is empty"));
  if (text.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected a UTF-8 text, but the file is binary (it has NUL bytes)"));
  }
  if (const int64_t valid = ValidUtf8Prefix(text); valid < std::ssize(text)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected a UTF-8 text, but byte ",
                                                   valid, " is none; convert it, with iconv say"));
  }
  return text;
}

TokenWindows CutWindows(const std::vector<TokenId>& tokens, int32_t window) {
  TokenWindows windows;
  for (int64_t begin = 0; begin + window <= std::ssize(tokens); begin += window) {
    windows.emplace_back(tokens.begin() + begin, tokens.begin() + begin + window);
  }
  return windows;
}

TokenWindows JoinTexts(const TokenWindows& texts, int32_t window) {
  std::vector<TokenId> tokens;
  for (const std::vector<TokenId>& text : texts) {
    tokens.insert(tokens.end(), text.begin() + 1, text.end());
  }
  return CutWindows(tokens, window);
}

int32_t WindowsInPlaceOf(int32_t count, int32_t window) {
  if (window <= kCountedTokens) return count;
  const int64_t tokens = int64_t{count} * kCountedTokens;
  return std::max(std::min(count, 2), static_cast<int32_t>((tokens + window - 1) / window));
}

int32_t LongestWindow(int64_t text_tokens, int32_t calibration_windows, int32_t context_length) {
  for (int32_t window = kLongestWindow; window > kCountedTokens; window /= 2) {
    const int64_t needed = WindowsInPlaceOf(calibration_windows, window) + 2;
    if (window <= context_length && needed * window <= text_tokens) return window;
  }
  return std::min(kCountedTokens, context_length);
}

TokenWindows RepeatBeginnings(TokenWindows windows) {
  for (std::vector<TokenId>& window : windows) {
    const int64_t passage = std::ssize(window) * 5 / 16;
    std::copy_n(window.begin(), passage, window.end() - passage);
  }
  return windows;
}

absl::StatusOr<SplitText> SplitWindows(const TokenWindows& windows, int32_t window,
                                       int32_t calibration_windows, int32_t measure_windows) {
  const auto available = static_cast<int32_t>(windows.size());
  if (available < 2) {
    return absl::FailedPreconditionError(
        absl::StrCat("the calibration text has ", available, " whole windows of ", window,
                     " tokens; at least 2 are needed, one to calibrate and one to measure: give a "
                     "longer text or a smaller --window"));
  }
  const int32_t most = std::max(1, available - std::max(1, available / 4));
  const int32_t count = std::min(calibration_windows, most);
  const int32_t stride = std::max(1, available / count);
  SplitText split;
  int32_t measured = 0;
  for (int32_t i = 0; i < available; ++i) {
    if (i % stride == 0 && std::ssize(split.calibration) < count) {
      split.calibration.push_back(windows[i]);
    } else if (measured < measure_windows) {
      split.measuring.insert(split.measuring.end(), windows[i].begin(), windows[i].end());
      ++measured;
    }
  }
  return split;
}

}  // namespace lorc
