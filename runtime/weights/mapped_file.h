// A file mapped read-only into memory.
//
// The mapping lives as long as the object; moving the object does not move the bytes. Whoever
// replaces a model file must write a new one and rename it: a mapped file that is cut short while
// it is in use ends the process with SIGBUS, and nothing in user space can prevent that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lorc {

class MappedFile {
 public:
  // Regular files only; an empty file is an empty span. Errors name the path and the cause.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }
  std::span<const std::byte> bytes() const;
  std::string_view text() const;

  // Gives the resident pages back to the kernel; the next access reads them from the file again.
  void Release() const;

 private:
  MappedFile(std::string path, const std::byte* data, int64_t size);

  std::string path_;
  const std::byte* data_ = nullptr;  // nullptr for an empty file
  int64_t size_ = 0;
};

}  // namespace lorc
