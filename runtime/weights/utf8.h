// Whether a file's bytes are text.
#pragma once

#include <string_view>

namespace lorc {

// Well-formed UTF-8 (Unicode 15, table 3-7): no overlong forms, no surrogates, nothing past
// U+10FFFF.
bool IsUtf8(std::string_view bytes);

}  // namespace lorc
