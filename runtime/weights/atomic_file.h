// A file that appears at its path whole or not at all.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lorc {

// Create, Write as often as needed, Sync, Commit. Destruction without Commit removes the temporary
// file. Errors name the path; no space left is RESOURCE_EXHAUSTED.
class AtomicFile {
 public:
  // Opens a new temporary file next to `path`.
  static absl::StatusOr<AtomicFile> Create(const std::string& path);

  ~AtomicFile();
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  absl::Status Write(std::span<const std::byte> bytes);

  // Forces what was written to the disk and drops it from the page cache, so that reading it back
  // reads the disk.
  absl::Status Sync();

  // Renames the temporary file to the path, replacing what is there, and makes that last.
  absl::Status Commit();

  const std::string& temporary_path() const { return temporary_path_; }

 private:
  AtomicFile(std::string path, std::string temporary_path, int descriptor);

  std::string path_;
  std::string temporary_path_;  // empty once committed
  int descriptor_ = -1;
};

}  // namespace lorc
