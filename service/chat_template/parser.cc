#include "service/chat_template/parser.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/chat_template/expression_parser.h"
#include "service/chat_template/lexer.h"
#include "service/chat_template/limits.h"
#include "service/chat_template/token_stream.h"

namespace lorc::jinja {
namespace {

using EndNames = std::initializer_list<std::string_view>;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)), expressions_(&tokens_) {}

  absl::StatusOr<Block> Run() {
    Block block = ParseBlock({});
    if (!tokens_.ok()) return tokens_.status();
    return block;
  }

 private:
  // Statements up to a tag of one of these names, which is current then; or up to the end of the
  // template if there are none.
  Block ParseBlock(EndNames end_names) {
    const TokenStream::Level level(&tokens_);
    Block block;
    while (tokens_.ok()) {
      const int32_t line = tokens_.line();
      if (tokens_.Is(TokenKind::kText)) {
        block.push_back({line, TextStatement{tokens_.Take().text}});
      } else if (tokens_.Is(TokenKind::kVariableBegin)) {
        tokens_.Take();
        block.push_back({line, PrintStatement{expressions_.ParseTuple()}});
        tokens_.Expect(TokenKind::kVariableEnd, "}}");
      } else if (tokens_.Is(TokenKind::kBlockBegin)) {
        tokens_.Take();
        for (const std::string_view name : end_names) {
          if (tokens_.IsName(name)) return block;
        }
        block.push_back(ParseStatement(line));
        tokens_.Expect(TokenKind::kBlockEnd, "%}");
      } else {
        break;
      }
    }
    if (end_names.size() > 0) {
      tokens_.Fail(
          absl::StrCat("the template ends before {% ", std::string(*(end_names.end() - 1)), " %}"));
    }
    return block;
  }

  // The same after a statement's head, whose tag ends here.
  Block ParseBody(EndNames end_names) {
    tokens_.SkipOperator(":");
    tokens_.Expect(TokenKind::kBlockEnd, "%}");
    return ParseBlock(end_names);
  }

  Statement ParseStatement(int32_t line) {
    const std::string name = tokens_.ExpectName();
    if (name == "if") return {line, ParseIf()};
    if (name == "for") return {line, ParseFor()};
    if (name == "set") return ParseSet(line);
    if (name == "macro") return {line, ParseMacro()};
    if (name == "filter") return {line, ParseFilterBlock()};
    if (name == "with") return {line, ParseWith()};
    if (name == "generation") {  // transformers marks the model's words so; they are printed
      ScopeStatement node{{}, ParseScoped({"endgeneration"})};
      tokens_.Take();
      return {line, std::move(node)};
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) tokens_.Fail(absl::StrCat("'", name, "' outside of a loop"));
      return {line, LoopControlStatement{name == "break"}};
    }
    if (name.starts_with("end") || name == "else" || name == "elif") {
      tokens_.FailAt(line, absl::StrCat("unexpected {% ", name, " %}"));
    } else {
      tokens_.Unimplemented(absl::StrCat("the statement '", name, "'"));
    }
    return {line, TextStatement{}};
  }

  IfStatement ParseIf() {
    IfStatement node;
    while (tokens_.ok()) {
      ExpressionPtr test = expressions_.ParseTuple(false);
      Block body = ParseBody({"elif", "else", "endif"});
      node.branches.push_back({std::move(test), std::move(body)});
      if (tokens_.SkipName("elif")) continue;
      if (tokens_.SkipName("else")) node.branches.push_back({nullptr, ParseBody({"endif"})});
      tokens_.Take();
      break;
    }
    return node;
  }

  ForStatement ParseFor() {
    ForStatement node;
    node.target = ParseTarget(false);
    if (!tokens_.SkipName("in")) tokens_.Unexpected("'in'");
    node.items = expressions_.ParseTuple(false, "recursive");
    if (tokens_.SkipName("if")) node.condition = expressions_.Parse();
    if (tokens_.IsName("recursive")) tokens_.Unimplemented("a recursive loop");
    ++loops_;
    node.body = ParseScoped({"else", "endfor"});
    --loops_;
    if (tokens_.SkipName("else")) node.otherwise = ParseScoped({"endfor"});
    tokens_.Take();
    return node;
  }

  Statement ParseSet(int32_t line) {
    Target target = ParseTarget(true);
    if (tokens_.SkipOperator("=")) {
      return {line, SetStatement{std::move(target), expressions_.ParseTuple()}};
    }
    SetBlockStatement node{std::move(target), {}, nullptr};
    if (tokens_.SkipOperator("|")) node.filter = expressions_.ParseFilters(Captured());
    node.body = ParseScoped({"endset"});
    tokens_.Take();
    return {line, std::move(node)};
  }

  FilterBlockStatement ParseFilterBlock() {
    FilterBlockStatement node;
    node.filter = expressions_.ParseFilters(Captured());
    node.body = ParseScoped({"endfilter"});
    tokens_.Take();
    return node;
  }

  ScopeStatement ParseWith() {
    ScopeStatement node;
    while (tokens_.ok() && !tokens_.Is(TokenKind::kBlockEnd)) {
      if (!node.variables.empty()) tokens_.ExpectOperator(",");
      Target target = ParseTarget(false);
      tokens_.ExpectOperator("=");
      node.variables.emplace_back(std::move(target), expressions_.Parse());
    }
    node.body = ParseScoped({"endwith"});
    tokens_.Take();
    return node;
  }

  MacroStatement ParseMacro() {
    // A macro then sees only its own variables and the template's, which outlive every call.
    if (scopes_ > 0) tokens_.Unimplemented("a macro inside of a loop, macro or other scope");
    auto macro = std::make_unique<Macro>();
    macro->name = tokens_.ExpectName();
    tokens_.ExpectOperator("(");
    while (tokens_.ok() && !tokens_.IsOperator(")")) {
      if (!macro->parameters.empty()) tokens_.ExpectOperator(",");
      std::string name = tokens_.ExpectName();
      ExpressionPtr otherwise;
      if (tokens_.SkipOperator("=")) {
        otherwise = expressions_.Parse();
      } else if (!macro->parameters.empty() && macro->parameters.back().second != nullptr) {
        tokens_.Fail("a parameter without default after one with");
      }
      macro->parameters.emplace_back(std::move(name), std::move(otherwise));
    }
    tokens_.ExpectOperator(")");
    expressions_.set_in_macro(true);
    macro->body = ParseScoped({"endmacro"});
    expressions_.set_in_macro(false);
    tokens_.Take();
    return {std::move(macro)};
  }

  // A body with variables of its own.
  Block ParseScoped(EndNames end_names) {
    ++scopes_;
    Block body = ParseBody(end_names);
    --scopes_;
    return body;
  }

  // Names with commas between, each perhaps in parentheses or (`with_attribute`) with an attribute.
  Target ParseTarget(bool with_attribute) {
    Target target = ParseSingleTarget(with_attribute);
    if (!tokens_.IsOperator(",")) return target;
    Target tuple;
    tuple.is_tuple = true;
    tuple.parts.push_back(std::move(target));
    while (tokens_.SkipOperator(",")) {
      if (tokens_.IsName("in") || tokens_.IsOperator("=") || tokens_.IsOperator(")")) break;
      tuple.parts.push_back(ParseSingleTarget(with_attribute));
    }
    return tuple;
  }

  Target ParseSingleTarget(bool with_attribute) {
    const TokenStream::Level level(&tokens_);
    if (tokens_.SkipOperator("(")) {
      Target target = ParseTarget(with_attribute);
      tokens_.ExpectOperator(")");
      return target;
    }
    static constexpr std::array kConstants = {"true", "True", "false", "False", "none", "None"};
    Target target;
    target.name = tokens_.ExpectName();
    for (const char* constant : kConstants) {
      if (target.name == constant) tokens_.Fail(absl::StrCat("can't assign to ", constant));
    }
    if (with_attribute && tokens_.SkipOperator(".")) target.attribute = tokens_.ExpectName();
    return target;
  }

  ExpressionPtr Captured() const {
    return std::make_unique<Expression>(Expression{tokens_.line(), 1, NameExpression{kCaptured}});
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int32_t loops_ = 0;   // around here, in the same macro
  int32_t scopes_ = 0;  // likewise, with variables of their own
};

}  // namespace

absl::StatusOr<Block> ParseTemplate(const std::string& source) {
  if (static_cast<int64_t>(source.size()) > kMaxTemplateBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("chat template: ", source.size(), " bytes; at most ", kMaxTemplateBytes));
  }
  absl::StatusOr<std::vector<Token>> tokens = Tokenize(source);
  if (!tokens.ok()) return tokens.status();
  return Parser(*std::move(tokens)).Run();
}

}  // namespace lorc::jinja
