// Filters over text.
#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "service/chat_template/builtin.h"
#include "service/chat_template/limits.h"
#include "service/chat_template/printing.h"
#include "service/chat_template/text.h"

namespace lorc::jinja {
namespace {

constexpr int64_t kMaxIndent = 1024;

// The text that a filter is applied to, paid for once more as what it makes.
std::string Text(const BuiltinCall& call) {
  std::string text = ToText(call.context, call.self);
  call.context.SpendBytes(static_cast<int64_t>(text.size()));
  return text;
}

Value Capitalized(const BuiltinCall& call) { return call.context.String(Capitalize(Text(call))); }
Value Lower(const BuiltinCall& call) { return call.context.String(ToLower(Text(call))); }
Value Title(const BuiltinCall& call) { return call.context.String(TitleWords(Text(call))); }
Value Upper(const BuiltinCall& call) { return call.context.String(ToUpper(Text(call))); }

Value ToString(const BuiltinCall& call) {
  return call.self.is_string() ? call.self : call.context.String(Text(call));
}

Value Trim(const BuiltinCall& call) {
  const std::string* characters = nullptr;
  if (call.Has(0) && !call[0].is_none()) {
    if (!call[0].is_string()) return call.context.Fail("trim: characters must be a string");
    characters = &call[0].string();
  }
  return call.context.String(std::string(Strip(Text(call), characters, true, true)));
}

Value ReplaceText(const BuiltinCall& call) {
  int64_t count = -1;
  if (call.Has(2) && !call[2].is_none()) {
    if (!call[2].is_integer()) return call.context.Fail("replace: count must be an integer");
    count = call[2].integer();
  }
  return call.context.String(Replace(Text(call), ToText(call.context, call[0]),
                                     ToText(call.context, call[1]), count, kMaxStringBytes));
}

// The text of an indent given as a width or as itself. False, and the render has failed, if it is
// neither.
bool ReadIndent(const BuiltinCall& call, const Value& value, std::string* indent) {
  if (value.is_string() && static_cast<int64_t>(value.string().size()) <= kMaxIndent) {
    *indent = value.string();
    return true;
  }
  if (value.is_integer() && value.integer() <= kMaxIndent) {
    indent->assign(static_cast<size_t>(std::max<int64_t>(0, value.integer())), ' ');
    return true;
  }
  call.context.Fail(absl::StrCat("an indent is a string or a number up to ", kMaxIndent));
  return false;
}

Value Indent(const BuiltinCall& call) {
  if (call.self.is_undefined()) return call.context.FailUndefined(call.self);
  if (!call.self.is_string()) return call.context.Fail("indent: needs a string");
  std::string indent(4, ' ');
  if (call.Has(0) && !ReadIndent(call, call[0], &indent)) return {};
  const bool first = call.Has(1) && call[1].IsTrue();
  const bool blank = call.Has(2) && call[2].IsTrue();
  const std::string text = Text(call) + "\n";
  std::string out;
  bool is_first = true;
  for (const std::string_view line : SplitLines(text, false)) {
    if (!is_first) out += "\n";
    if (is_first ? first : blank || !line.empty()) out += indent;
    out += line;
    is_first = false;
    if (static_cast<int64_t>(out.size()) > kMaxStringBytes) break;
  }
  return call.context.String(std::move(out));
}

Value Json(const BuiltinCall& call) {
  JsonOptions options;
  options.ensure_ascii = call.Has(0) && call[0].IsTrue();
  if (call.Has(1) && !call[1].is_none()) {
    if (!ReadIndent(call, call[1], &options.indent)) return {};
    options.has_indent = true;
    options.item_separator.assign(1, ',');
  }
  if (call.Has(2) && !call[2].is_none()) {
    const Value& separators = call[2];
    if (!separators.is_list() || separators.list().size() != 2 ||
        !separators.list()[0].is_string() || !separators.list()[1].is_string()) {
      return call.context.Fail("tojson: separators must be two strings");
    }
    options.item_separator = separators.list()[0].string();
    options.key_separator = separators.list()[1].string();
  }
  options.sort_keys = call.Has(3) && call[3].IsTrue();
  return call.context.String(ToJson(call.context, call.self, options));
}

// Nothing is escaped here, so nothing needs to be marked.
Value Safe(const BuiltinCall& call) { return ToString(call); }

constexpr Builtin kTable[] = {
    {"capitalize", "", 0, Capitalized},
    {"indent", "width first blank", 0, Indent},
    {"lower", "", 0, Lower},
    {"replace", "old new count", 2, ReplaceText},
    {"safe", "", 0, Safe},
    {"string", "", 0, ToString},
    {"title", "", 0, Title},
    {"tojson", "ensure_ascii indent separators sort_keys", 0, Json},
    {"trim", "chars", 0, Trim},
    {"upper", "", 0, Upper},
};

}  // namespace

std::span<const Builtin> TextFilters() { return kTable; }

}  // namespace lorc::jinja
