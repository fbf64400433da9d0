// What a template may cost. A template comes with a model's files and a chat with a request:
// neither is trusted. All of these are far beyond what templates in use need.
#pragma once

#include <cstdint>

namespace lorc::jinja {

inline constexpr int64_t kMaxTemplateBytes = int64_t{1} << 20;

// Levels of the syntax tree: statements and expressions inside each other. Parsing recurses so
// deep.
inline constexpr int32_t kMaxNesting = 100;

// Evaluations inside each other, calls of macros included. Rendering recurses so deep.
inline constexpr int32_t kMaxDepth = 250;

// Lists and dictionaries inside each other. Printing, comparing and freeing values recurse so deep.
inline constexpr int32_t kMaxValueDepth = 64;

// As Jinja's sandbox.
inline constexpr int64_t kMaxRange = 100'000;

// Expressions and statements evaluated, list elements and dictionary entries touched.
inline constexpr int64_t kMaxSteps = 4'000'000;

// Bytes of all strings, lists and dictionaries made while rendering, freed or not.
inline constexpr int64_t kMaxBytes = int64_t{1} << 28;

// One string, the rendered text included.
inline constexpr int64_t kMaxStringBytes = int64_t{1} << 24;

}  // namespace lorc::jinja
