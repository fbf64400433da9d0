// What an expression is worth: Python's plain types, immutable, and the few objects of Jinja.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace lorc::jinja {

class Value;
struct Builtin;
struct ListData;
struct DictData;
struct LoopObject;
struct Macro;
struct MethodData;
struct NamespaceObject;

// Cheap to copy: strings, lists and dictionaries are shared. Namespaces, loops and macros are
// borrowed: a render owns the first two, the syntax tree the third.
//
// Lists and dictionaries are made by RenderContext, which bounds their depth and cost.
class Value {
 public:
  // In the order of the variant's types.
  enum class Kind : uint8_t {
    kUndefined,
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kList,
    kDict,
    kNamespace,
    kLoop,
    kMacro,
    kFunction,
    kMethod,
  };

  Value() = default;  // undefined, nobody knows why
  // `why` is the message of whoever uses it where that is an error.
  static Value Undefined(std::string why);
  static Value None() { return Value(NoneType{}); }
  static Value Bool(bool value) { return Value(value); }
  static Value Int(int64_t value) { return Value(value); }
  static Value Float(double value) { return Value(value); }
  static Value String(std::string value);
  static Value Of(std::shared_ptr<const ListData> list) { return Value(std::move(list)); }
  static Value Of(std::shared_ptr<const DictData> dict) { return Value(std::move(dict)); }
  static Value Of(std::shared_ptr<const MethodData> method) { return Value(std::move(method)); }
  static Value Of(NamespaceObject* object) { return Value(object); }
  static Value Of(const LoopObject* loop) { return Value(loop); }
  static Value Of(const Macro* macro) { return Value(macro); }
  static Value Of(const Builtin* function) { return Value(function); }

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is(Kind other) const { return kind() == other; }
  bool is_undefined() const { return is(Kind::kUndefined); }
  bool is_none() const { return is(Kind::kNone); }
  bool is_string() const { return is(Kind::kString); }
  bool is_list() const { return is(Kind::kList); }
  bool is_dict() const { return is(Kind::kDict); }
  bool is_bool() const { return is(Kind::kBool); }
  // As Python has it: a bool is an integer, an integer is a number.
  bool is_integer() const { return is_bool() || is(Kind::kInt); }
  bool is_number() const { return is_integer() || is(Kind::kFloat); }

  // Each only for its kind.
  const std::string& undefined_reason() const;
  int64_t integer() const;  // is_integer()
  double number() const;    // is_number()
  const std::string& string() const { return *std::get<StringData>(data_); }
  const std::vector<Value>& list() const;
  bool is_tuple() const;  // false for what is not even a list
  const std::vector<std::pair<Value, Value>>& dict() const;
  NamespaceObject* name_space() const { return std::get<NamespaceObject*>(data_); }
  const LoopObject* loop() const { return std::get<const LoopObject*>(data_); }
  const Macro* macro() const { return std::get<const Macro*>(data_); }
  const Builtin* function() const { return std::get<const Builtin*>(data_); }
  const MethodData& method() const { return *std::get<std::shared_ptr<const MethodData>>(data_); }

  bool IsTrue() const;       // Python's bool()
  int32_t depth() const;     // lists and dictionaries inside each other; 0 for anything else
  const char* type() const;  // Python's name, for messages

 private:
  struct NoneType {};
  using StringData = std::shared_ptr<const std::string>;
  template <typename T>
  explicit Value(T data) : data_(std::move(data)) {}

  // The first is an undefined value's reason, or nullptr.
  struct UndefinedType {
    StringData reason;
  };
  std::variant<UndefinedType, NoneType, bool, int64_t, double, StringData,
               std::shared_ptr<const ListData>, std::shared_ptr<const DictData>, NamespaceObject*,
               const LoopObject*, const Macro*, const Builtin*, std::shared_ptr<const MethodData>>
      data_;
};

struct ListData {
  std::vector<Value> items;
  bool is_tuple = false;
  int32_t depth = 1;
};

struct DictData {
  std::vector<std::pair<Value, Value>> items;  // in order of first insertion; keys differ
  int32_t depth = 1;
};

// namespace(): the only thing that a template can change.
struct NamespaceObject {
  std::vector<std::pair<std::string, Value>> attributes;
};

// `loop` inside a for statement.
struct LoopObject {
  Value items;         // a list
  int64_t index0 = 0;  // of the current item
};

// `object.name` where that is a method of its type.
struct MethodData {
  Value self;
  const Builtin* function = nullptr;
};

}  // namespace lorc::jinja
