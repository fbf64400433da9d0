// Files that commands write after minutes of work.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace lorc {

// Whether the file can be written, tried before the work: INVALID_ARGUMENT names the option.
absl::Status CheckOutputFile(const std::string& option, const std::string& path);

// Whole or not at all.
absl::Status WriteOutputFile(const std::string& path, std::string_view text);

}  // namespace lorc
