#include "runtime/weights/printable.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace lorc {

std::string Printable(std::string_view text) {
  constexpr size_t kLimit = 160;
  const std::string_view kept = text.substr(0, kLimit);
  return absl::StrCat("\"", absl::Utf8SafeCEscape(absl::string_view(kept.data(), kept.size())),
                      text.size() > kLimit ? "...\"" : "\"");
}

}  // namespace lorc
