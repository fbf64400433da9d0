#include "runtime/weights/fields.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"

namespace lorc {

FieldReader::FieldReader(std::string source) : source_(std::move(source)) {}

absl::Status FieldReader::Invalid(const std::string& message) const {
  return absl::InvalidArgumentError(absl::StrCat(Printable(source_), ": ", message));
}

absl::Status FieldReader::Unimplemented(const std::string& message) const {
  return absl::UnimplementedError(absl::StrCat(Printable(source_), ": ", message));
}

template <typename T>
absl::StatusOr<std::optional<T>> FieldReader::Get(const std::string& key, const char* type) const {
  T value{};
  switch (LookUp(key, &value)) {
    case Found::kAbsent:
      return std::optional<T>();
    case Found::kOtherType:
      return Invalid(absl::StrCat(key, " is not ", type));
    case Found::kValue:
      break;
  }
  return std::optional<T>(std::move(value));
}

absl::StatusOr<int32_t> FieldReader::Integer(const std::string& key, int32_t lowest,
                                             int32_t highest,
                                             std::optional<int32_t> fallback) const {
  LORC_ASSIGN_OR_RETURN(const std::optional<int64_t> value, Get<int64_t>(key, "an integer"));
  if (!value && fallback) return *fallback;
  if (!value)
    return Invalid(
        absl::StrCat(key, " is missing; an integer from ", lowest, " to ", highest, " is needed"));
  if (*value < lowest || *value > highest)
    return Invalid(
        absl::StrCat(key, " is ", *value, "; ", lowest, " to ", highest, " is supported"));
  return static_cast<int32_t>(*value);
}

absl::StatusOr<double> FieldReader::Number(const std::string& key, double lowest, double highest,
                                           std::optional<double> fallback) const {
  LORC_ASSIGN_OR_RETURN(const std::optional<double> value, Get<double>(key, "a number"));
  if (!value && fallback) return *fallback;
  if (!value)
    return Invalid(
        absl::StrCat(key, " is missing; a number from ", lowest, " to ", highest, " is needed"));
  if (!(*value >= lowest && *value <= highest))  // also refuses NaN
    return Invalid(
        absl::StrCat(key, " is ", *value, "; ", lowest, " to ", highest, " is supported"));
  return *value;
}

absl::StatusOr<bool> FieldReader::Bool(const std::string& key, bool fallback) const {
  LORC_ASSIGN_OR_RETURN(const std::optional<bool> value, Get<bool>(key, "a bool"));
  return value.value_or(fallback);
}

absl::StatusOr<std::string> FieldReader::String(const std::string& key,
                                                const std::string& fallback) const {
  LORC_ASSIGN_OR_RETURN(std::optional<std::string> value, Get<std::string>(key, "a text in UTF-8"));
  return std::move(value).value_or(fallback);
}

bool FieldReader::Has(const std::string& key) const {
  int64_t value = 0;
  return LookUp(key, &value) != Found::kAbsent;
}

}  // namespace lorc
