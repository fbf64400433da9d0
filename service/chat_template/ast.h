// A template's syntax tree. Constant once parsed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "service/chat_template/arithmetic.h"
#include "service/chat_template/builtin.h"
#include "service/chat_template/value.h"

namespace lorc::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
};

struct LiteralExpression {
  Value value;
};
struct NameExpression {
  std::string name;
};
struct ListExpression {
  std::vector<ExpressionPtr> items;
  bool is_tuple = false;
};
struct DictExpression {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> items;
};
struct AttributeExpression {
  ExpressionPtr object;
  std::string name;
};
struct ItemExpression {
  ExpressionPtr object;
  ExpressionPtr key;
};
struct SliceExpression {
  ExpressionPtr object;
  ExpressionPtr start;  // nullptr where left out
  ExpressionPtr stop;
  ExpressionPtr step;
};
struct CallExpression {
  ExpressionPtr callee;
  CallArguments arguments;
};
struct BuiltinExpression {  // a filter or a test
  ExpressionPtr input;
  const Builtin* builtin = nullptr;
  CallArguments arguments;
};
struct NotExpression {
  ExpressionPtr operand;
};
struct SignExpression {
  ExpressionPtr operand;
  bool is_negative = false;
};
struct ArithmeticExpression {  // from left to right
  ExpressionPtr first;
  std::vector<std::pair<Operator, ExpressionPtr>> rest;
};
struct ConcatExpression {  // a ~ b
  std::vector<ExpressionPtr> parts;
};
struct LogicExpression {  // a and b, a or b
  std::vector<ExpressionPtr> operands;
  bool is_and = false;
};
enum class Comparison : uint8_t {
  kEqual,
  kNotEqual,
  kLess,
  kAtMost,
  kGreater,
  kAtLeast,
  kIn,
  kNotIn,
};
struct ComparisonExpression {  // a < b < c
  ExpressionPtr first;
  std::vector<std::pair<Comparison, ExpressionPtr>> rest;
};
struct ConditionalExpression {  // then if test else otherwise
  ExpressionPtr test;
  ExpressionPtr then;
  ExpressionPtr otherwise;  // nullptr: undefined
};

using ExpressionNode =
    std::variant<LiteralExpression, NameExpression, ListExpression, DictExpression,
                 AttributeExpression, ItemExpression, SliceExpression, CallExpression,
                 BuiltinExpression, NotExpression, SignExpression, ArithmeticExpression,
                 ConcatExpression, LogicExpression, ComparisonExpression, ConditionalExpression>;

struct Expression {
  int32_t line = 1;
  int32_t depth = 1;  // expressions inside each other, this one counted
  ExpressionNode node;
};

// What is assigned to: a name, `name.attribute`, or several targets.
struct Target {
  std::string name;
  std::string attribute;      // empty: the name itself
  std::vector<Target> parts;  // of a tuple; the others are then empty
  bool is_tuple = false;
};

struct Statement;
using Block = std::vector<Statement>;

struct TextStatement {
  std::string text;
};
struct PrintStatement {
  ExpressionPtr value;
};
struct IfStatement {
  struct Branch {
    ExpressionPtr test;  // nullptr: else
    Block body;
  };
  std::vector<Branch> branches;
};
struct ForStatement {
  Target target;
  ExpressionPtr items;
  ExpressionPtr condition;  // nullptr: all items
  Block body;
  Block otherwise;  // when there is no item
};
struct SetStatement {
  Target target;
  ExpressionPtr value;
};
struct SetBlockStatement {
  Target target;
  Block body;
  ExpressionPtr filter;  // of kCaptured; nullptr: none
};
struct FilterBlockStatement {
  Block body;
  ExpressionPtr filter;
};
struct ScopeStatement {  // with, generation
  std::vector<std::pair<Target, ExpressionPtr>> variables;
  Block body;
};
struct Macro {
  std::string name;
  std::vector<std::pair<std::string, ExpressionPtr>> parameters;  // with default, or nullptr
  Block body;
};
struct MacroStatement {
  std::unique_ptr<Macro> macro;
};
struct LoopControlStatement {
  bool is_break = false;
};

struct Statement {
  int32_t line = 1;
  std::variant<TextStatement, PrintStatement, IfStatement, ForStatement, SetStatement,
               SetBlockStatement, FilterBlockStatement, ScopeStatement, MacroStatement,
               LoopControlStatement>
      node;
};

// The name under which a filter block's filters find the text of its body. No template can spell
// it.
inline constexpr char kCaptured[] = "{captured}";

}  // namespace lorc::jinja
