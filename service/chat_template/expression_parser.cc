#include "service/chat_template/expression_parser.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"

namespace lorc::jinja {
namespace {

// The deepest of a node's parts.
int32_t Depth(const ExpressionPtr& part) { return part == nullptr ? 0 : part->depth; }
int32_t Depth(const std::vector<ExpressionPtr>& parts) {
  int32_t depth = 0;
  for (const ExpressionPtr& part : parts) depth = std::max(depth, Depth(part));
  return depth;
}
template <typename First>
int32_t Depth(const std::vector<std::pair<First, ExpressionPtr>>& parts) {
  int32_t depth = 0;
  for (const auto& [unused, part] : parts) depth = std::max(depth, Depth(part));
  return depth;
}
int32_t Depth(const CallArguments& arguments) {
  return std::max(Depth(arguments.positional), Depth(arguments.named));
}
int32_t Depth(const LiteralExpression&) { return 0; }
int32_t Depth(const NameExpression&) { return 0; }
int32_t Depth(const ListExpression& node) { return Depth(node.items); }
int32_t Depth(const DictExpression& node) {
  int32_t depth = 0;
  for (const auto& [key, value] : node.items) {
    depth = std::max({depth, Depth(key), Depth(value)});
  }
  return depth;
}
int32_t Depth(const AttributeExpression& node) { return Depth(node.object); }
int32_t Depth(const ItemExpression& node) { return std::max(Depth(node.object), Depth(node.key)); }
int32_t Depth(const SliceExpression& node) {
  return std::max({Depth(node.object), Depth(node.start), Depth(node.stop), Depth(node.step)});
}
int32_t Depth(const CallExpression& node) {
  return std::max(Depth(node.callee), Depth(node.arguments));
}
int32_t Depth(const BuiltinExpression& node) {
  return std::max(Depth(node.input), Depth(node.arguments));
}
int32_t Depth(const NotExpression& node) { return Depth(node.operand); }
int32_t Depth(const SignExpression& node) { return Depth(node.operand); }
int32_t Depth(const ArithmeticExpression& node) {
  return std::max(Depth(node.first), Depth(node.rest));
}
int32_t Depth(const ConcatExpression& node) { return Depth(node.parts); }
int32_t Depth(const LogicExpression& node) { return Depth(node.operands); }
int32_t Depth(const ComparisonExpression& node) {
  return std::max(Depth(node.first), Depth(node.rest));
}
int32_t Depth(const ConditionalExpression& node) {
  return std::max({Depth(node.test), Depth(node.then), Depth(node.otherwise)});
}

using NamedOperator = std::pair<std::string_view, Operator>;

}  // namespace

ExpressionPtr ExpressionParser::Make(int32_t line, ExpressionNode node) {
  const int32_t depth = 1 + std::visit([](const auto& parts) { return Depth(parts); }, node);
  if (depth > kMaxNesting) tokens_.FailNesting();
  return std::make_unique<Expression>(Expression{line, depth, std::move(node)});
}

ExpressionPtr ExpressionParser::Parse(bool with_conditional) {
  const TokenStream::Level level(&tokens_);
  return with_conditional ? ParseConditional() : ParseLogic(false);
}

ExpressionPtr ExpressionParser::ParseTuple(bool with_conditional, std::string_view end_name) {
  const int32_t line = tokens_.line();
  ListExpression tuple{{}, true};
  while (true) {
    tuple.items.push_back(Parse(with_conditional));
    if (!tokens_.SkipOperator(",")) break;
    if (tokens_.Is(TokenKind::kVariableEnd) || tokens_.Is(TokenKind::kBlockEnd) ||
        tokens_.IsOperator(")") || (!end_name.empty() && tokens_.IsName(end_name))) {
      return Make(line, std::move(tuple));
    }
  }
  if (tuple.items.size() == 1) return std::move(tuple.items[0]);
  return Make(line, std::move(tuple));
}

ExpressionPtr ExpressionParser::ParseConditional() {
  const int32_t line = tokens_.line();
  ExpressionPtr value = ParseLogic(false);
  while (tokens_.SkipName("if")) {
    ConditionalExpression node{ParseLogic(false), std::move(value), nullptr};
    if (tokens_.SkipName("else")) node.otherwise = Parse();
    value = Make(line, std::move(node));
  }
  return value;
}

ExpressionPtr ExpressionParser::ParseLogic(bool is_and) {
  const int32_t line = tokens_.line();
  LogicExpression node;
  node.is_and = is_and;
  do {
    node.operands.push_back(is_and ? ParseNot() : ParseLogic(true));
  } while (tokens_.SkipName(is_and ? "and" : "or"));
  if (node.operands.size() == 1) return std::move(node.operands[0]);
  return Make(line, std::move(node));
}

ExpressionPtr ExpressionParser::ParseNot() {
  const int32_t line = tokens_.line();
  if (!tokens_.SkipName("not")) return ParseComparison();
  const TokenStream::Level level(&tokens_);
  return Make(line, NotExpression{ParseNot()});
}

ExpressionPtr ExpressionParser::ParseComparison() {
  static constexpr std::array<std::pair<std::string_view, Comparison>, 6> kOperators = {
      {{"==", Comparison::kEqual},
       {"!=", Comparison::kNotEqual},
       {"<", Comparison::kLess},
       {"<=", Comparison::kAtMost},
       {">", Comparison::kGreater},
       {">=", Comparison::kAtLeast}}};
  const int32_t line = tokens_.line();
  ComparisonExpression node{ParseSum(), {}};
  while (tokens_.ok()) {
    if (tokens_.SkipName("in")) {
      node.rest.emplace_back(Comparison::kIn, ParseSum());
      continue;
    }
    if (tokens_.IsName("not") && tokens_.next().kind == TokenKind::kName &&
        tokens_.next().text == "in") {
      tokens_.Take();
      tokens_.Take();
      node.rest.emplace_back(Comparison::kNotIn, ParseSum());
      continue;
    }
    const auto* found =
        std::find_if(kOperators.begin(), kOperators.end(),
                     [this](const auto& entry) { return tokens_.IsOperator(entry.first); });
    if (found == kOperators.end()) break;
    tokens_.Take();
    node.rest.emplace_back(found->second, ParseSum());
  }
  if (node.rest.empty()) return std::move(node.first);
  return Make(line, std::move(node));
}

// Operands with operators of one rank between them, from left to right.
template <typename Operators>
ExpressionPtr ExpressionParser::ParseArithmetic(ExpressionPtr (ExpressionParser::*operand)(),
                                                const Operators& operators) {
  const int32_t line = tokens_.line();
  ArithmeticExpression node{(this->*operand)(), {}};
  while (tokens_.ok()) {
    const auto* found = std::find_if(operators.begin(), operators.end(), [this](const auto& entry) {
      return tokens_.IsOperator(entry.first);
    });
    if (found == operators.end()) break;
    tokens_.Take();
    node.rest.emplace_back(found->second, (this->*operand)());
  }
  if (node.rest.empty()) return std::move(node.first);
  return Make(line, std::move(node));
}

ExpressionPtr ExpressionParser::ParseSum() {
  static constexpr std::array<NamedOperator, 2> kOperators = {
      {{"+", Operator::kAdd}, {"-", Operator::kSubtract}}};
  return ParseArithmetic(&ExpressionParser::ParseConcat, kOperators);
}

ExpressionPtr ExpressionParser::ParseConcat() {
  const int32_t line = tokens_.line();
  ConcatExpression node;
  do {
    node.parts.push_back(ParseProduct());
  } while (tokens_.SkipOperator("~"));
  if (node.parts.size() == 1) return std::move(node.parts[0]);
  return Make(line, std::move(node));
}

ExpressionPtr ExpressionParser::ParseProduct() {
  static constexpr std::array<NamedOperator, 4> kOperators = {{{"*", Operator::kMultiply},
                                                               {"/", Operator::kDivide},
                                                               {"//", Operator::kFloorDivide},
                                                               {"%", Operator::kModulo}}};
  return ParseArithmetic(&ExpressionParser::ParsePower, kOperators);
}

// From left to right, as Jinja has it and Python has not.
ExpressionPtr ExpressionParser::ParsePower() {
  static constexpr std::array<NamedOperator, 1> kOperators = {{{"**", Operator::kPower}}};
  return ParseArithmetic(&ExpressionParser::ParseOperand, kOperators);
}

ExpressionPtr ExpressionParser::ParseUnary(bool with_filters) {
  const int32_t line = tokens_.line();
  ExpressionPtr value;
  if (tokens_.IsOperator("-") || tokens_.IsOperator("+")) {
    const TokenStream::Level level(&tokens_);
    const bool is_negative = tokens_.Take().text == "-";
    value = Make(line, SignExpression{ParseUnary(false), is_negative});
  } else {
    value = ParsePrimary();
  }
  value = ParsePostfix(std::move(value));
  return with_filters ? ParseFiltersAndTests(std::move(value)) : std::move(value);
}

}  // namespace lorc::jinja
