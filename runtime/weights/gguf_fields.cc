#include "runtime/weights/gguf_fields.h"

#include "runtime/weights/utf8.h"

namespace lorc {

GgufFields::GgufFields(const Gguf& gguf) : FieldReader(gguf.name()), gguf_(gguf) {}

template <typename T, typename Convert>
FieldReader::Found GgufFields::LookUpAs(const std::string& key, T* value, Convert convert) const {
  const GgufValue* found = gguf_.FindValue(key);
  if (found == nullptr) return Found::kAbsent;
  const auto converted = (found->*convert)();
  if (!converted) return Found::kOtherType;
  *value = T(*converted);
  return Found::kValue;
}

FieldReader::Found GgufFields::LookUp(const std::string& key, int64_t* value) const {
  return LookUpAs(key, value, &GgufValue::AsInteger);
}

FieldReader::Found GgufFields::LookUp(const std::string& key, double* value) const {
  return LookUpAs(key, value, &GgufValue::AsNumber);
}

FieldReader::Found GgufFields::LookUp(const std::string& key, bool* value) const {
  return LookUpAs(key, value, &GgufValue::AsBool);
}

FieldReader::Found GgufFields::LookUp(const std::string& key, std::string* value) const {
  const Found found = LookUpAs(key, value, &GgufValue::AsString);
  return found == Found::kValue && !IsUtf8(*value) ? Found::kOtherType : found;
}

}  // namespace lorc
