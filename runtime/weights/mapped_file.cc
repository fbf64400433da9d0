#include "runtime/weights/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/weights/printable.h"

namespace lorc {

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  // O_NONBLOCK: opening a named pipe that nobody writes to must fail below, not hang here.
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", Printable(path)));
  struct stat info;
  if (fstat(file, &info) != 0) {
    const int error = errno;
    close(file);
    return absl::ErrnoToStatus(error, absl::StrCat("cannot stat ", Printable(path)));
  }
  if (!S_ISREG(info.st_mode)) {
    close(file);
    return absl::InvalidArgumentError(absl::StrCat(
        Printable(path), " is ", S_ISDIR(info.st_mode) ? "a folder" : "not a regular file",
        "; a regular file is needed here"));
  }
  const int64_t size = info.st_size;
  void* data = nullptr;
  if (size > 0) {
    data = mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) {
      const int error = errno;
      close(file);
      return absl::ErrnoToStatus(
          error, absl::StrCat("cannot map the ", size, " bytes of ", Printable(path)));
    }
  }
  close(file);  // the mapping keeps the file
  return MappedFile(path, static_cast<const std::byte*>(data), size);
}

MappedFile::MappedFile(std::string path, const std::byte* data, int64_t size)
    : path_(std::move(path)), data_(data), size_(size) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_));
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

std::span<const std::byte> MappedFile::bytes() const { return {data_, static_cast<size_t>(size_)}; }

std::string_view MappedFile::text() const {
  return {reinterpret_cast<const char*>(data_), static_cast<size_t>(size_)};
}

void MappedFile::Release() const {
  // Advice only: where the kernel refuses it, the pages merely stay resident.
  if (data_ != nullptr)
    (void)madvise(const_cast<std::byte*>(data_), static_cast<size_t>(size_), MADV_DONTNEED);
}

}  // namespace lorc
