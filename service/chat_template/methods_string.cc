// Python's methods of str.
#include <string>

#include "absl/strings/str_cat.h"
#include "service/chat_template/access.h"
#include "service/chat_template/builtin.h"
#include "service/chat_template/limits.h"
#include "service/chat_template/text.h"

namespace lorc::jinja {
namespace {

const std::string& Self(const BuiltinCall& call) { return call.self.string(); }

// Pays for going over the whole text once.
void SpendSelf(const BuiltinCall& call) {
  call.context.Spend(static_cast<int64_t>(Self(call).size() / 256));
}

// Argument `index`, which must be a string; nullptr, and the render has failed, if not.
const std::string* StringArgument(const BuiltinCall& call, size_t index) {
  if (call[index].is_string()) return &call[index].string();
  call.context.Fail(absl::StrCat("a string method needs a string, not '", call[index].type(), "'"));
  return nullptr;
}

// An optional count; false, and the render has failed, if it is no integer.
bool CountArgument(const BuiltinCall& call, size_t index, int64_t* count) {
  *count = -1;
  if (!call.Has(index)) return true;
  if (call[index].is_integer()) {
    *count = call[index].integer();
    return true;
  }
  call.context.Fail(absl::StrCat("a count must be an integer, not '", call[index].type(), "'"));
  return false;
}

Value StripSides(const BuiltinCall& call, bool left, bool right) {
  const std::string* characters = nullptr;
  if (call.Has(0) && !call[0].is_none()) {
    characters = StringArgument(call, 0);
    if (characters == nullptr) return {};
  }
  return call.context.String(std::string(Strip(Self(call), characters, left, right)));
}
Value StripBoth(const BuiltinCall& call) { return StripSides(call, true, true); }
Value StripLeft(const BuiltinCall& call) { return StripSides(call, true, false); }
Value StripRight(const BuiltinCall& call) { return StripSides(call, false, true); }

Value Upper(const BuiltinCall& call) { return call.context.String(ToUpper(Self(call))); }
Value Lower(const BuiltinCall& call) { return call.context.String(ToLower(Self(call))); }
Value Capitalized(const BuiltinCall& call) { return call.context.String(Capitalize(Self(call))); }
Value Title(const BuiltinCall& call) { return call.context.String(TitleLetters(Self(call))); }

// startswith and endswith: a string or a tuple of them.
Value Affix(const BuiltinCall& call, bool (*has)(std::string_view, std::string_view)) {
  if (!call[0].is_tuple()) {
    const std::string* affix = StringArgument(call, 0);
    return affix == nullptr ? Value() : Value::Bool(has(Self(call), *affix));
  }
  for (const Value& affix : call[0].list()) {
    if (!call.context.Spend(1)) return {};
    if (!affix.is_string()) return call.context.Fail("a tuple of strings is needed");
    if (has(Self(call), affix.string())) return Value::Bool(true);
  }
  return Value::Bool(false);
}
Value StartsWith(const BuiltinCall& call) {
  return Affix(call, [](std::string_view text, std::string_view a) { return text.starts_with(a); });
}
Value EndsWith(const BuiltinCall& call) {
  return Affix(call, [](std::string_view text, std::string_view a) { return text.ends_with(a); });
}
Value RemovePrefix(const BuiltinCall& call) {
  const std::string* prefix = StringArgument(call, 0);
  if (prefix == nullptr || !Self(call).starts_with(*prefix)) return call.self;
  return call.context.String(Self(call).substr(prefix->size()));
}
Value RemoveSuffix(const BuiltinCall& call) {
  const std::string* suffix = StringArgument(call, 0);
  if (suffix == nullptr || !Self(call).ends_with(*suffix)) return call.self;
  return call.context.String(Self(call).substr(0, Self(call).size() - suffix->size()));
}

Value ReplaceIn(const BuiltinCall& call) {
  const std::string* old_text = StringArgument(call, 0);
  const std::string* new_text = StringArgument(call, 1);
  int64_t count = -1;
  if (old_text == nullptr || new_text == nullptr || !CountArgument(call, 2, &count)) return {};
  SpendSelf(call);
  return call.context.String(Replace(Self(call), *old_text, *new_text, count, kMaxStringBytes));
}

// The position in characters, -1 for npos.
Value Position(const BuiltinCall& call, size_t found) {
  if (found == std::string::npos) return Value::Int(-1);
  return Value::Int(CountCharacters(std::string_view(Self(call)).substr(0, found)));
}
Value FindFirstText(const BuiltinCall& call) {
  const std::string* needle = StringArgument(call, 0);
  if (needle == nullptr) return {};
  SpendSelf(call);
  return Position(call, Find(Self(call), *needle));
}
Value FindLastText(const BuiltinCall& call) {
  const std::string* needle = StringArgument(call, 0);
  if (needle == nullptr) return {};
  SpendSelf(call);
  return Position(call, FindLast(Self(call), *needle));
}
Value IndexOf(const BuiltinCall& call) {
  Value position = FindFirstText(call);
  if (call.context.ok() && position.integer() < 0) return call.context.Fail("substring not found");
  return position;
}
Value CountOf(const BuiltinCall& call) {
  const std::string* needle = StringArgument(call, 0);
  if (needle == nullptr) return {};
  SpendSelf(call);
  if (needle->empty()) return Value::Int(CountCharacters(Self(call)) + 1);
  int64_t count = 0;
  for (size_t at = Find(Self(call), *needle); at != std::string::npos;
       at = Find(Self(call), *needle, at + needle->size())) {
    ++count;
  }
  return Value::Int(count);
}

Value Parts(const BuiltinCall& call, const std::vector<std::string_view>& parts) {
  if (!call.context.Spend(static_cast<int64_t>(parts.size()))) return {};
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) {
    items.push_back(call.context.String(std::string(part)));
    if (!call.context.ok()) return {};
  }
  return call.context.List(std::move(items));
}
Value SplitText(const BuiltinCall& call, bool from_right) {
  int64_t max_split = -1;
  if (!CountArgument(call, 1, &max_split)) return {};
  SpendSelf(call);
  if (!call.Has(0) || call[0].is_none()) {
    if (from_right && max_split >= 0) {
      return call.context.Unimplemented("rsplit at whitespace with a count");
    }
    return Parts(call, SplitSpace(Self(call), max_split));
  }
  const std::string* separator = StringArgument(call, 0);
  if (separator == nullptr) return {};
  if (separator->empty()) return call.context.Fail("empty separator");
  return Parts(call, from_right ? SplitFromRight(Self(call), *separator, max_split)
                                : Split(Self(call), *separator, max_split));
}
Value SplitLeft(const BuiltinCall& call) { return SplitText(call, false); }
Value SplitRight(const BuiltinCall& call) { return SplitText(call, true); }
Value Lines(const BuiltinCall& call) {
  SpendSelf(call);
  return Parts(call, SplitLines(Self(call), call.Has(0) && call[0].IsTrue()));
}

Value JoinWith(const BuiltinCall& call) {
  const Value list = ToList(call.context, call[0]);
  if (!call.context.ok()) return {};
  std::string out;
  for (size_t i = 0; i < list.list().size() && call.context.Spend(1); ++i) {
    const Value& item = list.list()[i];
    if (!item.is_string()) {
      return call.context.Fail(
          absl::StrCat("join: item ", i, " is a '", item.type(), "', not a string"));
    }
    if (i > 0) out += Self(call);
    out += item.string();
    if (static_cast<int64_t>(out.size()) > kMaxStringBytes) break;
  }
  return call.context.String(std::move(out));
}

template <bool (*kIs)(std::string_view)>
Value Check(const BuiltinCall& call) {
  SpendSelf(call);
  return Value::Bool(kIs(Self(call)));
}

constexpr Builtin kTable[] = {
    {"capitalize", "", 0, Capitalized},
    {"count", "sub", 1, CountOf},
    {"endswith", "suffix", 1, EndsWith},
    {"find", "sub", 1, FindFirstText},
    {"index", "sub", 1, IndexOf},
    {"isalnum", "", 0, Check<IsAlnum>},
    {"isalpha", "", 0, Check<IsAlpha>},
    {"isdigit", "", 0, Check<IsDigit>},
    {"islower", "", 0, Check<IsLower>},
    {"isspace", "", 0, Check<IsSpaceText>},
    {"isupper", "", 0, Check<IsUpper>},
    {"join", "iterable", 1, JoinWith},
    {"lower", "", 0, Lower},
    {"lstrip", "chars", 0, StripLeft},
    {"removeprefix", "prefix", 1, RemovePrefix},
    {"removesuffix", "suffix", 1, RemoveSuffix},
    {"replace", "old new count", 2, ReplaceIn},
    {"rfind", "sub", 1, FindLastText},
    {"rsplit", "sep maxsplit", 0, SplitRight},
    {"rstrip", "chars", 0, StripRight},
    {"split", "sep maxsplit", 0, SplitLeft},
    {"splitlines", "keepends", 0, Lines},
    {"startswith", "prefix", 1, StartsWith},
    {"strip", "chars", 0, StripBoth},
    {"title", "", 0, Title},
    {"upper", "", 0, Upper},
};

}  // namespace

std::span<const Builtin> StringMethods() { return kTable; }

}  // namespace lorc::jinja
