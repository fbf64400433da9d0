// How values are written: Python's str and repr, and transformers' tojson.
#pragma once

#include <string>

#include "service/chat_template/render_context.h"
#include "service/chat_template/value.h"

namespace lorc::jinja {

// str(value). Fails the render for objects that have no text (namespaces, functions), and when the
// text grows beyond kMaxStringBytes.
std::string ToText(RenderContext& context, const Value& value);

// repr(value), likewise.
std::string ToRepr(RenderContext& context, const Value& value);

struct JsonOptions {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool has_indent = false;  // one item a line
  std::string indent;       // of each level
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

// json.dumps(value, ...). Fails the render for what JSON has no form for.
std::string ToJson(RenderContext& context, const Value& value, const JsonOptions& options);

// repr of a float: the shortest digits that read back as the same number.
std::string FloatText(double value);

}  // namespace lorc::jinja
