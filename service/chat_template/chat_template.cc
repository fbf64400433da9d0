#include "service/chat_template/chat_template.h"

#include <utility>
#include <vector>

#include "service/chat_template/ast.h"
#include "service/chat_template/interpreter.h"
#include "service/chat_template/parser.h"
#include "service/chat_template/render_context.h"

namespace lorc {

using jinja::RenderContext;
using jinja::Value;

struct ChatTemplate::Parsed {
  jinja::Block block;
  std::string bos_token;
  std::string eos_token;
  Clock clock;
};

ChatTemplate::ChatTemplate(std::unique_ptr<const Parsed> parsed) : parsed_(std::move(parsed)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(const std::string& source,
                                                 const std::string& bos_token,
                                                 const std::string& eos_token, Clock clock) {
  absl::StatusOr<jinja::Block> block = jinja::ParseTemplate(source);
  if (!block.ok()) return block.status();
  if (clock == nullptr) clock = [] { return std::time(nullptr); };
  auto parsed = std::make_unique<Parsed>();
  parsed->block = *std::move(block);
  parsed->bos_token = bos_token;
  parsed->eos_token = eos_token;
  parsed->clock = std::move(clock);
  return ChatTemplate(std::move(parsed));
}

absl::StatusOr<std::string> ChatTemplate::Render(std::span<const ChatMessage> messages,
                                                 bool add_generation_prompt) const {
  RenderContext context(&parsed_->clock);
  std::vector<Value> list;
  list.reserve(messages.size());
  const Value role = Value::String("role");
  const Value content = Value::String("content");
  for (const ChatMessage& message : messages) {
    list.push_back(context.Dict(
        {{role, context.String(message.role)}, {content, context.String(message.content)}}));
    if (!context.ok()) return context.status();
  }
  jinja::Interpreter interpreter(&context);
  interpreter.SetGlobal("messages", context.List(std::move(list)));
  interpreter.SetGlobal("add_generation_prompt", Value::Bool(add_generation_prompt));
  interpreter.SetGlobal("tools", Value::None());
  interpreter.SetGlobal("documents", Value::None());
  const std::pair<const char*, const std::string&> tokens[] = {{"bos_token", parsed_->bos_token},
                                                               {"eos_token", parsed_->eos_token}};
  for (const auto& [name, text] : tokens) {
    if (!text.empty()) interpreter.SetGlobal(name, context.String(text));
  }
  std::string text = interpreter.Run(parsed_->block);
  if (!context.ok()) return context.status();
  return text;
}

}  // namespace lorc
