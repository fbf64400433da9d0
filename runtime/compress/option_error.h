// What is wrong with an option, in the one form that all commands have.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lorc {

// INVALID_ARGUMENT: "--option: expected this, got that".
inline absl::Status Expected(const char* option, const std::string& expected,
                             const absl::AlphaNum& came) {
  return absl::InvalidArgumentError(
      absl::StrCat("--", option, ": expected ", expected, ", got ", came));
}

}  // namespace lorc
