#include "service/chat_template/value.h"

namespace lorc::jinja {

Value Value::Undefined(std::string why) {
  return Value(UndefinedType{std::make_shared<const std::string>(std::move(why))});
}

Value Value::String(std::string value) {
  return Value(std::make_shared<const std::string>(std::move(value)));
}

const std::string& Value::undefined_reason() const {
  static const std::string unknown = "a value is undefined";
  const StringData& reason = std::get<UndefinedType>(data_).reason;
  return reason == nullptr ? unknown : *reason;
}

int64_t Value::integer() const {
  return is_bool() ? static_cast<int64_t>(std::get<bool>(data_)) : std::get<int64_t>(data_);
}

double Value::number() const {
  return is_integer() ? static_cast<double>(integer()) : std::get<double>(data_);
}

const std::vector<Value>& Value::list() const {
  return std::get<std::shared_ptr<const ListData>>(data_)->items;
}

bool Value::is_tuple() const {
  return is_list() && std::get<std::shared_ptr<const ListData>>(data_)->is_tuple;
}

const std::vector<std::pair<Value, Value>>& Value::dict() const {
  return std::get<std::shared_ptr<const DictData>>(data_)->items;
}

bool Value::IsTrue() const {
  switch (kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return integer() != 0;
    case Kind::kFloat:
      return number() != 0.0;
    case Kind::kString:
      return !string().empty();
    case Kind::kList:
      return !list().empty();
    case Kind::kDict:
      return !dict().empty();
    default:
      return true;
  }
}

int32_t Value::depth() const {
  switch (kind()) {
    case Kind::kList:
      return std::get<std::shared_ptr<const ListData>>(data_)->depth;
    case Kind::kDict:
      return std::get<std::shared_ptr<const DictData>>(data_)->depth;
    case Kind::kMethod:
      return method().self.depth();
    default:
      return 0;
  }
}

const char* Value::type() const {
  switch (kind()) {
    case Kind::kUndefined:
      return "undefined";
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return is_tuple() ? "tuple" : "list";
    case Kind::kDict:
      return "dict";
    case Kind::kNamespace:
      return "namespace";
    case Kind::kLoop:
      return "loop";
    case Kind::kMacro:
      return "macro";
    case Kind::kFunction:
      return "function";
    case Kind::kMethod:
      return "method";
  }
  return "value";
}

}  // namespace lorc::jinja
