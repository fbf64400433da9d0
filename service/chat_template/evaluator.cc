#include "absl/strings/str_cat.h"
#include "service/chat_template/access.h"
#include "service/chat_template/arithmetic.h"
#include "service/chat_template/compare.h"
#include "service/chat_template/interpreter.h"
#include "service/chat_template/limits.h"
#include "service/chat_template/printing.h"

namespace lorc::jinja {

using Kind = Value::Kind;

Value Interpreter::Evaluate(const Expression& expression) {
  if (!context_.ok()) return {};
  const RenderContext::Level level(&context_);
  if (!context_.ok()) return {};
  context_.set_line(expression.line);
  return std::visit([this](const auto& node) { return Evaluate(node); }, expression.node);
}

Value Interpreter::Evaluate(const NameExpression& node) {
  if (!context_.Spend(scopes_.size() / 16)) return {};
  if (const Value* value = scopes_.Find(node.name)) return *value;
  if (const Builtin* function = FindFunction(node.name)) return Value::Of(function);
  return Value::Undefined(absl::StrCat("'", node.name, "' is undefined"));
}

Value Interpreter::Evaluate(const ListExpression& node) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExpressionPtr& item : node.items) items.push_back(Evaluate(*item));
  return context_.ok() ? context_.List(std::move(items), node.is_tuple) : Value();
}

Value Interpreter::Evaluate(const DictExpression& node) {
  std::vector<std::pair<Value, Value>> items;
  items.reserve(node.items.size());
  for (const auto& [key, value] : node.items) {
    Value evaluated_key = Evaluate(*key);
    items.emplace_back(std::move(evaluated_key), Evaluate(*value));
  }
  return context_.ok() ? context_.Dict(std::move(items)) : Value();
}

Value Interpreter::Evaluate(const AttributeExpression& node) {
  const Value object = Evaluate(*node.object);
  return context_.ok() ? GetAttribute(context_, object, node.name) : Value();
}

Value Interpreter::Evaluate(const ItemExpression& node) {
  const Value object = Evaluate(*node.object);
  const Value key = Evaluate(*node.key);
  return context_.ok() ? GetItem(context_, object, key) : Value();
}

Value Interpreter::Evaluate(const SliceExpression& node) {
  const Value object = Evaluate(*node.object);
  Value bounds[3];
  const ExpressionPtr* parts[3] = {&node.start, &node.stop, &node.step};
  const Value* given[3] = {};
  for (int i = 0; i < 3; ++i) {
    if (*parts[i] == nullptr) continue;
    bounds[i] = Evaluate(**parts[i]);
    given[i] = &bounds[i];
  }
  return context_.ok() ? GetSlice(context_, object, given[0], given[1], given[2]) : Value();
}

Value Interpreter::Evaluate(const CallExpression& node) {
  const Value callee = Evaluate(*node.callee);
  const Arguments arguments = EvaluateArguments(node.arguments);
  if (!context_.ok()) return {};
  switch (callee.kind()) {
    case Kind::kFunction:
      return Call(*callee.function(), context_, Value(), arguments);
    case Kind::kMethod:
      return Call(*callee.method().function, context_, callee.method().self, arguments);
    case Kind::kMacro:
      return CallMacro(*callee.macro(), arguments);
    case Kind::kUndefined:
      if (const auto* attribute = std::get_if<AttributeExpression>(&node.callee->node)) {
        return context_.Unimplemented(
            absl::StrCat("the method '", attribute->name, "' (", callee.undefined_reason(), ")"));
      }
      return context_.FailUndefined(callee);
    default:
      return context_.Fail(absl::StrCat("'", callee.type(), "' object is not callable"));
  }
}

Arguments Interpreter::EvaluateArguments(const CallArguments& arguments) {
  Arguments values;
  for (const ExpressionPtr& argument : arguments.positional) {
    values.positional.push_back(Evaluate(*argument));
  }
  for (const auto& [name, argument] : arguments.named) {
    values.named.emplace_back(name, Evaluate(*argument));
  }
  return values;
}

Value Interpreter::Evaluate(const BuiltinExpression& node) {
  const Value input = Evaluate(*node.input);
  const Arguments arguments = EvaluateArguments(node.arguments);
  return context_.ok() ? Call(*node.builtin, context_, input, arguments) : Value();
}

Value Interpreter::Evaluate(const NotExpression& node) {
  return Value::Bool(!Evaluate(*node.operand).IsTrue());
}

Value Interpreter::Evaluate(const SignExpression& node) {
  const Value operand = Evaluate(*node.operand);
  if (!context_.ok()) return {};
  if (node.is_negative) return Negate(context_, operand);
  if (operand.is_undefined()) return context_.FailUndefined(operand);
  if (!operand.is_number()) return context_.Fail("'+' needs a number");
  return operand.is_bool() ? Value::Int(operand.integer()) : operand;
}

Value Interpreter::Evaluate(const ArithmeticExpression& node) {
  Value result = Evaluate(*node.first);
  for (const auto& [op, operand] : node.rest) {
    const Value right = Evaluate(*operand);
    if (!context_.ok()) return {};
    result = Compute(context_, op, result, right);
  }
  return result;
}

Value Interpreter::Evaluate(const ConcatExpression& node) {
  std::string text;
  for (const ExpressionPtr& part : node.parts) {
    text += ToText(context_, Evaluate(*part));
    if (!context_.ok() || static_cast<int64_t>(text.size()) > kMaxStringBytes) break;
  }
  return context_.String(std::move(text));
}

Value Interpreter::Evaluate(const LogicExpression& node) {
  Value value;
  for (const ExpressionPtr& operand : node.operands) {
    value = Evaluate(*operand);
    if (value.IsTrue() != node.is_and) break;
  }
  return value;
}

Value Interpreter::Evaluate(const ComparisonExpression& node) {
  Value left = Evaluate(*node.first);
  for (const auto& [comparison, operand] : node.rest) {
    Value right = Evaluate(*operand);
    if (!context_.ok()) return {};
    if (!Compare(comparison, left, right)) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

bool Interpreter::Compare(Comparison comparison, const Value& a, const Value& b) {
  switch (comparison) {
    case Comparison::kEqual:
      return Equal(context_, a, b);
    case Comparison::kNotEqual:
      return !Equal(context_, a, b);
    case Comparison::kLess:
      return Less(context_, a, b);
    case Comparison::kAtMost:
      return AtMost(context_, a, b);
    case Comparison::kGreater:
      return Less(context_, b, a);
    case Comparison::kAtLeast:
      return AtMost(context_, b, a);
    case Comparison::kIn:
      return Contains(context_, b, a);
    case Comparison::kNotIn:
      return !Contains(context_, b, a);
  }
  return false;
}

Value Interpreter::Evaluate(const ConditionalExpression& node) {
  if (Evaluate(*node.test).IsTrue()) return Evaluate(*node.then);
  if (node.otherwise != nullptr) return Evaluate(*node.otherwise);
  return Value::Undefined("the inline if-expression was false and has no else");
}

}  // namespace lorc::jinja
