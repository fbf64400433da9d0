// Sorting that a template's values can't confuse.
#pragma once

#include <cstdint>
#include <vector>

#include "service/chat_template/render_context.h"
#include "service/chat_template/value.h"

namespace lorc::jinja {

// The positions of `keys` in ascending order, stable. Fails the render (and returns nothing) unless
// the keys are all strings, all numbers, all none or all undefined.
std::vector<int64_t> SortedPositions(RenderContext& context, const std::vector<Value>& keys,
                                     bool reverse);

}  // namespace lorc::jinja
