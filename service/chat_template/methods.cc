// Methods of dictionaries, lists and loops, and the search for a method.
#include <string>

#include "absl/strings/str_cat.h"
#include "service/chat_template/builtin.h"
#include "service/chat_template/compare.h"

namespace lorc::jinja {
namespace {

using Kind = Value::Kind;

Value DictGet(const BuiltinCall& call) {
  if (!IsHashable(call[0])) {
    return call.context.Fail(absl::StrCat("unhashable type: '", call[0].type(), "'"));
  }
  if (const Value* value = Lookup(call.context, call.self, call[0])) return *value;
  return call.Has(1) ? call[1] : Value::None();
}

Value DictItems(const BuiltinCall& call) {
  std::vector<Value> items;
  for (const auto& [key, value] : call.self.dict()) {
    items.push_back(call.context.List({key, value}, true));
  }
  return call.context.List(std::move(items));
}

Value DictKeys(const BuiltinCall& call) {
  std::vector<Value> keys;
  for (const auto& [key, unused] : call.self.dict()) keys.push_back(key);
  return call.context.List(std::move(keys));
}

Value DictValues(const BuiltinCall& call) {
  std::vector<Value> values;
  for (const auto& [unused, value] : call.self.dict()) values.push_back(value);
  return call.context.List(std::move(values));
}

Value DictCopy(const BuiltinCall& call) { return call.self; }

Value ListCount(const BuiltinCall& call) {
  int64_t count = 0;
  for (const Value& item : call.self.list()) {
    if (!call.context.ok()) return {};
    count += Equal(call.context, item, call[0]) ? 1 : 0;
  }
  return Value::Int(count);
}

Value ListIndex(const BuiltinCall& call) {
  for (size_t i = 0; i < call.self.list().size() && call.context.ok(); ++i) {
    if (Equal(call.context, call.self.list()[i], call[0])) {
      return Value::Int(static_cast<int64_t>(i));
    }
  }
  return call.context.Fail("index: the value is not in the list");
}

Value LoopCycle(const BuiltinCall& call) {
  const std::vector<Value>& values = call.all.positional;
  if (values.empty() || !call.all.named.empty()) {
    return call.context.Fail("cycle: no items given");
  }
  return values[call.self.loop()->index0 % static_cast<int64_t>(values.size())];
}

constexpr Builtin kDictMethods[] = {
    {"copy", "", 0, DictCopy}, {"get", "key default", 1, DictGet}, {"items", "", 0, DictItems},
    {"keys", "", 0, DictKeys}, {"values", "", 0, DictValues},
};
constexpr Builtin kListMethods[] = {
    {"count", "value", 1, ListCount},
    {"index", "value", 1, ListIndex},
};
constexpr Builtin kLoopMethods[] = {{"cycle", "*", 0, LoopCycle}};

const Builtin* Search(std::span<const Builtin> table, std::string_view name) {
  for (const Builtin& builtin : table) {
    if (builtin.name == name) return &builtin;
  }
  return nullptr;
}

}  // namespace

const Builtin* FindMethod(const Value& self, std::string_view name) {
  switch (self.kind()) {
    case Kind::kString:
      return Search(StringMethods(), name);
    case Kind::kDict:
      return Search(kDictMethods, name);
    case Kind::kList:
      return Search(kListMethods, name);
    case Kind::kLoop:
      return Search(kLoopMethods, name);
    default:
      return nullptr;
  }
}

}  // namespace lorc::jinja
