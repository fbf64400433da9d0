#include "service/chat_template/access.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_cat.h"
#include "service/chat_template/builtin.h"
#include "service/chat_template/compare.h"
#include "service/chat_template/text.h"

namespace lorc::jinja {
namespace {

using Kind = Value::Kind;

Value LoopAttribute(const LoopObject& loop, const std::string& name) {
  const std::vector<Value>& items = loop.items.list();
  const int64_t length = static_cast<int64_t>(items.size());
  const int64_t index0 = loop.index0;
  if (name == "index") return Value::Int(index0 + 1);
  if (name == "index0") return Value::Int(index0);
  if (name == "revindex") return Value::Int(length - index0);
  if (name == "revindex0") return Value::Int(length - index0 - 1);
  if (name == "first") return Value::Bool(index0 == 0);
  if (name == "last") return Value::Bool(index0 + 1 == length);
  if (name == "length") return Value::Int(length);
  if (name == "depth") return Value::Int(1);
  if (name == "depth0") return Value::Int(0);
  if (name == "previtem") {
    return index0 > 0 ? items[index0 - 1] : Value::Undefined("there is no previous item");
  }
  if (name == "nextitem") {
    return index0 + 1 < length ? items[index0 + 1] : Value::Undefined("there is no next item");
  }
  return Value::Undefined(absl::StrCat("'loop' has no attribute '", name, "'"));
}

Value NoAttribute(const Value& object, const std::string& name) {
  return Value::Undefined(
      absl::StrCat("'", object.type(), " object' has no attribute '", name, "'"));
}

// A method, or an attribute of an object of Jinja.
Value OwnAttribute(RenderContext& context, const Value& object, const std::string& name,
                   bool* found) {
  *found = true;
  if (object.is(Kind::kLoop) && name != "cycle") return LoopAttribute(*object.loop(), name);
  if (object.is(Kind::kNamespace)) {
    const auto& attributes = object.name_space()->attributes;
    if (!context.Spend(static_cast<int64_t>(attributes.size() / 16))) return {};
    for (const auto& [attribute, value] : attributes) {
      if (attribute == name) return value;
    }
  }
  if (const Builtin* method = FindMethod(object, name)) {
    return Value::Of(std::make_shared<const MethodData>(MethodData{object, method}));
  }
  *found = false;
  return {};
}

// The element at `index`, counted from the end if negative; undefined outside.
Value Element(RenderContext& context, const Value& object, int64_t index) {
  Value outside =
      Value::Undefined(absl::StrCat("'", object.type(), " object' has no element ", index));
  if (object.is_list()) {
    const int64_t size = static_cast<int64_t>(object.list().size());
    if (index < 0) index += size;
    return index >= 0 && index < size ? object.list()[index] : outside;
  }
  const std::string& text = object.string();
  if (!context.Spend(static_cast<int64_t>(text.size() / 256))) return {};
  const std::vector<int64_t> offsets = CharacterOffsets(text);
  const int64_t size = static_cast<int64_t>(offsets.size()) - 1;
  if (index < 0) index += size;
  if (index < 0 || index >= size) return outside;
  return context.String(text.substr(offsets[index], offsets[index + 1] - offsets[index]));
}

// Reads a slice's bound. False if it is neither none nor an integer.
bool ReadBound(const Value* value, int64_t if_none, int64_t* bound) {
  *bound = if_none;
  if (value == nullptr || value->is_none()) return true;
  if (!value->is_integer()) return false;
  *bound = value->integer();
  return true;
}

// The positions that Python's slice(start, stop, step) takes of `size`.
std::vector<int64_t> SlicePositions(int64_t size, int64_t start, int64_t stop, int64_t step) {
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? size : size - 1;
  const auto clamp = [&](int64_t bound) {
    if (bound < 0) bound = bound < -size ? -1 - size : bound;
    return std::clamp(bound < 0 ? bound + size : bound, low, high);
  };
  start = clamp(start);
  stop = clamp(stop);
  std::vector<int64_t> positions;
  // `step` beyond the size takes one position: no overflow.
  step = std::clamp(step, -size - 1, size + 1);
  for (int64_t at = start; step > 0 ? at < stop : at > stop; at += step) positions.push_back(at);
  return positions;
}

}  // namespace

Value GetAttribute(RenderContext& context, const Value& object, const std::string& name) {
  if (object.is_undefined()) return context.FailUndefined(object);
  bool found = false;
  Value own = OwnAttribute(context, object, name, &found);
  if (found) return own;
  if (object.is_dict()) {
    if (const Value* value = Lookup(context, object, name)) return *value;
  }
  return NoAttribute(object, name);
}

Value GetItem(RenderContext& context, const Value& object, const Value& key) {
  if (object.is_undefined()) return context.FailUndefined(object);
  if (object.is_dict() && IsHashable(key)) {
    const Value* value =
        key.is_string() ? Lookup(context, object, key.string()) : Lookup(context, object, key);
    if (value != nullptr) return *value;
  }
  if ((object.is_list() || object.is_string()) && key.is_integer()) {
    return Element(context, object, key.integer());
  }
  if (!key.is_string()) {
    return Value::Undefined(absl::StrCat("'", object.type(), " object' has no such element"));
  }
  bool found = false;
  Value own = OwnAttribute(context, object, key.string(), &found);
  return found ? own : NoAttribute(object, key.string());
}

Value GetSlice(RenderContext& context, const Value& object, const Value* start, const Value* stop,
               const Value* step) {
  if (object.is_undefined()) return context.FailUndefined(object);
  if (object.is_dict()) return context.Fail("a dictionary has no slices");
  if (!object.is_list() && !object.is_string()) {
    return Value::Undefined(absl::StrCat("'", object.type(), "' has no slices"));
  }
  int64_t step_value = 1;
  if (!ReadBound(step, 1, &step_value)) return Value::Undefined("a slice needs integers");
  if (step_value == 0) return context.Fail("slice step cannot be zero");
  std::vector<int64_t> offsets;
  int64_t size = 0;
  if (object.is_list()) {
    size = static_cast<int64_t>(object.list().size());
  } else {
    if (!context.Spend(static_cast<int64_t>(object.string().size() / 256))) return {};
    offsets = CharacterOffsets(object.string());
    size = static_cast<int64_t>(offsets.size()) - 1;
  }
  const bool forwards = step_value > 0;
  int64_t first = 0;
  int64_t last = 0;
  if (!ReadBound(start, forwards ? 0 : size - 1, &first) ||
      !ReadBound(stop, forwards ? size : -1 - size, &last)) {
    return Value::Undefined("a slice needs integers");
  }
  const std::vector<int64_t> positions = SlicePositions(size, first, last, step_value);
  if (object.is_list()) {
    std::vector<Value> items;
    items.reserve(positions.size());
    for (const int64_t at : positions) items.push_back(object.list()[at]);
    return context.List(std::move(items), object.is_tuple());
  }
  std::string text;
  for (const int64_t at : positions) {
    text.append(object.string(), offsets[at], offsets[at + 1] - offsets[at]);
  }
  return context.String(std::move(text));
}

Value ToList(RenderContext& context, const Value& value) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::kUndefined:
      break;
    case Kind::kList:
      return value;
    case Kind::kDict:
      for (const auto& [key, unused] : value.dict()) items.push_back(key);
      break;
    case Kind::kString: {
      const std::string& text = value.string();
      const std::vector<int64_t> offsets = CharacterOffsets(text);
      if (!context.Spend(static_cast<int64_t>(offsets.size()))) return {};
      for (size_t i = 0; i + 1 < offsets.size(); ++i) {
        items.push_back(context.String(text.substr(offsets[i], offsets[i + 1] - offsets[i])));
      }
      break;
    }
    default:
      return context.Fail(absl::StrCat("'", value.type(), "' object is not iterable"));
  }
  return context.List(std::move(items));
}

Value GetPath(RenderContext& context, const Value& item, const Value* path) {
  if (path == nullptr || path->is_none()) return item;
  if (!path->is_string()) return GetItem(context, item, *path);
  Value current = item;
  for (const std::string_view part : Split(path->string(), ".", -1)) {
    if (!context.Spend(1)) return {};
    int64_t index = 0;
    const char* end = part.data() + part.size();
    const auto read = std::from_chars(part.data(), end, index);
    const bool is_index = read.ec == std::errc() && read.ptr == end && part[0] != '-';
    current =
        GetItem(context, current, is_index ? Value::Int(index) : Value::String(std::string(part)));
  }
  return current;
}

}  // namespace lorc::jinja
