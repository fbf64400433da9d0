// What may follow `is`.
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "service/chat_template/arithmetic.h"
#include "service/chat_template/builtin.h"
#include "service/chat_template/compare.h"
#include "service/chat_template/printing.h"
#include "service/chat_template/text.h"

namespace lorc::jinja {
namespace {

using Kind = Value::Kind;

Value IsDefined(const BuiltinCall& call) { return Value::Bool(!call.self.is_undefined()); }
Value IsUndefined(const BuiltinCall& call) { return Value::Bool(call.self.is_undefined()); }
Value IsNone(const BuiltinCall& call) { return Value::Bool(call.self.is_none()); }
Value IsBoolean(const BuiltinCall& call) { return Value::Bool(call.self.is_bool()); }
Value IsTrueItself(const BuiltinCall& call) {
  return Value::Bool(call.self.is_bool() && call.self.IsTrue());
}
Value IsFalseItself(const BuiltinCall& call) {
  return Value::Bool(call.self.is_bool() && !call.self.IsTrue());
}
Value IsInteger(const BuiltinCall& call) { return Value::Bool(call.self.is(Kind::kInt)); }
Value IsFloat(const BuiltinCall& call) { return Value::Bool(call.self.is(Kind::kFloat)); }
Value IsNumber(const BuiltinCall& call) { return Value::Bool(call.self.is_number()); }
Value IsString(const BuiltinCall& call) { return Value::Bool(call.self.is_string()); }
Value IsMapping(const BuiltinCall& call) { return Value::Bool(call.self.is_dict()); }
Value IsIterable(const BuiltinCall& call) {
  return Value::Bool(call.self.is_undefined() || call.self.is_string() || call.self.is_list() ||
                     call.self.is_dict() || call.self.is(Kind::kLoop));
}
Value IsSequence(const BuiltinCall& call) {
  return Value::Bool(call.self.is_undefined() || call.self.is_string() || call.self.is_list() ||
                     call.self.is_dict());
}
Value IsCallable(const BuiltinCall& call) {
  return Value::Bool(call.self.is_undefined() || call.self.is(Kind::kMacro) ||
                     call.self.is(Kind::kFunction) || call.self.is(Kind::kMethod));
}
Value IsLowerCase(const BuiltinCall& call) {
  return Value::Bool(IsLower(ToText(call.context, call.self)));
}
Value IsUpperCase(const BuiltinCall& call) {
  return Value::Bool(IsUpper(ToText(call.context, call.self)));
}

Value Remains(const BuiltinCall& call, const Value& divisor, int64_t wanted) {
  const Value rest = Compute(call.context, Operator::kModulo, call.self, divisor);
  return Value::Bool(call.context.ok() && Equal(call.context, rest, Value::Int(wanted)));
}
Value IsOdd(const BuiltinCall& call) { return Remains(call, Value::Int(2), 1); }
Value IsEven(const BuiltinCall& call) { return Remains(call, Value::Int(2), 0); }
Value IsDivisibleBy(const BuiltinCall& call) { return Remains(call, call[0], 0); }

Value IsEqual(const BuiltinCall& call) {
  return Value::Bool(Equal(call.context, call.self, call[0]));
}
Value IsNotEqual(const BuiltinCall& call) {
  return Value::Bool(!Equal(call.context, call.self, call[0]));
}
Value IsLess(const BuiltinCall& call) {
  return Value::Bool(Less(call.context, call.self, call[0]));
}
Value IsGreater(const BuiltinCall& call) {
  return Value::Bool(Less(call.context, call[0], call.self));
}
Value IsAtMost(const BuiltinCall& call) {
  return Value::Bool(AtMost(call.context, call.self, call[0]));
}
Value IsAtLeast(const BuiltinCall& call) {
  return Value::Bool(AtMost(call.context, call[0], call.self));
}
Value IsIn(const BuiltinCall& call) {
  return Value::Bool(Contains(call.context, call[0], call.self));
}

// Identity is only certain for the values of which Python has one each.
Value IsSameAs(const BuiltinCall& call) {
  const Value& other = call[0];
  const auto is_single = [](const Value& value) { return value.is_none() || value.is_bool(); };
  if (!is_single(call.self) && !is_single(other)) {
    return call.context.Unimplemented("the test 'sameas' of anything but none, true and false");
  }
  return Value::Bool(call.self.kind() == other.kind() && Equal(call.context, call.self, other));
}

constexpr Builtin kTable[] = {
    {"!=", "other", 1, IsNotEqual},
    {"<", "other", 1, IsLess},
    {"<=", "other", 1, IsAtMost},
    {"==", "other", 1, IsEqual},
    {">", "other", 1, IsGreater},
    {">=", "other", 1, IsAtLeast},
    {"boolean", "", 0, IsBoolean},
    {"callable", "", 0, IsCallable},
    {"defined", "", 0, IsDefined},
    {"divisibleby", "num", 1, IsDivisibleBy},
    {"eq", "other", 1, IsEqual},
    {"equalto", "other", 1, IsEqual},
    {"even", "", 0, IsEven},
    {"false", "", 0, IsFalseItself},
    {"float", "", 0, IsFloat},
    {"ge", "other", 1, IsAtLeast},
    {"greaterthan", "other", 1, IsGreater},
    {"gt", "other", 1, IsGreater},
    {"in", "seq", 1, IsIn},
    {"integer", "", 0, IsInteger},
    {"iterable", "", 0, IsIterable},
    {"le", "other", 1, IsAtMost},
    {"lessthan", "other", 1, IsLess},
    {"lower", "", 0, IsLowerCase},
    {"lt", "other", 1, IsLess},
    {"mapping", "", 0, IsMapping},
    {"ne", "other", 1, IsNotEqual},
    {"none", "", 0, IsNone},
    {"number", "", 0, IsNumber},
    {"odd", "", 0, IsOdd},
    {"sameas", "other", 1, IsSameAs},
    {"sequence", "", 0, IsSequence},
    {"string", "", 0, IsString},
    {"true", "", 0, IsTrueItself},
    {"undefined", "", 0, IsUndefined},
    {"upper", "", 0, IsUpperCase},
};

}  // namespace

const Builtin* FindTest(std::string_view name) {
  for (const Builtin& builtin : kTable) {
    if (builtin.name == name) return &builtin;
  }
  return nullptr;
}

}  // namespace lorc::jinja
