#include "service/config_values.h"

#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

struct Unit {
  const char* suffix;
  double factor;
};

constexpr Unit kByteUnits[] = {{"TiB", 1099511627776.0},
                               {"GiB", 1073741824.0},
                               {"MiB", 1048576.0},
                               {"KiB", 1024.0},
                               {"B", 1.0},
                               {"", 1.0}};
constexpr Unit kTimeUnits[] = {{"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {"", 1e9}};

// A number with one of the suffixes, as a whole number of the smallest unit.
template <size_t kNumUnits>
absl::StatusOr<int64_t> ParseWithUnit(const std::string& text, const Unit (&units)[kNumUnits],
                                      const char* expected) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc() && std::isfinite(number) && number >= 0) {
    const char* suffix = rest;
    while (suffix != end && *suffix == ' ') ++suffix;
    for (const Unit& unit : units) {
      if (std::string(suffix, end) != unit.suffix) continue;
      const double value = number * unit.factor;
      if (value < 9e18) return static_cast<int64_t>(std::llround(value));
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("expected ", expected, ", got \"", text, "\""));
}

}  // namespace

absl::StatusOr<bool> ParseBool(const std::string& text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return absl::InvalidArgumentError(absl::StrCat("expected true or false, got \"", text, "\""));
}

absl::StatusOr<int64_t> ParseInteger(const std::string& text) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && rest == end) return value;
  return absl::InvalidArgumentError(absl::StrCat("expected a whole number, got \"", text, "\""));
}

absl::StatusOr<double> ParseNumber(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && rest == end && std::isfinite(value)) return value;
  return absl::InvalidArgumentError(absl::StrCat("expected a number, got \"", text, "\""));
}

absl::StatusOr<int64_t> ParseBytes(const std::string& text) {
  // Exact beyond what a double holds.
  if (const auto plain = ParseInteger(text); plain.ok() && *plain >= 0) return *plain;
  return ParseWithUnit(text, kByteUnits, "bytes as 1073741824, 512MiB or 1.5GiB");
}

absl::StatusOr<int64_t> ParseDuration(const std::string& text) {
  return ParseWithUnit(text, kTimeUnits, "a duration as 500ms, 30s, 2m or 1h");
}

std::string FormatBytes(int64_t bytes) {
  for (const Unit& unit : kByteUnits) {
    const auto factor = static_cast<int64_t>(unit.factor);
    if (factor > 1 && bytes > 0 && bytes % factor == 0) {
      return absl::StrCat(bytes / factor, unit.suffix);
    }
  }
  return absl::StrCat(bytes);
}

std::string FormatDuration(int64_t ns) {
  if (ns % 1'000'000'000 == 0) return absl::StrCat(ns / 1'000'000'000, "s");
  if (ns % 1'000'000 == 0) return absl::StrCat(ns / 1'000'000, "ms");
  return absl::StrFormat("%.9gs", static_cast<double>(ns) * 1e-9);
}

std::string RoundedBytes(int64_t bytes) {
  for (const Unit& unit : kByteUnits) {
    if (unit.factor > 1 && std::abs(static_cast<double>(bytes)) >= unit.factor) {
      return absl::StrFormat("%.2f %s", static_cast<double>(bytes) / unit.factor, unit.suffix);
    }
  }
  return absl::StrCat(bytes, " B");
}

}  // namespace lorc
