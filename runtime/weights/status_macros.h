// Early returns for absl::Status and absl::StatusOr.
#pragma once

#include <utility>

#include "absl/status/status.h"

#define LORC_RETURN_IF_ERROR(expression)                                                   \
  do {                                                                                     \
    if (absl::Status lorc_status_ = (expression); !lorc_status_.ok()) return lorc_status_; \
  } while (false)

// LORC_ASSIGN_OR_RETURN(auto x, F()): `x` is F()'s value, or the function returns its status.
// NOLINTBEGIN(bugprone-macro-parentheses): a target may be a declaration.
#define LORC_ASSIGN_OR_RETURN(target, expression) \
  LORC_ASSIGN_OR_RETURN_1_(target, expression, __LINE__)
#define LORC_ASSIGN_OR_RETURN_1_(target, expression, line) \
  LORC_ASSIGN_OR_RETURN_2_(target, expression, line)
#define LORC_ASSIGN_OR_RETURN_2_(target, expression, line)          \
  auto lorc_result_##line = (expression);                           \
  if (!lorc_result_##line.ok()) return lorc_result_##line.status(); \
  target = std::move(lorc_result_##line).value()
// NOLINTEND(bugprone-macro-parentheses)
