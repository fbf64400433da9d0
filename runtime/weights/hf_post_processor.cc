#include "runtime/weights/hf_post_processor.h"

#include <vector>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/weights/json_fields.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

// "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]
absl::StatusOr<std::string> LeadingTokenOfTemplate(const JsonFields& fields) {
  const nlohmann::json* single = fields.Find("single");
  if (single == nullptr || !single->is_array())
    return fields.Invalid("TemplateProcessing has no array \"single\"");
  std::string token;
  bool after_text = false;
  for (const nlohmann::json& piece : *single) {
    if (piece.is_object() && piece.contains("Sequence")) {
      after_text = true;
      continue;
    }
    const auto special = piece.find("SpecialToken");
    if (!piece.is_object() || special == piece.end() || !special->is_object())
      return fields.Invalid("a piece of TemplateProcessing is neither Sequence nor SpecialToken");
    if (after_text || !token.empty())
      return fields.Unimplemented(
          "TemplateProcessing adds more than one token in front of a text; that is not supported");
    const JsonFields special_fields(*special, "SpecialToken");
    LORC_ASSIGN_OR_RETURN(token, special_fields.String("id", ""));
    if (token.empty()) return fields.Invalid("a SpecialToken of TemplateProcessing has no id");
  }
  return token;
}

absl::StatusOr<std::string> LeadingTokenOfPart(const nlohmann::json& part,
                                               const std::string& source) {
  if (!part.is_object())
    return absl::InvalidArgumentError(absl::StrCat(Printable(source), ": is not an object"));
  const JsonFields fields(part, source);
  LORC_ASSIGN_OR_RETURN(const std::string type, fields.String("type", ""));
  if (type == "ByteLevel") return std::string();  // concerns offsets only
  if (type == "TemplateProcessing") return LeadingTokenOfTemplate(fields);
  return fields.Unimplemented(
      absl::StrCat("a post-processor of type ", Printable(type), " is not supported"));
}

}  // namespace

absl::StatusOr<std::string> LeadingToken(const nlohmann::json& post_processor,
                                         const std::string& source) {
  if (post_processor.is_null()) return std::string();
  const std::string where = absl::StrCat(source, ", post_processor");
  const auto parts = post_processor.find("processors");
  if (!post_processor.is_object() || parts == post_processor.end())
    return LeadingTokenOfPart(post_processor, where);
  std::string token;
  for (const nlohmann::json& part : *parts) {
    LORC_ASSIGN_OR_RETURN(const std::string leading, LeadingTokenOfPart(part, where));
    if (!leading.empty() && !token.empty())
      return absl::UnimplementedError(
          absl::StrCat(Printable(where), ": two parts add a token in front of a text"));
    if (!leading.empty()) token = leading;
  }
  return token;
}

}  // namespace lorc
