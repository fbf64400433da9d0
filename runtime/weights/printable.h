// Text that came from a file, made fit for an error message.
#pragma once

#include <string>
#include <string_view>

namespace lorc {

// In double quotes, control characters and invalid UTF-8 escaped, cut after 160 bytes.
std::string Printable(std::string_view text);

}  // namespace lorc
