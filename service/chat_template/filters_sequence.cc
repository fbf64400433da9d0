// Filters over lists and dictionaries.
#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "service/chat_template/access.h"
#include "service/chat_template/builtin.h"
#include "service/chat_template/errors.h"
#include "service/chat_template/limits.h"
#include "service/chat_template/printing.h"
#include "service/chat_template/text.h"

namespace lorc::jinja {
namespace {

using Kind = Value::Kind;

Value Default(const BuiltinCall& call) {
  const bool by_truth = call.Has(1) && call[1].IsTrue();
  if (!call.self.is_undefined() && !(by_truth && !call.self.IsTrue())) return call.self;
  return call.Has(0) ? call[0] : Value::String("");
}

Value Length(const BuiltinCall& call) {
  switch (call.self.kind()) {
    case Kind::kUndefined:
      return Value::Int(0);
    case Kind::kString:
      call.context.Spend(static_cast<int64_t>(call.self.string().size() / 256));
      return Value::Int(CountCharacters(call.self.string()));
    case Kind::kList:
      return Value::Int(static_cast<int64_t>(call.self.list().size()));
    case Kind::kDict:
      return Value::Int(static_cast<int64_t>(call.self.dict().size()));
    default:
      return call.context.Fail(absl::StrCat("'", call.self.type(), "' has no length"));
  }
}

Value First(const BuiltinCall& call) {
  const Value list = ToList(call.context, call.self);
  if (!call.context.ok()) return {};
  return list.list().empty() ? Value::Undefined("no first item, the sequence was empty")
                             : list.list().front();
}

Value Last(const BuiltinCall& call) {
  const Value list = ToList(call.context, call.self);
  if (!call.context.ok()) return {};
  return list.list().empty() ? Value::Undefined("no last item, the sequence was empty")
                             : list.list().back();
}

Value Join(const BuiltinCall& call) {
  const Value list = ToList(call.context, call.self);
  if (!call.context.ok()) return {};
  const std::string separator = call.Has(0) ? ToText(call.context, call[0]) : "";
  const Value* path = call.Has(1) ? &call[1] : nullptr;
  std::string out;
  for (size_t i = 0; i < list.list().size() && call.context.Spend(1); ++i) {
    if (i > 0) out += separator;
    out += ToText(call.context, GetPath(call.context, list.list()[i], path));
    if (static_cast<int64_t>(out.size()) > kMaxStringBytes) break;
  }
  return call.context.String(std::move(out));
}

Value Items(const BuiltinCall& call) {
  std::vector<Value> items;
  if (call.self.is_undefined()) return call.context.List({});
  if (!call.self.is_dict()) return call.context.Fail("items: not a dictionary");
  for (const auto& [key, value] : call.self.dict()) {
    items.push_back(call.context.List({key, value}, true));
  }
  return call.context.List(std::move(items));
}

Value AsList(const BuiltinCall& call) {
  Value list = ToList(call.context, call.self);
  if (!call.context.ok() || !list.is_tuple()) return list;
  return call.context.List(list.list());
}

Value Reverse(const BuiltinCall& call) {
  if (call.self.is_string()) {
    const Value step = Value::Int(-1);
    return GetSlice(call.context, call.self, nullptr, nullptr, &step);
  }
  const Value list = ToList(call.context, call.self);
  if (!call.context.ok()) return {};
  return call.context.List({list.list().rbegin(), list.list().rend()});
}

// The first positional argument as a name, the rest as arguments.
const Builtin* NamedBuiltin(const BuiltinCall& call, size_t index, bool is_test,
                            Arguments* arguments) {
  const Value& name = call.all.positional[index];
  const Builtin* found = nullptr;
  if (name.is_string()) found = is_test ? FindTest(name.string()) : FindFilter(name.string());
  if (found == nullptr) {
    call.context.Unimplemented(
        absl::StrCat(is_test ? "the test '" : "the filter '", ToText(call.context, name), "'"));
    return nullptr;
  }
  arguments->positional.assign(call.all.positional.begin() + static_cast<int64_t>(index) + 1,
                               call.all.positional.end());
  arguments->named = call.all.named;
  return found;
}

// map(attribute=path, default=value)
Value MapAttribute(const BuiltinCall& call, const Value& list) {
  const Value* path = nullptr;
  const Value* if_undefined = nullptr;
  for (const auto& [name, value] : call.all.named) {
    if (name == "attribute") path = &value;
    if (name == "default") if_undefined = &value;
    if (name != "attribute" && name != "default") {
      return call.context.Fail(absl::StrCat("map: unexpected argument '", name, "'"));
    }
  }
  if (path == nullptr) return call.context.Fail("map: needs a filter or an attribute");
  std::vector<Value> out;
  for (const Value& item : list.list()) {
    if (!call.context.Spend(1)) return {};
    Value value = GetPath(call.context, item, path);
    out.push_back(value.is_undefined() && if_undefined != nullptr ? *if_undefined : value);
  }
  return call.context.List(std::move(out));
}

Value Map(const BuiltinCall& call) {
  if (!call.self.IsTrue()) return call.context.List({});
  const Value list = ToList(call.context, call.self);
  if (!call.context.ok()) return {};
  if (call.all.positional.empty()) return MapAttribute(call, list);
  Arguments arguments;
  const Builtin* filter = NamedBuiltin(call, 0, false, &arguments);
  if (filter == nullptr) return {};
  const RenderContext::Level level(&call.context);  // map('map', 'map', ...)
  std::vector<Value> out;
  for (const Value& item : list.list()) {
    if (!call.context.ok()) return {};
    out.push_back(Call(*filter, call.context, item, arguments));
  }
  return call.context.List(std::move(out));
}

// The elements for which a test (truth, if none is named) of them or their attribute is `wanted`.
Value Choose(const BuiltinCall& call, bool by_attribute, bool wanted) {
  if (!call.self.IsTrue()) return call.context.List({});
  const Value list = ToList(call.context, call.self);
  if (!call.context.ok()) return {};
  if (by_attribute && call.all.positional.empty()) {
    return call.context.Fail("an attribute's name is missing");
  }
  const Value* path = by_attribute ? call.all.positional.data() : nullptr;
  const size_t test_index = by_attribute ? 1 : 0;
  const Builtin* test = nullptr;
  Arguments arguments;
  if (call.all.positional.size() > test_index) {
    test = NamedBuiltin(call, test_index, true, &arguments);
    if (test == nullptr) return {};
  }
  std::vector<Value> out;
  for (const Value& item : list.list()) {
    if (!call.context.Spend(1)) return {};
    const Value value = GetPath(call.context, item, path);
    const Value result =
        test == nullptr || !call.context.ok() ? value : Call(*test, call.context, value, arguments);
    if (result.IsTrue() == wanted) out.push_back(item);
  }
  return call.context.List(std::move(out));
}

Value Select(const BuiltinCall& call) { return Choose(call, false, true); }
Value Reject(const BuiltinCall& call) { return Choose(call, false, false); }
Value SelectAttr(const BuiltinCall& call) { return Choose(call, true, true); }
Value RejectAttr(const BuiltinCall& call) { return Choose(call, true, false); }

constexpr Builtin kTable[] = {
    {"count", "", 0, Length},
    {"d", "default_value boolean", 0, Default},
    {"default", "default_value boolean", 0, Default},
    {"first", "", 0, First},
    {"items", "", 0, Items},
    {"join", "d attribute", 0, Join},
    {"last", "", 0, Last},
    {"length", "", 0, Length},
    {"list", "", 0, AsList},
    {"map", "*", 0, Map},
    {"reject", "*", 0, Reject},
    {"rejectattr", "*", 0, RejectAttr},
    {"reverse", "", 0, Reverse},
    {"select", "*", 0, Select},
    {"selectattr", "*", 0, SelectAttr},
};

}  // namespace

std::span<const Builtin> SequenceFilters() { return kTable; }

}  // namespace lorc::jinja
