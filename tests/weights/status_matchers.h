// Expectations on absl::Status.
#pragma once

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lorc::test {

inline const absl::Status& ToStatus(const absl::Status& status) { return status; }

template <typename T>
const absl::Status& ToStatus(const absl::StatusOr<T>& result) {
  return result.status();
}

// The code, and a message that contains every one of the parts.
MATCHER_P2(FailsWith, code, parts, "") {
  const absl::Status& status = ToStatus(arg);
  *result_listener << status.ToString();
  bool matches = status.code() == code;
  for (const std::string& part : std::vector<std::string>(parts))
    matches = matches && std::string(status.message()).find(part) != std::string::npos;
  return matches;
}

inline auto IsInvalid(std::vector<std::string> parts) {
  return FailsWith(absl::StatusCode::kInvalidArgument, std::move(parts));
}

inline auto IsUnimplemented(std::vector<std::string> parts) {
  return FailsWith(absl::StatusCode::kUnimplemented, std::move(parts));
}

}  // namespace lorc::test

#define EXPECT_OK(expression) \
  EXPECT_TRUE(::lorc::test::ToStatus(expression).ok()) << ::lorc::test::ToStatus(expression)
#define ASSERT_OK(expression) \
  ASSERT_TRUE(::lorc::test::ToStatus(expression).ok()) << ::lorc::test::ToStatus(expression)
