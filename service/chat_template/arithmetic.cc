#include "service/chat_template/arithmetic.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "service/chat_template/limits.h"
#include "service/chat_template/text.h"

namespace lorc::jinja {
namespace {

constexpr const char* kSymbols[] = {"+", "-", "*", "/", "//", "%", "**"};

Value Overflow(RenderContext& context) { return context.Fail("an integer beyond 64 bits"); }

Value Power(RenderContext& context, int64_t base, int64_t exponent) {
  int64_t result = 1;
  bool overflow = false;
  while (exponent > 0 && !overflow) {
    if ((exponent & 1) != 0) overflow = __builtin_mul_overflow(result, base, &result);
    exponent >>= 1;
    if (exponent > 0) overflow |= __builtin_mul_overflow(base, base, &base);
  }
  return overflow ? Overflow(context) : Value::Int(result);
}

Value ComputeIntegers(RenderContext& context, Operator op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case Operator::kAdd:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case Operator::kSubtract:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case Operator::kMultiply:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case Operator::kDivide:
      if (b == 0) return context.Fail("division by zero");
      return Value::Float(static_cast<double>(a) / static_cast<double>(b));
    case Operator::kFloorDivide:
    case Operator::kModulo: {
      if (b == 0) return context.Fail("division by zero");
      if (b == -1) {  // the smallest integer has no opposite
        if (op == Operator::kModulo) return Value::Int(0);
        overflow = __builtin_sub_overflow(int64_t{0}, a, &result);
        break;
      }
      const bool rounds_down = a % b != 0 && (a % b < 0) != (b < 0);
      result =
          op == Operator::kModulo ? a % b + (rounds_down ? b : 0) : a / b - (rounds_down ? 1 : 0);
      break;
    }
    case Operator::kPower:
      if (b < 0) {
        if (a == 0) return context.Fail("zero to a negative power");
        return Value::Float(std::pow(static_cast<double>(a), static_cast<double>(b)));
      }
      return Power(context, a, b);
  }
  return overflow ? Overflow(context) : Value::Int(result);
}

Value ComputeFloats(RenderContext& context, Operator op, double a, double b) {
  const bool divides =
      op == Operator::kDivide || op == Operator::kFloorDivide || op == Operator::kModulo;
  if (divides && b == 0.0) return context.Fail("division by zero");
  switch (op) {
    case Operator::kAdd:
      return Value::Float(a + b);
    case Operator::kSubtract:
      return Value::Float(a - b);
    case Operator::kMultiply:
      return Value::Float(a * b);
    case Operator::kDivide:
      return Value::Float(a / b);
    case Operator::kFloorDivide:
    case Operator::kModulo: {
      double remainder = std::fmod(a, b);
      double quotient = (a - remainder) / b;
      if (remainder != 0.0 && (remainder < 0.0) != (b < 0.0)) {
        remainder += b;
        quotient -= 1.0;
      }
      if (remainder == 0.0) remainder = std::copysign(0.0, b);
      if (op == Operator::kModulo) return Value::Float(remainder);
      return Value::Float(quotient == 0.0 ? std::copysign(0.0, a / b) : std::round(quotient));
    }
    case Operator::kPower: {
      if (a == 0.0 && b < 0.0) return context.Fail("zero to a negative power");
      if (a < 0.0 && b != std::floor(b)) return context.Unimplemented("a complex number");
      return Value::Float(std::pow(a, b));
    }
  }
  return {};
}

// A string or list, `count` times.
Value Repeat(RenderContext& context, const Value& value, int64_t count) {
  if (count < 0) count = 0;
  const int64_t size =
      static_cast<int64_t>(value.is_string() ? value.string().size() : value.list().size());
  int64_t total = 0;
  if (__builtin_mul_overflow(size, count, &total) || total > kMaxStringBytes) {
    return context.Fail(absl::StrCat("a repetition to ", size, " * ", count));
  }
  if (size == 0) count = 0;
  if (value.is_string()) {
    if (!context.SpendBytes(total)) return {};
    std::string text;
    text.reserve(static_cast<size_t>(total));
    for (int64_t i = 0; i < count; ++i) text += value.string();
    return context.String(std::move(text));
  }
  if (!context.Spend(total)) return {};
  std::vector<Value> items;
  for (int64_t i = 0; i < count; ++i) {
    items.insert(items.end(), value.list().begin(), value.list().end());
  }
  return context.List(std::move(items), value.is_tuple());
}

Value Concatenate(RenderContext& context, const Value& a, const Value& b) {
  if (a.is_string()) {
    std::string text;
    text.reserve(a.string().size() + b.string().size());
    return context.String(std::move(text.append(a.string()).append(b.string())));
  }
  std::vector<Value> items;
  items.reserve(a.list().size() + b.list().size());
  items.insert(items.end(), a.list().begin(), a.list().end());
  items.insert(items.end(), b.list().begin(), b.list().end());
  return context.List(std::move(items), a.is_tuple());
}

// The number's digits, without the space around and the underscores between; nothing if an
// underscore stands elsewhere.
std::optional<std::string> Digits(std::string_view text) {
  text = Strip(text, nullptr, true, true);
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      digits.push_back(text[i]);
    } else if (i == 0 || i + 1 == text.size() || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) {
      return std::nullopt;
    }
  }
  if (digits.starts_with('+')) {
    digits.erase(0, 1);
    if (digits.starts_with('+') || digits.starts_with('-')) return std::nullopt;
  }
  return digits;
}

}  // namespace

Value Compute(RenderContext& context, Operator op, const Value& a, const Value& b) {
  if (a.is_undefined()) return context.FailUndefined(a);
  if (b.is_undefined()) return context.FailUndefined(b);
  if (a.is_integer() && b.is_integer()) {
    return ComputeIntegers(context, op, a.integer(), b.integer());
  }
  if (a.is_number() && b.is_number()) return ComputeFloats(context, op, a.number(), b.number());
  const auto is_sequence = [](const Value& value) { return value.is_string() || value.is_list(); };
  if (op == Operator::kMultiply && is_sequence(a) && b.is_integer()) {
    return Repeat(context, a, b.integer());
  }
  if (op == Operator::kMultiply && a.is_integer() && is_sequence(b)) {
    return Repeat(context, b, a.integer());
  }
  if (op == Operator::kAdd && is_sequence(a) && a.kind() == b.kind() &&
      a.is_tuple() == b.is_tuple()) {
    return Concatenate(context, a, b);
  }
  if (op == Operator::kModulo && a.is_string()) {
    return context.Unimplemented("formatting a string with %");
  }
  return context.Fail(absl::StrCat("can't compute '", a.type(), "' ",
                                   kSymbols[static_cast<int>(op)], " '", b.type(), "'"));
}

Value Negate(RenderContext& context, const Value& value) {
  if (value.is_undefined()) return context.FailUndefined(value);
  if (value.is_integer()) {
    return ComputeIntegers(context, Operator::kSubtract, 0, value.integer());
  }
  if (value.is_number()) return Value::Float(-value.number());
  return context.Fail(absl::StrCat("can't negate a '", value.type(), "'"));
}

std::optional<int64_t> ParseInteger(std::string_view text) {
  const std::optional<std::string> digits = Digits(text);
  if (!digits) return std::nullopt;
  int64_t value = 0;
  const char* end = digits->data() + digits->size();
  const auto result = std::from_chars(digits->data(), end, value);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

std::optional<double> ParseFloat(std::string_view text) {
  const std::optional<std::string> digits = Digits(text);
  if (!digits) return std::nullopt;
  double value = 0.0;
  const char* end = digits->data() + digits->size();
  const auto result = std::from_chars(digits->data(), end, value);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

}  // namespace lorc::jinja
