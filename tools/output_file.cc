#include "tools/output_file.h"

#include <filesystem>
#include <span>

#include "runtime/weights/atomic_file.h"
#include "runtime/weights/status_macros.h"

namespace lorc {

absl::Status CheckOutputFile(const std::string& option, const std::string& path) {
  std::error_code unknown;
  if (std::filesystem::is_directory(path, unknown)) {
    return absl::InvalidArgumentError(option + ": expected a file's name, " + path +
                                      " is a folder");
  }
  if (const auto trial = AtomicFile::Create(path); !trial.ok()) {
    return absl::InvalidArgumentError(option + ": " + std::string(trial.status().message()));
  }
  return absl::OkStatus();
}

absl::Status WriteOutputFile(const std::string& path, std::string_view text) {
  LORC_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  LORC_RETURN_IF_ERROR(file.Write(std::as_bytes(std::span(text.data(), text.size()))));
  LORC_RETURN_IF_ERROR(file.Sync());
  return file.Commit();
}

}  // namespace lorc
