// Parses expressions with Jinja 3.1's grammar.
//
// No function returns nullptr, also after a failure: the caller looks at the stream's status once,
// at the end.
#pragma once

#include "service/chat_template/ast.h"
#include "service/chat_template/token_stream.h"

namespace lorc::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream* tokens) : tokens_(*tokens) {}

  // One expression; `a if b else c` only `with_conditional`.
  ExpressionPtr Parse(bool with_conditional = true);

  // One expression, or several with commas between as a tuple. `end_name`: a keyword that may
  // follow a comma.
  ExpressionPtr ParseTuple(bool with_conditional = true, std::string_view end_name = {});

  // `name(arguments) | name(arguments) ...`, applied to `input`; the stream is at the first name.
  ExpressionPtr ParseFilters(ExpressionPtr input);

  // In a macro some names mean what is not supported.
  void set_in_macro(bool in_macro) { in_macro_ = in_macro; }

 private:
  ExpressionPtr Make(int32_t line, ExpressionNode node);
  ExpressionPtr ParseConditional();
  ExpressionPtr ParseLogic(bool is_and);
  ExpressionPtr ParseNot();
  ExpressionPtr ParseComparison();
  ExpressionPtr ParseSum();
  ExpressionPtr ParseConcat();
  ExpressionPtr ParseProduct();
  ExpressionPtr ParsePower();
  ExpressionPtr ParseOperand() { return ParseUnary(true); }
  template <typename Operators>
  ExpressionPtr ParseArithmetic(ExpressionPtr (ExpressionParser::*operand)(),
                                const Operators& operators);
  ExpressionPtr ParseUnary(bool with_filters);
  ExpressionPtr ParsePrimary();
  ExpressionPtr ParseName();
  ExpressionPtr ParseList();
  ExpressionPtr ParseDict();
  ExpressionPtr ParsePostfix(ExpressionPtr object);
  ExpressionPtr ParseDot(ExpressionPtr object);
  ExpressionPtr ParseBrackets(ExpressionPtr object);
  ExpressionPtr ParseCall(ExpressionPtr callee);
  ExpressionPtr ParseFiltersAndTests(ExpressionPtr input);
  ExpressionPtr ParseFilter(ExpressionPtr input);
  ExpressionPtr ParseTest(ExpressionPtr input);
  CallArguments ParseArguments();
  std::string ParseDottedName();
  bool StartsTestArgument() const;

  TokenStream& tokens_;
  bool in_macro_ = false;
};

}  // namespace lorc::jinja
