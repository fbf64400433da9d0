// The two kinds of failure of a template, each with its line.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lorc::jinja {

// The template or the chat is at fault.
inline absl::Status InvalidAt(int32_t line, const std::string& message) {
  return absl::InvalidArgumentError(absl::StrCat("chat template, line ", line, ": ", message));
}

// The template uses what this interpreter lacks.
inline absl::Status UnimplementedAt(int32_t line, const std::string& construct) {
  return absl::UnimplementedError(
      absl::StrCat("chat template, line ", line, ": ", construct, " is not supported"));
}

}  // namespace lorc::jinja
