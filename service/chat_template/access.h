// What stands behind a dot or in brackets.
#pragma once

#include <string>

#include "service/chat_template/render_context.h"
#include "service/chat_template/value.h"

namespace lorc::jinja {

// `object.name`: a method or attribute first, then the dictionary's entry. Undefined if there is
// none; fails the render if `object` is undefined itself.
Value GetAttribute(RenderContext& context, const Value& object, const std::string& name);

// `object[key]`: the entry or element first, then the attribute.
Value GetItem(RenderContext& context, const Value& object, const Value& key);

// `object[start:stop:step]`, nullptr for what is left out.
Value GetSlice(RenderContext& context, const Value& object, const Value* start, const Value* stop,
               const Value* step);

// The elements that a for loop or a filter goes over: a list's, a dictionary's keys, a string's
// characters, none of an undefined value. Fails the render for anything else.
Value ToList(RenderContext& context, const Value& value);

// An element's attribute as filters name it ("a.b.0"), or the element itself for nullptr.
Value GetPath(RenderContext& context, const Value& item, const Value* path);

}  // namespace lorc::jinja
