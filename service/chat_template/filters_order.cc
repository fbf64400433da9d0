// Filters that compare elements.
#include <string>

#include "absl/strings/str_cat.h"
#include "service/chat_template/access.h"
#include "service/chat_template/builtin.h"
#include "service/chat_template/compare.h"
#include "service/chat_template/sorting.h"
#include "service/chat_template/text.h"

namespace lorc::jinja {
namespace {

// What `value` is compared by: in lower case unless cases differ.
Value Key(RenderContext& context, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  return context.String(ToLower(value.string()));
}

bool IsGiven(const BuiltinCall& call, size_t index) {
  return call.Has(index) && call[index].IsTrue();
}

// Each element's key; the attribute's name is argument `path_index`.
std::vector<Value> Keys(const BuiltinCall& call, const Value& list, size_t path_index,
                        bool case_sensitive) {
  std::vector<Value> keys;
  const Value* path = call.Has(path_index) ? &call[path_index] : nullptr;
  for (const Value& item : list.list()) {
    if (!call.context.Spend(1)) return keys;
    keys.push_back(Key(call.context, GetPath(call.context, item, path), case_sensitive));
  }
  return keys;
}

Value Sort(const BuiltinCall& call) {
  const Value list = ToList(call.context, call.self);
  if (!call.context.ok()) return {};
  const std::vector<Value> keys = Keys(call, list, 2, IsGiven(call, 1));
  if (!call.context.ok()) return {};
  std::vector<Value> out;
  for (const int64_t at : SortedPositions(call.context, keys, IsGiven(call, 0))) {
    out.push_back(list.list()[at]);
  }
  return call.context.List(std::move(out));
}

Value DictSort(const BuiltinCall& call) {
  if (!call.self.is_dict()) return call.context.Fail("dictsort: not a dictionary");
  const std::string by = call.Has(1) && call[1].is_string() ? call[1].string() : "key";
  if (by != "key" && by != "value") {
    return call.context.Fail("dictsort: sorts by 'key' or 'value'");
  }
  std::vector<Value> keys;
  for (const auto& [key, value] : call.self.dict()) {
    keys.push_back(Key(call.context, by == "key" ? key : value, IsGiven(call, 0)));
  }
  if (!call.context.ok()) return {};
  std::vector<Value> out;
  for (const int64_t at : SortedPositions(call.context, keys, IsGiven(call, 2))) {
    const auto& [key, value] = call.self.dict()[at];
    out.push_back(call.context.List({key, value}, true));
  }
  return call.context.List(std::move(out));
}

Value Extreme(const BuiltinCall& call, bool largest) {
  const Value list = ToList(call.context, call.self);
  if (!call.context.ok()) return {};
  const std::vector<Value> keys = Keys(call, list, 1, IsGiven(call, 0));
  if (!call.context.ok()) return {};
  if (keys.empty()) return Value::Undefined("no aggregated item, the sequence was empty");
  size_t best = 0;
  for (size_t i = 1; i < keys.size() && call.context.ok(); ++i) {
    const bool better =
        largest ? Less(call.context, keys[best], keys[i]) : Less(call.context, keys[i], keys[best]);
    if (better) best = i;
  }
  return list.list()[best];
}

Value Min(const BuiltinCall& call) { return Extreme(call, false); }
Value Max(const BuiltinCall& call) { return Extreme(call, true); }

Value Unique(const BuiltinCall& call) {
  const Value list = ToList(call.context, call.self);
  if (!call.context.ok()) return {};
  const std::vector<Value> keys = Keys(call, list, 1, IsGiven(call, 0));
  std::vector<Value> seen;
  std::vector<Value> out;
  for (size_t i = 0; i < keys.size() && call.context.ok(); ++i) {
    if (!IsHashable(keys[i])) {
      return call.context.Fail(absl::StrCat("unhashable type: '", keys[i].type(), "'"));
    }
    bool known = false;
    for (const Value& other : seen) known = known || Equal(call.context, other, keys[i]);
    if (known) continue;
    seen.push_back(keys[i]);
    out.push_back(list.list()[i]);
  }
  return call.context.List(std::move(out));
}

constexpr Builtin kTable[] = {
    {"dictsort", "case_sensitive by reverse", 0, DictSort},
    {"max", "case_sensitive attribute", 0, Max},
    {"min", "case_sensitive attribute", 0, Min},
    {"sort", "reverse case_sensitive attribute", 0, Sort},
    {"unique", "case_sensitive attribute", 0, Unique},
};

}  // namespace

std::span<const Builtin> OrderFilters() { return kTable; }

}  // namespace lorc::jinja
