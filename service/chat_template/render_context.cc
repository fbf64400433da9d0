#include "service/chat_template/render_context.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "service/chat_template/compare.h"
#include "service/chat_template/errors.h"
#include "service/chat_template/limits.h"

namespace lorc::jinja {

Value RenderContext::Fail(const std::string& message) {
  if (ok()) status_ = InvalidAt(line_, message);
  return Value();
}

Value RenderContext::Unimplemented(const std::string& construct) {
  if (ok()) status_ = UnimplementedAt(line_, construct);
  return Value();
}

bool RenderContext::Spend(int64_t steps) {
  steps_ += steps;
  if (steps_ > kMaxSteps) Fail(absl::StrCat("more than ", kMaxSteps, " steps"));
  return ok();
}

bool RenderContext::SpendBytes(int64_t bytes) {
  bytes_ += bytes;
  if (bytes_ > kMaxBytes) Fail(absl::StrCat("more than ", kMaxBytes, " bytes of memory"));
  return ok();
}

bool RenderContext::CheckDepth(int32_t depth) {
  if (depth > kMaxValueDepth) {
    Fail(absl::StrCat("more than ", kMaxValueDepth, " lists inside each other"));
  }
  return ok();
}

Value RenderContext::String(std::string text) {
  const int64_t size = static_cast<int64_t>(text.size());
  if (size > kMaxStringBytes) {
    return Fail(absl::StrCat("a string of more than ", kMaxStringBytes, " bytes"));
  }
  return SpendBytes(size) ? Value::String(std::move(text)) : Value();
}

Value RenderContext::List(std::vector<Value> items, bool is_tuple) {
  const int64_t size = static_cast<int64_t>(items.size());
  if (!Spend(1 + size / 16) || !SpendBytes(size * static_cast<int64_t>(sizeof(Value)))) return {};
  auto data = std::make_shared<ListData>();
  for (const Value& item : items) data->depth = std::max(data->depth, item.depth() + 1);
  if (!CheckDepth(data->depth)) return {};
  data->items = std::move(items);
  data->is_tuple = is_tuple;
  return Value::Of(std::shared_ptr<const ListData>(std::move(data)));
}

Value RenderContext::Dict(std::vector<std::pair<Value, Value>>&& items) {
  const int64_t size = static_cast<int64_t>(items.size());
  if (!SpendBytes(size * 2 * static_cast<int64_t>(sizeof(Value)))) return {};
  auto data = std::make_shared<DictData>();
  for (auto& [key, value] : items) {
    if (!IsHashable(key)) return Fail(absl::StrCat("unhashable type: '", key.type(), "'"));
    data->depth = std::max({data->depth, key.depth() + 1, value.depth() + 1});
    Value* known = nullptr;
    for (auto& [other, other_value] : data->items) {
      if (Equal(*this, other, key)) known = &other_value;
    }
    if (!ok()) return {};
    if (known != nullptr) {
      *known = std::move(value);
    } else {
      data->items.emplace_back(std::move(key), std::move(value));
    }
  }
  if (!CheckDepth(data->depth)) return {};
  return Value::Of(std::shared_ptr<const DictData>(std::move(data)));
}

NamespaceObject* RenderContext::NewNamespace() {
  SpendBytes(static_cast<int64_t>(sizeof(NamespaceObject)));
  return &namespaces_.emplace_back();
}

LoopObject* RenderContext::NewLoop(Value list) {
  SpendBytes(static_cast<int64_t>(sizeof(LoopObject)));
  return &loops_.emplace_back(LoopObject{std::move(list), 0});
}

RenderContext::Level::Level(RenderContext* context) : context_(context) {
  if (++context_->depth_ > kMaxDepth) {
    context_->Fail(absl::StrCat("more than ", kMaxDepth, " evaluations inside each other"));
  }
  context_->Spend(1);
}

}  // namespace lorc::jinja
