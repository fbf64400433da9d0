#include "kernels/base/memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace lorc {
namespace {

constexpr int64_t kMappedFrom = int64_t{2} << 20;  // one huge page

#ifndef MADV_POPULATE_WRITE
constexpr int kPopulateWrite = 23;  // Linux 5.14; older kernels answer EINVAL
#else
constexpr int kPopulateWrite = MADV_POPULATE_WRITE;
#endif

std::byte* MapPages(int64_t size_bytes) {
  void* data =
      mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  madvise(data, size_bytes, MADV_HUGEPAGE);
  if (madvise(data, size_bytes, kPopulateWrite) != 0) {
    if (errno != EINVAL) {
      munmap(data, size_bytes);
      return nullptr;
    }
    std::memset(data, 0, size_bytes);
  }
  return static_cast<std::byte*>(data);
}

void UnmapPages(std::byte* data, int64_t size_bytes) { munmap(data, size_bytes); }

std::byte* TakeFromHeap(int64_t size_bytes) {
  const int64_t rounded = (size_bytes + 63) / 64 * 64;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(64, rounded));
  if (data != nullptr) std::memset(data, 0, rounded);
  return data;
}

void GiveToHeap(std::byte* data, int64_t) { std::free(data); }

}  // namespace

const char* Name(MemoryUse use) {
  switch (use) {
    case MemoryUse::kWeights:
      return "weights";
    case MemoryUse::kCache:
      return "cache";
    case MemoryUse::kActivations:
      return "activations";
    case MemoryUse::kWorkspace:
      return "workspace";
  }
  return "";
}

int64_t MemoryAccount::total_bytes() const {
  int64_t total = 0;
  for (const auto& bytes : bytes_) total += bytes.load();
  return total;
}

absl::StatusOr<Buffer> Buffer::Allocate(int64_t size_bytes, MemoryUse use, MemoryAccount* account) {
  LORC_CHECK_GE(size_bytes, 0);
  if (size_bytes == 0) return Buffer();
  const bool mapped = size_bytes >= kMappedFrom;
  std::byte* data = mapped ? MapPages(size_bytes) : TakeFromHeap(size_bytes);
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", size_bytes, " bytes of ", Name(use)));
  }
  return Buffer(data, size_bytes, use, account, mapped ? UnmapPages : GiveToHeap);
}

Buffer::Buffer(std::byte* data, int64_t size_bytes, MemoryUse use, MemoryAccount* account,
               Free free)
    : data_(data), size_(size_bytes), use_(use), account_(account), free_(free) {
  if (account != nullptr) account->bytes_[static_cast<int>(use)] += size_bytes;
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  if (account_ != nullptr) account_->bytes_[static_cast<int>(use_)] -= size_;
  free_(data_, size_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      use_(other.use_),
      account_(other.account_),
      free_(other.free_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    Buffer old(std::move(*this));
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    use_ = other.use_;
    account_ = other.account_;
    free_ = other.free_;
  }
  return *this;
}

}  // namespace lorc
