#include "runtime/weights/json_header.h"

#include <string>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/weights/json_fields.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"

namespace lorc {

absl::Status ReadJsonHeader(const Safetensors& file, const JsonHeaderKind& kind,
                            nlohmann::json* header) {
  const auto metadata = file.metadata().find(kind.key);
  if (metadata == file.metadata().end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.name(), ": not ", kind.file, ": the metadata has no ", kind.key, kind.advice));
  }
  LORC_RETURN_IF_ERROR(ParseJsonObject(metadata->second, file.name(), header));
  const JsonFields fields(*header, file.name());
  LORC_ASSIGN_OR_RETURN(const std::string format, fields.String("format", ""));
  if (format != kind.format) {
    return fields.Invalid(
        absl::StrCat("format is ", Printable(format), ", expected ", kind.format));
  }
  LORC_ASSIGN_OR_RETURN(const int32_t version, fields.Integer("version", 1, 1 << 30));
  if (version >= kind.oldest_version && version <= kind.newest_version) return absl::OkStatus();
  return fields.Unimplemented(absl::StrCat(
      "version ", version, " of ", kind.content, "; this program reads ",
      kind.oldest_version == kind.newest_version ? "version " : "up to ", kind.newest_version));
}

}  // namespace lorc
