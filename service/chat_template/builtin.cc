#include "service/chat_template/builtin.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace lorc::jinja {
namespace {

std::vector<std::string_view> Words(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const size_t size = std::min(text.find(' '), text.size());
    words.push_back(text.substr(0, size));
    text.remove_prefix(std::min(text.size(), size + 1));
  }
  return words;
}

}  // namespace

Value Call(const Builtin& builtin, RenderContext& context, const Value& self,
           const Arguments& arguments) {
  const std::string name(builtin.name);
  if (!context.Spend(1 + static_cast<int64_t>(arguments.positional.size()))) return {};
  std::vector<const Value*> args;
  if (builtin.parameters != "*") {
    const std::vector<std::string_view> parameters = Words(builtin.parameters);
    if (arguments.positional.size() > parameters.size()) {
      return context.Fail(absl::StrCat(name, ": ", arguments.positional.size(),
                                       " arguments given, at most ", parameters.size(),
                                       " are taken"));
    }
    args.resize(parameters.size(), nullptr);
    for (size_t i = 0; i < arguments.positional.size(); ++i) args[i] = &arguments.positional[i];
    for (const auto& [keyword, value] : arguments.named) {
      const auto found = std::find(parameters.begin(), parameters.end(), keyword);
      const size_t index = static_cast<size_t>(found - parameters.begin());
      if (found == parameters.end() || args[index] != nullptr) {
        return context.Fail(absl::StrCat(name, ": unexpected argument '", keyword, "'"));
      }
      args[index] = &value;
    }
    for (int32_t i = 0; i < builtin.num_required; ++i) {
      if (args[i] == nullptr) {
        return context.Fail(
            absl::StrCat(name, ": argument '", std::string(parameters[i]), "' is missing"));
      }
    }
  }
  return builtin.function({context, self, args, arguments});
}

const Builtin* FindFilter(std::string_view name) {
  for (const auto table : {TextFilters(), SequenceFilters(), OrderFilters(), NumberFilters()}) {
    for (const Builtin& builtin : table) {
      if (builtin.name == name) return &builtin;
    }
  }
  return nullptr;
}

}  // namespace lorc::jinja
