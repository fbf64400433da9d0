#include "service/chat_template/printing.h"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/utf8.h"
#include "service/chat_template/limits.h"
#include "service/chat_template/text.h"

namespace lorc::jinja {
namespace {

using Kind = Value::Kind;

// The string's repr, between the quotes that Python chooses.
void AppendQuoted(std::string_view text, std::string* out) {
  const bool doubled =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = doubled ? '"' : '\'';
  out->push_back(quote);
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    const char32_t c = step.code_point;
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out->push_back('\\');
      out->push_back(static_cast<char>(c));
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out->append(c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
    } else if (IsPrintable(c) || step.kind != Utf8Kind::kValid) {
      out->append(text.substr(0, step.size));
    } else {
      char escape[12];
      const char* format = c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
      std::snprintf(escape, sizeof(escape), format, static_cast<unsigned>(c));
      out->append(escape);
    }
    text.remove_prefix(step.size);
  }
  out->push_back(quote);
}

class ReprWriter {
 public:
  explicit ReprWriter(RenderContext& context) : context_(context) {}

  void Write(const Value& value) {
    if (!context_.Spend(1)) return;
    if (static_cast<int64_t>(out.size()) > kMaxStringBytes) {
      context_.Fail(absl::StrCat("a string of more than ", kMaxStringBytes, " bytes"));
      return;
    }
    switch (value.kind()) {
      case Kind::kUndefined:
        out += "Undefined";
        return;
      case Kind::kNone:
        out += "None";
        return;
      case Kind::kBool:
        out += value.IsTrue() ? "True" : "False";
        return;
      case Kind::kInt:
        absl::StrAppend(&out, value.integer());
        return;
      case Kind::kFloat:
        out += FloatText(value.number());
        return;
      case Kind::kString:
        AppendQuoted(value.string(), &out);
        return;
      case Kind::kList:
        WriteList(value);
        return;
      case Kind::kDict:
        WriteDict(value);
        return;
      default:
        context_.Fail(absl::StrCat("a ", value.type(), " can't be printed"));
    }
  }

  std::string out;

 private:
  void WriteList(const Value& value) {
    out += value.is_tuple() ? "(" : "[";
    for (size_t i = 0; i < value.list().size() && context_.ok(); ++i) {
      if (i > 0) out += ", ";
      Write(value.list()[i]);
    }
    if (value.is_tuple() && value.list().size() == 1) out += ",";
    out += value.is_tuple() ? ")" : "]";
  }

  void WriteDict(const Value& value) {
    out += "{";
    for (size_t i = 0; i < value.dict().size() && context_.ok(); ++i) {
      if (i > 0) out += ", ";
      Write(value.dict()[i].first);
      out += ": ";
      Write(value.dict()[i].second);
    }
    out += "}";
  }

  RenderContext& context_;
};

}  // namespace

std::string ToText(RenderContext& context, const Value& value) {
  if (value.is_string()) return value.string();
  if (value.is_undefined()) return {};
  return ToRepr(context, value);
}

std::string ToRepr(RenderContext& context, const Value& value) {
  ReprWriter writer(context);
  writer.Write(value);
  return std::move(writer.out);
}

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[32];
  const auto result =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  std::string_view written(buffer, static_cast<size_t>(result.ptr - buffer));
  std::string out;
  if (written.starts_with('-')) {
    out.push_back('-');
    written.remove_prefix(1);
  }
  const size_t letter = written.find('e');
  int exponent = 0;
  const size_t sign = written[letter + 1] == '+' ? 1 : 0;
  std::from_chars(written.data() + letter + 1 + sign, written.data() + written.size(), exponent);
  std::string digits(1, written[0]);
  if (letter > 2) digits.append(written.substr(2, letter - 2));
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out.append(digits, 0, 1);
    if (count > 1) out.append(".").append(digits, 1);
    const int magnitude = std::abs(exponent);
    absl::StrAppend(&out, exponent < 0 ? "e-" : "e+", magnitude < 10 ? "0" : "", magnitude);
  } else if (exponent < 0) {
    out.append("0.").append(static_cast<size_t>(-exponent - 1), '0').append(digits);
  } else if (count <= exponent + 1) {
    out.append(digits).append(static_cast<size_t>(exponent + 1 - count), '0').append(".0");
  } else {
    out.append(digits, 0, exponent + 1).append(".").append(digits, exponent + 1);
  }
  return out;
}

}  // namespace lorc::jinja
