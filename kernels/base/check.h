// Invariant checks. A failed check is a bug in this program: it prints the expression, its values
// and the place, then aborts. Nothing that a request, a file or the environment can cause may reach
// one (use absl::Status there).
#pragma once

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

namespace lorc::internal {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* expression,
                                     const std::string& values) {
  std::fprintf(stderr, "%s:%d: check failed: %s%s%s\n", file, line, expression,
               values.empty() ? "" : " with ", values.c_str());
  std::abort();
}

template <typename A, typename B>
[[noreturn]] void CheckOpFailed(const char* file, int line, const char* expression, const A& a,
                                const B& b) {
  std::ostringstream values;
  values << a << " and " << b;
  CheckFailed(file, line, expression, values.str());
}

}  // namespace lorc::internal

#define LORC_CHECK(condition)                                            \
  do {                                                                   \
    if (!(condition)) [[unlikely]]                                       \
      ::lorc::internal::CheckFailed(__FILE__, __LINE__, #condition, {}); \
  } while (false)

#define LORC_CHECK_OP_(a, op, b)                                                                \
  do {                                                                                          \
    const auto& lorc_a_ = (a);                                                                  \
    const auto& lorc_b_ = (b);                                                                  \
    if (!(lorc_a_ op lorc_b_)) [[unlikely]]                                                     \
      ::lorc::internal::CheckOpFailed(__FILE__, __LINE__, #a " " #op " " #b, lorc_a_, lorc_b_); \
  } while (false)

#define LORC_CHECK_EQ(a, b) LORC_CHECK_OP_(a, ==, b)
#define LORC_CHECK_NE(a, b) LORC_CHECK_OP_(a, !=, b)
#define LORC_CHECK_LE(a, b) LORC_CHECK_OP_(a, <=, b)
#define LORC_CHECK_LT(a, b) LORC_CHECK_OP_(a, <, b)
#define LORC_CHECK_GE(a, b) LORC_CHECK_OP_(a, >=, b)
#define LORC_CHECK_GT(a, b) LORC_CHECK_OP_(a, >, b)
