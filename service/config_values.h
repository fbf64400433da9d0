// Values as people write them in flags and YAML files, and back.
//
// Parsers return INVALID_ARGUMENT saying what was expected and what came.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace lorc {

absl::StatusOr<bool> ParseBool(const std::string& text);  // true or false
absl::StatusOr<int64_t> ParseInteger(const std::string& text);
absl::StatusOr<double> ParseNumber(const std::string& text);  // finite

// "1073741824", "1GiB", "1.5 GiB"; suffixes KiB, MiB, GiB, TiB, B. Not negative.
absl::StatusOr<int64_t> ParseBytes(const std::string& text);
// "30", "30s", "0.5s", "500ms", "2m", "1h"; nanoseconds, not negative.
absl::StatusOr<int64_t> ParseDuration(const std::string& text);

// As exact as the parser takes them back: "1GiB", "1000", "2m", "1.5s".
std::string FormatBytes(int64_t bytes);
std::string FormatDuration(int64_t ns);

// For people: "1.46 GiB", "123 B".
std::string RoundedBytes(int64_t bytes);

}  // namespace lorc
