#include "service/chat_template/compare.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "service/chat_template/text.h"

namespace lorc::jinja {
namespace {

using Kind = Value::Kind;

// Compares an integer with a float exactly: -1, 0 or 1; 2 if not a number.
int CompareMixed(int64_t a, double b) {
  if (std::isnan(b)) return 2;
  if (b >= 0x1p63) return -1;
  if (b < -0x1p63) return 1;
  const double floor = std::floor(b);
  const int64_t whole = static_cast<int64_t>(floor);
  if (a != whole) return a < whole ? -1 : 1;
  return b > floor ? -1 : 0;
}

int CompareNumbers(const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) {
    return a.integer() < b.integer() ? -1 : a.integer() > b.integer() ? 1 : 0;
  }
  if (a.is_integer()) return CompareMixed(a.integer(), b.number());
  if (b.is_integer()) {
    const int reversed = CompareMixed(b.integer(), a.number());
    return reversed == 2 ? 2 : -reversed;
  }
  if (std::isnan(a.number()) || std::isnan(b.number())) return 2;
  return a.number() < b.number() ? -1 : a.number() > b.number() ? 1 : 0;
}

bool EqualDicts(RenderContext& context, const Value& a, const Value& b) {
  if (a.dict().size() != b.dict().size()) return false;
  for (const auto& [key, value] : a.dict()) {
    const Value* other = Lookup(context, b, key);
    if (other == nullptr || !Equal(context, value, *other)) return false;
  }
  return true;
}

}  // namespace

bool Equal(RenderContext& context, const Value& a, const Value& b) {
  if (!context.Spend(1)) return false;
  if (a.is_number() && b.is_number()) return CompareNumbers(a, b) == 0;
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      return context.Spend(static_cast<int64_t>(a.string().size() / 1024)) &&
             a.string() == b.string();
    case Kind::kList: {
      if (a.is_tuple() != b.is_tuple() || a.list().size() != b.list().size()) return false;
      for (size_t i = 0; i < a.list().size(); ++i) {
        if (!Equal(context, a.list()[i], b.list()[i])) return false;
      }
      return true;
    }
    case Kind::kDict:
      return EqualDicts(context, a, b);
    case Kind::kNamespace:
      return a.name_space() == b.name_space();
    case Kind::kLoop:
      return a.loop() == b.loop();
    case Kind::kMacro:
      return a.macro() == b.macro();
    case Kind::kFunction:
      return a.function() == b.function();
    case Kind::kMethod:
      return a.method().function == b.method().function &&
             Equal(context, a.method().self, b.method().self);
    default:
      return false;
  }
}

bool LessNumbers(const Value& a, const Value& b) { return CompareNumbers(a, b) == -1; }

namespace {

// a < b, or a <= b.
bool Ordered(RenderContext& context, const Value& a, const Value& b, bool or_equal) {
  if (!context.Spend(1)) return false;
  if (a.is_number() && b.is_number()) {
    const int order = CompareNumbers(a, b);
    return order == -1 || (or_equal && order == 0);
  }
  if (a.is_string() && b.is_string()) {  // the order of UTF-8's bytes is that of code points
    const int64_t size = static_cast<int64_t>(std::min(a.string().size(), b.string().size()));
    if (!context.Spend(size / 1024)) return false;
    return or_equal ? a.string() <= b.string() : a.string() < b.string();
  }
  if (a.is_list() && b.is_list() && a.is_tuple() == b.is_tuple()) {
    const size_t size = std::min(a.list().size(), b.list().size());
    for (size_t i = 0; i < size && context.ok(); ++i) {
      if (!Equal(context, a.list()[i], b.list()[i])) {
        return Ordered(context, a.list()[i], b.list()[i], or_equal);
      }
    }
    return or_equal ? a.list().size() <= b.list().size() : a.list().size() < b.list().size();
  }
  if (a.is_undefined() || b.is_undefined()) {
    context.FailUndefined(a.is_undefined() ? a : b);
  } else {
    context.Fail(absl::StrCat("no order between '", a.type(), "' and '", b.type(), "'"));
  }
  return false;
}

}  // namespace

bool Less(RenderContext& context, const Value& a, const Value& b) {
  return Ordered(context, a, b, false);
}

bool AtMost(RenderContext& context, const Value& a, const Value& b) {
  return Ordered(context, a, b, true);
}

bool Contains(RenderContext& context, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kUndefined:
      return false;
    case Kind::kString:
      if (!item.is_string()) {
        context.Fail(absl::StrCat("'in <string>' requires a string, not '", item.type(), "'"));
        return false;
      }
      if (!context.Spend(static_cast<int64_t>(container.string().size() / 1024))) return false;
      return Find(container.string(), item.string()) != std::string::npos;
    case Kind::kList:
      for (const Value& element : container.list()) {
        if (Equal(context, element, item)) return true;
        if (!context.ok()) return false;
      }
      return false;
    case Kind::kDict:
      if (!IsHashable(item)) {
        context.Fail(absl::StrCat("unhashable type: '", item.type(), "'"));
        return false;
      }
      return Lookup(context, container, item) != nullptr;
    default:
      context.Fail(absl::StrCat("'", container.type(), "' is not a container"));
      return false;
  }
}

bool IsHashable(const Value& value) {
  if (value.is_tuple()) return std::all_of(value.list().begin(), value.list().end(), IsHashable);
  return !value.is_list() && !value.is_dict();
}

const Value* Lookup(RenderContext& context, const Value& dict, const Value& key) {
  for (const auto& [other, value] : dict.dict()) {
    if (Equal(context, other, key)) return &value;
    if (!context.ok()) return nullptr;
  }
  return nullptr;
}

const Value* Lookup(RenderContext& context, const Value& dict, const std::string& key) {
  if (!context.Spend(1 + static_cast<int64_t>(dict.dict().size() / 16))) return nullptr;
  for (const auto& [other, value] : dict.dict()) {
    if (other.is_string() && other.string() == key) return &value;
  }
  return nullptr;
}

}  // namespace lorc::jinja
