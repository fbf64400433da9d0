// Global functions.
#include <array>
#include <string>

#include "absl/strings/str_cat.h"
#include "service/chat_template/builtin.h"
#include "service/chat_template/compare.h"
#include "service/chat_template/limits.h"
#include "service/chat_template/printing.h"

namespace lorc::jinja {
namespace {

Value RaiseException(const BuiltinCall& call) {
  return call.context.Fail(ToText(call.context, call[0]));
}

Value Range(const BuiltinCall& call) {
  int64_t bounds[3] = {0, 0, 1};
  for (size_t i = 0; i < 3; ++i) {
    if (!call.Has(i)) continue;
    if (!call[i].is_integer()) return call.context.Fail("range: needs integers");
    bounds[i] = call[i].integer();
  }
  if (!call.Has(1)) std::swap(bounds[0], bounds[1]);
  const auto [start, stop, step] = bounds;
  if (step == 0) return call.context.Fail("range: the step is zero");
  // In 128 bits nothing overflows.
  const __int128 span =
      step > 0 ? static_cast<__int128>(stop) - start : static_cast<__int128>(start) - stop;
  const __int128 stride = step > 0 ? step : -static_cast<__int128>(step);
  const __int128 count = span <= 0 ? 0 : (span + stride - 1) / stride;
  if (count > kMaxRange) {
    return call.context.Fail(absl::StrCat("range: more than ", kMaxRange, " items"));
  }
  if (!call.context.Spend(static_cast<int64_t>(count))) return {};
  std::vector<Value> items;
  for (__int128 i = 0; i < count; ++i) {
    items.push_back(Value::Int(static_cast<int64_t>(start + i * step)));
  }
  return call.context.List(std::move(items));
}

// dict(mapping, name=value, ...)
Value MakeDict(const BuiltinCall& call) {
  std::vector<std::pair<Value, Value>> items;
  for (const Value& mapping : call.all.positional) {
    if (!mapping.is_dict() || !items.empty()) {
      return call.context.Unimplemented("dict() of anything but one dictionary and names");
    }
    items = mapping.dict();
  }
  for (const auto& [name, value] : call.all.named) {
    items.emplace_back(call.context.String(name), value);
  }
  return call.context.Dict(std::move(items));
}

Value MakeNamespace(const BuiltinCall& call) {
  const Value attributes = MakeDict(call);
  if (!call.context.ok()) return {};
  NamespaceObject* object = call.context.NewNamespace();
  for (const auto& [name, value] : attributes.dict()) {
    if (!name.is_string()) return call.context.Fail("namespace: names must be strings");
    object->attributes.emplace_back(name.string(), value);
  }
  return Value::Of(object);
}

// The time in UTC, with the conversions of C's strftime that hang on nothing but the date.
Value StrftimeNow(const BuiltinCall& call) {
  if (!call[0].is_string()) return call.context.Fail("strftime_now: needs a string");
  static constexpr std::string_view kConversions = "aAbBcdDeFHIjmMpSTuUwWxXyYZ%";
  const std::time_t now = call.context.Now();
  std::tm fields{};
  if (gmtime_r(&now, &fields) == nullptr) return call.context.Fail("strftime_now: no time");
  std::string out;
  const std::string& format = call[0].string();
  if (!call.context.Spend(static_cast<int64_t>(format.size()))) return {};
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out.push_back(format[i]);
      continue;
    }
    const std::string conversion = format.substr(i++, 2);
    if (conversion.size() < 2 || kConversions.find(conversion[1]) == std::string_view::npos) {
      return call.context.Unimplemented(absl::StrCat("strftime_now's '", conversion, "'"));
    }
    std::array<char, 64> buffer{};
    const size_t size = std::strftime(buffer.data(), buffer.size(), conversion.c_str(), &fields);
    out.append(buffer.data(), size);
  }
  return call.context.String(std::move(out));
}

constexpr Builtin kTable[] = {
    {"dict", "*", 0, MakeDict},
    {"namespace", "*", 0, MakeNamespace},
    {"raise_exception", "message", 1, RaiseException},
    {"range", "start stop step", 1, Range},
    {"strftime_now", "format", 1, StrftimeNow},
};

}  // namespace

const Builtin* FindFunction(std::string_view name) {
  for (const Builtin& builtin : kTable) {
    if (builtin.name == name) return &builtin;
  }
  return nullptr;
}

}  // namespace lorc::jinja
