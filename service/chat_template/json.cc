#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/utf8.h"
#include "service/chat_template/limits.h"
#include "service/chat_template/printing.h"
#include "service/chat_template/sorting.h"

namespace lorc::jinja {
namespace {

using Kind = Value::Kind;

void AppendEscape(uint32_t unit, std::string* out) {
  char escape[8];
  std::snprintf(escape, sizeof(escape), "\\u%04x", unit);
  out->append(escape);
}

void AppendString(std::string_view text, bool ensure_ascii, std::string* out) {
  static constexpr std::string_view kSpecial = "\"\\\n\r\t\b\f";
  static constexpr std::string_view kLetters = "\"\\nrtbf";
  out->push_back('"');
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    const char32_t c = step.code_point;
    const size_t special = c < 0x80 ? kSpecial.find(static_cast<char>(c)) : std::string_view::npos;
    if (special != std::string_view::npos) {
      out->push_back('\\');
      out->push_back(kLetters[special]);
    } else if (c < 0x20 || (ensure_ascii && c >= 0x7F && c < 0x10000)) {
      AppendEscape(c, out);
    } else if (ensure_ascii && c >= 0x10000) {
      AppendEscape(0xD800 + ((c - 0x10000) >> 10), out);
      AppendEscape(0xDC00 + ((c - 0x10000) & 0x3FF), out);
    } else {
      out->append(text.substr(0, step.size));
    }
    text.remove_prefix(step.size);
  }
  out->push_back('"');
}

class JsonWriter {
 public:
  JsonWriter(RenderContext& context, const JsonOptions& options)
      : context_(context), options_(options) {}

  void Write(const Value& value, int32_t level) {
    if (!context_.Spend(1)) return;
    if (static_cast<int64_t>(out.size()) > kMaxStringBytes) {
      context_.Fail(absl::StrCat("a string of more than ", kMaxStringBytes, " bytes"));
      return;
    }
    switch (value.kind()) {
      case Kind::kString:
        AppendString(value.string(), options_.ensure_ascii, &out);
        return;
      case Kind::kList:
        WriteItems("[]", value.list(), level, [&](const Value& item) { Write(item, level + 1); });
        return;
      case Kind::kDict:
        WriteDict(value, level);
        return;
      default:
        out += Scalar(value);
    }
  }

  std::string out;

 private:
  std::string Scalar(const Value& value) {
    switch (value.kind()) {
      case Kind::kNone:
        return "null";
      case Kind::kBool:
        return value.IsTrue() ? "true" : "false";
      case Kind::kInt:
        return absl::StrCat(value.integer());
      case Kind::kFloat:
        if (std::isnan(value.number())) return "NaN";
        if (std::isinf(value.number())) return value.number() < 0 ? "-Infinity" : "Infinity";
        return FloatText(value.number());
      default:
        context_.Fail(absl::StrCat("'", value.type(), "' has no JSON form"));
        return {};
    }
  }

  void WriteDict(const Value& value, int32_t level) {
    const auto write = [&](const std::pair<Value, Value>& item) {
      AppendString(item.first.is_string() ? item.first.string() : Scalar(item.first),
                   options_.ensure_ascii, &out);
      out += options_.key_separator;
      Write(item.second, level + 1);
    };
    if (!options_.sort_keys) return WriteItems("{}", value.dict(), level, write);
    std::vector<Value> keys;
    for (const auto& [key, unused] : value.dict()) keys.push_back(key);
    std::vector<std::pair<Value, Value>> sorted;
    for (const int64_t at : SortedPositions(context_, keys, false)) {
      sorted.push_back(value.dict()[at]);
    }
    WriteItems("{}", sorted, level, write);
  }

  template <typename Items, typename WriteItem>
  void WriteItems(const char* brackets, const Items& items, int32_t level, WriteItem write_item) {
    out.push_back(brackets[0]);
    bool first = true;
    for (const auto& item : items) {
      if (!context_.ok()) return;
      if (!first) out += options_.item_separator;
      first = false;
      NewLine(level + 1);
      write_item(item);
    }
    if (!items.empty()) NewLine(level);
    out.push_back(brackets[1]);
  }

  void NewLine(int32_t level) {
    if (!options_.has_indent) return;
    out.push_back('\n');
    for (int32_t i = 0; i < level; ++i) out += options_.indent;
  }

  RenderContext& context_;
  const JsonOptions& options_;
};

}  // namespace

std::string ToJson(RenderContext& context, const Value& value, const JsonOptions& options) {
  JsonWriter writer(context, options);
  writer.Write(value, 0);
  return std::move(writer.out);
}

}  // namespace lorc::jinja
