// Files of a test.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace lorc::test {

// A new folder that goes with the object, and all that is in it. Aborts where it cannot be made.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string File(std::string_view name) const;  // path() + "/" + name

 private:
  std::string path_;
};

absl::Status WriteFile(const std::string& path, std::string_view bytes);

// Empty where the file cannot be read.
std::string ReadFile(const std::string& path);

}  // namespace lorc::test
