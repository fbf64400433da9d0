// Python's comparisons.
#pragma once

#include "service/chat_template/render_context.h"
#include "service/chat_template/value.h"

namespace lorc::jinja {

bool Equal(RenderContext& context, const Value& a, const Value& b);

// a < b; fails the render where Python has no order for them.
bool Less(RenderContext& context, const Value& a, const Value& b);

// a <= b, likewise.
bool AtMost(RenderContext& context, const Value& a, const Value& b);

// a < b for two numbers; false if one is not a number (NaN).
bool LessNumbers(const Value& a, const Value& b);

// `item in container`
bool Contains(RenderContext& context, const Value& container, const Value& item);

// May be a dictionary's key.
bool IsHashable(const Value& value);

// The dictionary's value for `key`, or nullptr.
const Value* Lookup(RenderContext& context, const Value& dict, const Value& key);
const Value* Lookup(RenderContext& context, const Value& dict, const std::string& key);

}  // namespace lorc::jinja
