// What a template can call: filters, tests, methods and global functions, all of one form.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "service/chat_template/render_context.h"
#include "service/chat_template/value.h"

namespace lorc::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct BuiltinCall {
  RenderContext& context;
  const Value& self;                   // filters, tests, methods: what they are applied to
  std::span<const Value* const> args;  // one per parameter; nullptr: not given
  const Arguments& all;                // as given, for those that take any ("*")

  bool Has(size_t index) const { return args[index] != nullptr; }
  const Value& operator[](size_t index) const { return *args[index]; }
};

struct Builtin {
  std::string_view name;
  std::string_view parameters;  // names with a space between, the required ones first; "*": any
  int32_t num_required = 0;
  Value (*function)(const BuiltinCall& call) = nullptr;
};

// nullptr if there is none of that name (for methods: of self's type).
const Builtin* FindFilter(std::string_view name);
const Builtin* FindTest(std::string_view name);
const Builtin* FindFunction(std::string_view name);
const Builtin* FindMethod(const Value& self, std::string_view name);

// Gives the arguments to the parameters by position and name, and calls. Fails the render if they
// do not fit.
Value Call(const Builtin& builtin, RenderContext& context, const Value& self,
           const Arguments& arguments);

// The tables, one per file.
std::span<const Builtin> TextFilters();
std::span<const Builtin> SequenceFilters();
std::span<const Builtin> OrderFilters();
std::span<const Builtin> NumberFilters();
std::span<const Builtin> StringMethods();

}  // namespace lorc::jinja
