// Runs a parsed template.
//
// Failures stick in the RenderContext; what functions return then has no meaning.
#pragma once

#include <string>

#include "service/chat_template/ast.h"
#include "service/chat_template/render_context.h"
#include "service/chat_template/scope.h"

namespace lorc::jinja {

class Interpreter {
 public:
  // `context` outlives it, and the tree outlives both.
  explicit Interpreter(RenderContext* context) : context_(*context) {}

  // A variable that the template sees.
  void SetGlobal(const std::string& name, Value value) { scopes_.Set(name, std::move(value)); }

  // The text of the whole template.
  std::string Run(const Block& block);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  // interpreter.cc: statements.
  Flow ExecuteBlock(const Block& block);
  Flow Execute(const Statement& statement);
  Flow Execute(const TextStatement& node);
  Flow Execute(const PrintStatement& node);
  Flow Execute(const IfStatement& node);
  Flow Execute(const ForStatement& node);
  Flow Execute(const SetStatement& node);
  Flow Execute(const SetBlockStatement& node);
  Flow Execute(const FilterBlockStatement& node);
  Flow Execute(const ScopeStatement& node);
  Flow Execute(const MacroStatement& node);
  Flow Execute(const LoopControlStatement& node);
  Value ChooseItems(const ForStatement& node);
  void Assign(const Target& target, const Value& value);
  Value Capture(const Block& body, const ExpressionPtr& filter, Flow* flow);
  Value CallMacro(const Macro& macro, const Arguments& arguments);
  void Emit(std::string_view text);

  // evaluator.cc: expressions.
  Value Evaluate(const Expression& expression);
  Value Evaluate(const LiteralExpression& node) { return node.value; }
  Value Evaluate(const NameExpression& node);
  Value Evaluate(const ListExpression& node);
  Value Evaluate(const DictExpression& node);
  Value Evaluate(const AttributeExpression& node);
  Value Evaluate(const ItemExpression& node);
  Value Evaluate(const SliceExpression& node);
  Value Evaluate(const CallExpression& node);
  Value Evaluate(const BuiltinExpression& node);
  Value Evaluate(const NotExpression& node);
  Value Evaluate(const SignExpression& node);
  Value Evaluate(const ArithmeticExpression& node);
  Value Evaluate(const ConcatExpression& node);
  Value Evaluate(const LogicExpression& node);
  Value Evaluate(const ComparisonExpression& node);
  Value Evaluate(const ConditionalExpression& node);
  bool Compare(Comparison comparison, const Value& a, const Value& b);
  Arguments EvaluateArguments(const CallArguments& arguments);

  RenderContext& context_;
  Scopes scopes_;
  std::string* out_ = nullptr;  // where text goes now
};

}  // namespace lorc::jinja
