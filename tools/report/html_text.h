// Any bytes as text of an HTML or SVG document.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lorc {

// &, <, > and quotes become entities; what is not UTF-8, and control characters but for line breaks
// and tabs, U+FFFD. Fit for content and for quoted attributes.
std::string EscapeHtml(std::string_view text);

// Characters (code points) of valid UTF-8.
int64_t NumCharacters(std::string_view text);

}  // namespace lorc
