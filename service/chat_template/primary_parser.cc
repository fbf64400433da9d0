// The part of ExpressionParser below the operators: literals, names, and what follows them.
#include <array>

#include "absl/strings/str_cat.h"
#include "service/chat_template/expression_parser.h"

namespace lorc::jinja {
namespace {

bool IsOneOf(std::string_view name, std::initializer_list<std::string_view> names) {
  for (const std::string_view other : names) {
    if (name == other) return true;
  }
  return false;
}

}  // namespace

ExpressionPtr ExpressionParser::ParsePrimary() {
  const int32_t line = tokens_.line();
  switch (tokens_.current().kind) {
    case TokenKind::kName:
      return ParseName();
    case TokenKind::kInteger:
      return Make(line, LiteralExpression{Value::Int(tokens_.Take().integer)});
    case TokenKind::kFloat:
      return Make(line, LiteralExpression{Value::Float(tokens_.Take().number)});
    case TokenKind::kString: {
      std::string text;
      while (tokens_.Is(TokenKind::kString)) text += tokens_.Take().text;
      return Make(line, LiteralExpression{Value::String(std::move(text))});
    }
    default:
      break;
  }
  if (tokens_.SkipOperator("(")) {
    if (tokens_.SkipOperator(")")) return Make(line, ListExpression{{}, true});
    ExpressionPtr value = ParseTuple();
    tokens_.ExpectOperator(")");
    return value;
  }
  if (tokens_.IsOperator("[")) return ParseList();
  if (tokens_.IsOperator("{")) return ParseDict();
  tokens_.Unexpected("an expression");
  return Make(line, LiteralExpression{});
}

ExpressionPtr ExpressionParser::ParseName() {
  const int32_t line = tokens_.line();
  std::string name = tokens_.Take().text;
  if (IsOneOf(name, {"true", "True"})) return Make(line, LiteralExpression{Value::Bool(true)});
  if (IsOneOf(name, {"false", "False"})) return Make(line, LiteralExpression{Value::Bool(false)});
  if (IsOneOf(name, {"none", "None"})) return Make(line, LiteralExpression{Value::None()});
  if ((in_macro_ && IsOneOf(name, {"varargs", "kwargs", "caller"})) ||
      (tokens_.IsOperator("(") && IsOneOf(name, {"cycler", "joiner", "lipsum"}))) {
    tokens_.Unimplemented(absl::StrCat("'", name, "'"));
  }
  return Make(line, NameExpression{std::move(name)});
}

ExpressionPtr ExpressionParser::ParseList() {
  const int32_t line = tokens_.line();
  tokens_.ExpectOperator("[");
  ListExpression node;
  while (tokens_.ok() && !tokens_.IsOperator("]")) {
    node.items.push_back(Parse());
    if (!tokens_.SkipOperator(",")) break;
  }
  tokens_.ExpectOperator("]");
  return Make(line, std::move(node));
}

ExpressionPtr ExpressionParser::ParseDict() {
  const int32_t line = tokens_.line();
  tokens_.ExpectOperator("{");
  DictExpression node;
  while (tokens_.ok() && !tokens_.IsOperator("}")) {
    ExpressionPtr key = Parse();
    tokens_.ExpectOperator(":");
    node.items.emplace_back(std::move(key), Parse());
    if (!tokens_.SkipOperator(",")) break;
  }
  tokens_.ExpectOperator("}");
  return Make(line, std::move(node));
}

ExpressionPtr ExpressionParser::ParsePostfix(ExpressionPtr object) {
  while (tokens_.ok()) {
    if (tokens_.IsOperator(".")) {
      object = ParseDot(std::move(object));
    } else if (tokens_.IsOperator("[")) {
      object = ParseBrackets(std::move(object));
    } else if (tokens_.IsOperator("(")) {
      object = ParseCall(std::move(object));
    } else {
      break;
    }
  }
  return object;
}

ExpressionPtr ExpressionParser::ParseDot(ExpressionPtr object) {
  const int32_t line = tokens_.line();
  tokens_.ExpectOperator(".");
  if (tokens_.Is(TokenKind::kInteger)) {
    ExpressionPtr key = Make(line, LiteralExpression{Value::Int(tokens_.Take().integer)});
    return Make(line, ItemExpression{std::move(object), std::move(key)});
  }
  return Make(line, AttributeExpression{std::move(object), tokens_.ExpectName()});
}

ExpressionPtr ExpressionParser::ParseBrackets(ExpressionPtr object) {
  const int32_t line = tokens_.line();
  tokens_.ExpectOperator("[");
  // Up to three parts with colons between, each of which may be left out.
  std::array<ExpressionPtr, 3> parts;
  size_t num_colons = 0;
  while (tokens_.ok() && !tokens_.IsOperator("]")) {
    if (tokens_.IsOperator(":") && num_colons < 2) {
      tokens_.Take();
      ++num_colons;
    } else if (parts[num_colons] == nullptr) {
      parts[num_colons] = Parse();
    } else {
      break;
    }
  }
  if (tokens_.IsOperator(",")) tokens_.Unimplemented("an index with a comma");
  tokens_.ExpectOperator("]");
  if (num_colons > 0) {
    return Make(line, SliceExpression{std::move(object), std::move(parts[0]), std::move(parts[1]),
                                      std::move(parts[2])});
  }
  if (parts[0] == nullptr) {
    tokens_.FailAt(line, "nothing between [ and ]");
    parts[0] = Make(line, LiteralExpression{});
  }
  return Make(line, ItemExpression{std::move(object), std::move(parts[0])});
}

ExpressionPtr ExpressionParser::ParseCall(ExpressionPtr callee) {
  const int32_t line = tokens_.line();
  return Make(line, CallExpression{std::move(callee), ParseArguments()});
}

CallArguments ExpressionParser::ParseArguments() {
  CallArguments arguments;
  tokens_.ExpectOperator("(");
  while (tokens_.ok() && !tokens_.IsOperator(")")) {
    if (tokens_.IsOperator("*") || tokens_.IsOperator("**")) {
      tokens_.Unimplemented("unpacking of arguments with * or **");
    }
    if (tokens_.Is(TokenKind::kName) && tokens_.next().kind == TokenKind::kOperator &&
        tokens_.next().text == "=") {
      std::string name = tokens_.Take().text;
      tokens_.Take();
      arguments.named.emplace_back(std::move(name), Parse());
    } else {
      if (!arguments.named.empty()) tokens_.Fail("an argument without name after a named one");
      arguments.positional.push_back(Parse());
    }
    if (!tokens_.SkipOperator(",")) break;
  }
  tokens_.ExpectOperator(")");
  return arguments;
}

ExpressionPtr ExpressionParser::ParseFiltersAndTests(ExpressionPtr input) {
  while (tokens_.ok()) {
    if (tokens_.SkipOperator("|")) {
      input = ParseFilter(std::move(input));
    } else if (tokens_.SkipName("is")) {
      input = ParseTest(std::move(input));
    } else if (tokens_.IsOperator("(")) {
      input = ParseCall(std::move(input));
    } else {
      break;
    }
  }
  return input;
}

ExpressionPtr ExpressionParser::ParseFilters(ExpressionPtr input) {
  input = ParseFilter(std::move(input));
  while (tokens_.SkipOperator("|")) input = ParseFilter(std::move(input));
  return input;
}

std::string ExpressionParser::ParseDottedName() {
  std::string name = tokens_.ExpectName();
  while (tokens_.SkipOperator(".")) absl::StrAppend(&name, ".", tokens_.ExpectName());
  return name;
}

ExpressionPtr ExpressionParser::ParseFilter(ExpressionPtr input) {
  const int32_t line = tokens_.line();
  const std::string name = ParseDottedName();
  const Builtin* filter = FindFilter(name);
  if (filter == nullptr) tokens_.Unimplemented(absl::StrCat("the filter '", name, "'"));
  BuiltinExpression node{std::move(input), filter, {}};
  if (tokens_.IsOperator("(")) node.arguments = ParseArguments();
  return Make(line, std::move(node));
}

// Whether a test's argument follows without parentheses ("is equalto 3").
bool ExpressionParser::StartsTestArgument() const {
  switch (tokens_.current().kind) {
    case TokenKind::kString:
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return true;
    case TokenKind::kName:
      return !IsOneOf(tokens_.current().text, {"else", "or", "and"});
    default:
      return tokens_.IsOperator("[") || tokens_.IsOperator("{");
  }
}

ExpressionPtr ExpressionParser::ParseTest(ExpressionPtr input) {
  const int32_t line = tokens_.line();
  const bool is_negated = tokens_.SkipName("not");
  const std::string name = ParseDottedName();
  const Builtin* test = FindTest(name);
  if (test == nullptr) tokens_.Unimplemented(absl::StrCat("the test '", name, "'"));
  BuiltinExpression node{std::move(input), test, {}};
  if (tokens_.IsOperator("(")) {
    node.arguments = ParseArguments();
  } else if (StartsTestArgument()) {
    if (tokens_.IsName("is")) tokens_.Fail("tests can't be chained with 'is'");
    node.arguments.positional.push_back(ParsePostfix(ParsePrimary()));
  }
  ExpressionPtr result = Make(line, std::move(node));
  return is_negated ? Make(line, NotExpression{std::move(result)}) : std::move(result);
}

}  // namespace lorc::jinja
