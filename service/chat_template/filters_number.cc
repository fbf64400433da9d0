// Filters that make numbers.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "service/chat_template/access.h"
#include "service/chat_template/arithmetic.h"
#include "service/chat_template/builtin.h"

namespace lorc::jinja {
namespace {

constexpr int64_t kMaxPrecision = 100;

Value Abs(const BuiltinCall& call) {
  if (call.self.is_undefined()) return call.context.FailUndefined(call.self);
  if (!call.self.is_number()) return call.context.Fail("abs: not a number");
  if (!call.self.is_integer()) return Value::Float(std::fabs(call.self.number()));
  return call.self.integer() < 0 ? Negate(call.context, call.self)
                                 : Value::Int(call.self.integer());
}

Value ToFloat(const BuiltinCall& call) {
  if (call.self.is_undefined()) return call.context.FailUndefined(call.self);
  if (call.self.is_number()) return Value::Float(call.self.number());
  if (call.self.is_string()) {
    if (const auto value = ParseFloat(call.self.string())) return Value::Float(*value);
  }
  return call.Has(0) ? call[0] : Value::Float(0.0);
}

Value ToInt(const BuiltinCall& call) {
  if (call.self.is_undefined()) return call.context.FailUndefined(call.self);
  if (call.Has(1) && !(call[1].is_integer() && call[1].integer() == 10)) {
    return call.context.Unimplemented("int with a base other than 10");
  }
  Value otherwise = call.Has(0) ? call[0] : Value::Int(0);
  if (call.self.is_integer()) return Value::Int(call.self.integer());
  double value = 0.0;
  if (call.self.is_number()) {
    value = call.self.number();
  } else if (call.self.is_string()) {
    if (const auto integer = ParseInteger(call.self.string())) return Value::Int(*integer);
    const auto number = ParseFloat(call.self.string());
    if (!number) return otherwise;
    value = *number;
  } else {
    return otherwise;
  }
  if (!std::isfinite(value)) return otherwise;
  if (value < -0x1p63 || value >= 0x1p63) return call.context.Fail("an integer beyond 64 bits");
  return Value::Int(static_cast<int64_t>(value));
}

Value Round(const BuiltinCall& call) {
  if (call.self.is_undefined()) return call.context.FailUndefined(call.self);
  if (!call.self.is_number()) return call.context.Fail("round: not a number");
  int64_t precision = 0;
  if (call.Has(0)) {
    if (!call[0].is_integer() || call[0].integer() < 0 || call[0].integer() > kMaxPrecision) {
      return call.context.Fail(absl::StrCat("round: the precision is 0 to ", kMaxPrecision));
    }
    precision = call[0].integer();
  }
  std::string method = "common";
  if (call.Has(1) && call[1].is_string()) method = call[1].string();
  if (method == "common") {
    if (call.self.is_integer()) return Value::Int(call.self.integer());
    if (!std::isfinite(call.self.number())) return call.self;
    // The decimal digits of the exact value, ties to even: what Python's round does.
    char digits[512];
    std::snprintf(digits, sizeof(digits), "%.*f", static_cast<int>(precision), call.self.number());
    return Value::Float(std::strtod(digits, nullptr));
  }
  if (method != "ceil" && method != "floor") {
    return call.context.Fail("round: the method is common, ceil or floor");
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = call.self.number() * scale;
  return Value::Float((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value Sum(const BuiltinCall& call) {
  const Value list = ToList(call.context, call.self);
  if (!call.context.ok()) return {};
  const Value* path = call.Has(0) ? &call[0] : nullptr;
  Value total = call.Has(1) ? call[1] : Value::Int(0);
  if (total.is_string()) return call.context.Fail("sum: can't sum strings");
  for (const Value& item : list.list()) {
    if (!call.context.Spend(1)) return {};
    total = Compute(call.context, Operator::kAdd, total, GetPath(call.context, item, path));
  }
  return total;
}

constexpr Builtin kTable[] = {
    {"abs", "", 0, Abs},
    {"float", "default", 0, ToFloat},
    {"int", "default base", 0, ToInt},
    {"round", "precision method", 0, Round},
    {"sum", "attribute start", 0, Sum},
};

}  // namespace

std::span<const Builtin> NumberFilters() { return kTable; }

}  // namespace lorc::jinja
