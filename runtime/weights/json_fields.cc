#include "runtime/weights/json_fields.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr size_t kMaxBytes = size_t{128} << 20;
constexpr int64_t kMaxValues = int64_t{4} << 20;
constexpr int kMaxDepth = 64;

struct Extent {
  int64_t values = 1;  // an upper bound: opening brackets and commas
  int depth = 0;       // the deepest point
};

// Sizes up the text before a tree is built from it. Right for valid JSON; the parser refuses the
// rest.
Extent Measure(std::string_view text) {
  Extent extent;
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      ++extent.values;
      extent.depth = std::max(extent.depth, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    } else if (c == ',') {
      ++extent.values;
    }
  }
  return extent;
}

}  // namespace

absl::Status ParseJson(std::string_view text, const std::string& source, nlohmann::json* value) {
  const auto invalid = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(Printable(source), ": ", what));
  };
  if (text.size() > kMaxBytes)
    return invalid(absl::StrCat("has ", text.size(), " bytes; at most ", kMaxBytes, " are read"));
  const Extent extent = Measure(text);
  if (extent.depth > kMaxDepth)
    return invalid(absl::StrCat("nests more than ", kMaxDepth, " levels"));
  if (extent.values > kMaxValues)
    return invalid(absl::StrCat("has more than ", kMaxValues, " values"));
  *value = nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (value->is_discarded()) return invalid("is not valid JSON (UTF-8)");
  return absl::OkStatus();
}

absl::Status ParseJsonObject(std::string_view text, const std::string& source,
                             nlohmann::json* value) {
  LORC_RETURN_IF_ERROR(ParseJson(text, source, value));
  if (value->is_object()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(Printable(source), ": a JSON object was expected, not ", value->type_name()));
}

JsonFields::JsonFields(const nlohmann::json& object, const std::string& source)
    : FieldReader(source), object_(object) {}

const nlohmann::json* JsonFields::Find(const std::string& key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

FieldReader::Found JsonFields::LookUp(const std::string& key, int64_t* value) const {
  const nlohmann::json* found = Find(key);
  if (found == nullptr) return Found::kAbsent;
  if (!found->is_number_integer()) return Found::kOtherType;
  if (found->is_number_unsigned() &&
      found->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    return Found::kOtherType;
  *value = found->get<int64_t>();
  return Found::kValue;
}

FieldReader::Found JsonFields::LookUp(const std::string& key, double* value) const {
  const nlohmann::json* found = Find(key);
  if (found == nullptr) return Found::kAbsent;
  if (!found->is_number()) return Found::kOtherType;
  *value = found->get<double>();
  return Found::kValue;
}

FieldReader::Found JsonFields::LookUp(const std::string& key, bool* value) const {
  const nlohmann::json* found = Find(key);
  if (found == nullptr) return Found::kAbsent;
  if (!found->is_boolean()) return Found::kOtherType;
  *value = found->get<bool>();
  return Found::kValue;
}

FieldReader::Found JsonFields::LookUp(const std::string& key, std::string* value) const {
  const nlohmann::json* found = Find(key);
  if (found == nullptr) return Found::kAbsent;
  if (!found->is_string()) return Found::kOtherType;
  *value = found->get_ref<const std::string&>();
  return Found::kValue;
}

}  // namespace lorc
