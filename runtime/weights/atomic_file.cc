#include "runtime/weights/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/weights/printable.h"

namespace lorc {
namespace {

absl::Status WriteError(int error, const std::string& action, const std::string& path) {
  const std::string message = absl::StrCat("cannot ", action, " ", Printable(path));
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    const absl::Status cause = absl::ErrnoToStatus(error, message);
    return absl::ResourceExhaustedError(
        absl::StrCat(cause.message(), "; free some space there or choose another folder"));
  }
  return absl::ErrnoToStatus(error, message);
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

absl::StatusOr<AtomicFile> AtomicFile::Create(const std::string& path) {
  // Names are tried until one is free: another process may be writing to the same path, or have
  // died while it did.
  for (int attempt = 0; attempt < 1000; ++attempt) {
    std::string temporary_path = absl::StrCat(path, ".tmp-", getpid(), "-", attempt);
    const int descriptor =
        open(temporary_path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0) return AtomicFile(path, std::move(temporary_path), descriptor);
    if (errno != EEXIST) return WriteError(errno, "create a temporary file next to", path);
  }
  return absl::AlreadyExistsError(
      absl::StrCat("too many files ", path, ".tmp-* are there already; remove them"));
}

AtomicFile::AtomicFile(std::string path, std::string temporary_path, int descriptor)
    : path_(std::move(path)), temporary_path_(std::move(temporary_path)), descriptor_(descriptor) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_path_(std::exchange(other.temporary_path_, {})),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_path_.empty()) unlink(temporary_path_.c_str());
}

absl::Status AtomicFile::Write(std::span<const std::byte> bytes) {
  constexpr size_t kLargestWrite = size_t{1} << 30;  // one call writes less than 2 GiB on Linux
  while (!bytes.empty()) {
    const ssize_t written = write(descriptor_, bytes.data(), std::min(bytes.size(), kLargestWrite));
    if (written < 0) {
      if (errno == EINTR) continue;
      return WriteError(errno, "write", path_);
    }
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::Sync() {
  if (fsync(descriptor_) != 0) return WriteError(errno, "write", path_);
  (void)posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);
  return absl::OkStatus();
}

absl::Status AtomicFile::Commit() {
  // Network file systems report some failed writes only here.
  if (close(std::exchange(descriptor_, -1)) != 0) return WriteError(errno, "write", path_);
  if (rename(temporary_path_.c_str(), path_.c_str()) != 0)
    return WriteError(errno, "rename the finished file to", path_);
  temporary_path_.clear();
  // The rename itself must survive a power cut. The file is whole either way, and some file systems
  // cannot sync folders: no error.
  const int folder = open(FolderOf(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    (void)fsync(folder);
    close(folder);
  }
  return absl::OkStatus();
}

}  // namespace lorc
