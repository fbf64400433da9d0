#include "service/chat_template/interpreter.h"

#include "absl/strings/str_cat.h"
#include "service/chat_template/access.h"
#include "service/chat_template/limits.h"
#include "service/chat_template/printing.h"

namespace lorc::jinja {

std::string Interpreter::Run(const Block& block) {
  std::string text;
  out_ = &text;
  ExecuteBlock(block);
  out_ = nullptr;
  return text;
}

Interpreter::Flow Interpreter::ExecuteBlock(const Block& block) {
  for (const Statement& statement : block) {
    const Flow flow = Execute(statement);
    if (flow != Flow::kNext || !context_.ok()) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::Execute(const Statement& statement) {
  const RenderContext::Level level(&context_);
  if (!context_.ok()) return Flow::kNext;
  context_.set_line(statement.line);
  return std::visit([this](const auto& node) { return Execute(node); }, statement.node);
}

Interpreter::Flow Interpreter::Execute(const TextStatement& node) {
  Emit(node.text);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::Execute(const PrintStatement& node) {
  const Value value = Evaluate(*node.value);
  if (!context_.ok()) return Flow::kNext;
  if (value.is_string()) {
    Emit(value.string());
  } else {
    Emit(ToText(context_, value));
  }
  return Flow::kNext;
}

void Interpreter::Emit(std::string_view text) {
  const int64_t size = static_cast<int64_t>(out_->size() + text.size());
  if (size > kMaxStringBytes) {
    context_.Fail(absl::StrCat("more than ", kMaxStringBytes, " bytes of text"));
  } else if (context_.ok() && context_.SpendBytes(static_cast<int64_t>(text.size()))) {
    out_->append(text);
  }
}

Interpreter::Flow Interpreter::Execute(const IfStatement& node) {
  for (const IfStatement::Branch& branch : node.branches) {
    if (branch.test == nullptr || Evaluate(*branch.test).IsTrue()) {
      return context_.ok() ? ExecuteBlock(branch.body) : Flow::kNext;
    }
    if (!context_.ok()) break;
  }
  return Flow::kNext;
}

// The items that the loop goes over, as a list.
Value Interpreter::ChooseItems(const ForStatement& node) {
  Value all = ToList(context_, Evaluate(*node.items));
  if (node.condition == nullptr || !context_.ok()) return all;
  std::vector<Value> chosen;
  for (const Value& item : all.list()) {
    const Scopes::Frame frame(&scopes_);
    Assign(node.target, item);
    const bool is_chosen = Evaluate(*node.condition).IsTrue();
    if (!context_.ok()) return {};
    if (is_chosen) chosen.push_back(item);
  }
  return context_.List(std::move(chosen));
}

Interpreter::Flow Interpreter::Execute(const ForStatement& node) {
  const Value items = ChooseItems(node);
  if (!context_.ok()) return Flow::kNext;
  if (items.list().empty()) {
    const Scopes::Frame frame(&scopes_);
    return ExecuteBlock(node.otherwise);
  }
  LoopObject* loop = context_.NewLoop(items);
  const int64_t size = static_cast<int64_t>(items.list().size());
  for (loop->index0 = 0; loop->index0 < size && context_.ok(); ++loop->index0) {
    const Scopes::Frame frame(&scopes_);
    scopes_.Set("loop", Value::Of(loop));
    Assign(node.target, items.list()[loop->index0]);
    if (ExecuteBlock(node.body) == Flow::kBreak) break;
  }
  return Flow::kNext;
}

void Interpreter::Assign(const Target& target, const Value& value) {
  if (!context_.Spend(1 + scopes_.size() / 16)) return;
  if (target.is_tuple) {
    const Value items = ToList(context_, value);
    if (!context_.ok()) return;
    if (items.list().size() != target.parts.size()) {
      context_.Fail(
          absl::StrCat(items.list().size(), " values for ", target.parts.size(), " variables"));
      return;
    }
    for (size_t i = 0; i < target.parts.size(); ++i) Assign(target.parts[i], items.list()[i]);
    return;
  }
  if (target.attribute.empty()) {
    scopes_.Set(target.name, value);
    return;
  }
  const Value* object = scopes_.Find(target.name);
  if (object == nullptr || !object->is(Value::Kind::kNamespace)) {
    context_.Fail(absl::StrCat("'", target.name, "' is not a namespace"));
    return;
  }
  auto& attributes = object->name_space()->attributes;
  if (!context_.Spend(static_cast<int64_t>(attributes.size() / 16))) return;
  for (auto& [name, current] : attributes) {
    if (name == target.attribute) {
      current = value;
      return;
    }
  }
  attributes.emplace_back(target.attribute, value);
}

Interpreter::Flow Interpreter::Execute(const SetStatement& node) {
  const Value value = Evaluate(*node.value);
  if (context_.ok()) Assign(node.target, value);
  return Flow::kNext;
}

// The text that `body` prints, sent through `filter` if there is one.
Value Interpreter::Capture(const Block& body, const ExpressionPtr& filter, Flow* flow) {
  std::string text;
  std::string* outer = out_;
  out_ = &text;
  {
    const Scopes::Frame frame(&scopes_);
    *flow = ExecuteBlock(body);
  }
  out_ = outer;
  Value value = context_.String(std::move(text));
  if (filter == nullptr || !context_.ok()) return value;
  const Scopes::Frame frame(&scopes_);
  scopes_.Set(kCaptured, value);
  return Evaluate(*filter);
}

Interpreter::Flow Interpreter::Execute(const SetBlockStatement& node) {
  Flow flow = Flow::kNext;
  const Value value = Capture(node.body, node.filter, &flow);
  if (context_.ok()) Assign(node.target, value);
  return flow;
}

Interpreter::Flow Interpreter::Execute(const FilterBlockStatement& node) {
  Flow flow = Flow::kNext;
  const Value value = Capture(node.body, node.filter, &flow);
  if (context_.ok()) Emit(ToText(context_, value));
  return flow;
}

Interpreter::Flow Interpreter::Execute(const ScopeStatement& node) {
  std::vector<Value> values;
  for (const auto& [unused, value] : node.variables) values.push_back(Evaluate(*value));
  if (!context_.ok()) return Flow::kNext;
  const Scopes::Frame frame(&scopes_);
  for (size_t i = 0; i < values.size(); ++i) Assign(node.variables[i].first, values[i]);
  return ExecuteBlock(node.body);
}

Interpreter::Flow Interpreter::Execute(const MacroStatement& node) {
  scopes_.Set(node.macro->name, Value::Of(node.macro.get()));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::Execute(const LoopControlStatement& node) {
  return node.is_break ? Flow::kBreak : Flow::kContinue;
}

Value Interpreter::CallMacro(const Macro& macro, const Arguments& arguments) {
  const size_t num_positional = arguments.positional.size();
  if (num_positional > macro.parameters.size()) {
    return context_.Fail(absl::StrCat("macro '", macro.name, "' takes not more than ",
                                      macro.parameters.size(), " arguments"));
  }
  std::vector<const Value*> given(macro.parameters.size(), nullptr);
  for (size_t i = 0; i < num_positional; ++i) given[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    size_t index = 0;
    while (index < given.size() && macro.parameters[index].first != name) ++index;
    if (index == given.size() || given[index] != nullptr) {
      return context_.Fail(
          absl::StrCat("macro '", macro.name, "' takes no keyword argument '", name, "'"));
    }
    given[index] = &value;
  }
  std::string text;
  std::string* outer = out_;
  {
    const Scopes::MacroFrame frame(&scopes_);
    for (size_t i = 0; i < given.size() && context_.ok(); ++i) {
      const auto& [name, otherwise] = macro.parameters[i];
      Value value = Value::Undefined(absl::StrCat("parameter '", name, "' was not provided"));
      if (given[i] != nullptr) {
        value = *given[i];
      } else if (otherwise != nullptr) {
        value = Evaluate(*otherwise);
      }
      scopes_.Set(name, std::move(value));
    }
    out_ = &text;
    if (context_.ok()) ExecuteBlock(macro.body);
    out_ = outer;
  }
  return context_.String(std::move(text));
}

}  // namespace lorc::jinja
