// Memory that is taken once and counted where it is taken.
//
// A MemoryAccount adds up live bytes by use; what a report shows is what was taken. Buffers are
// 64-byte aligned at least. Threads: an account may be used from any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lorc {

enum class MemoryUse { kWeights, kCache, kActivations, kWorkspace };
inline constexpr int kNumMemoryUses = 4;

const char* Name(MemoryUse use);

class MemoryAccount {
 public:
  int64_t bytes(MemoryUse use) const { return bytes_[static_cast<int>(use)].load(); }
  int64_t total_bytes() const;

 private:
  friend class Buffer;
  std::atomic<int64_t> bytes_[kNumMemoryUses] = {};
};

// Owns `size()` bytes, zeroed when they were taken. Movable, empty by default.
class Buffer {
 public:
  using Free = void (*)(std::byte* data, int64_t size_bytes);

  // The program's own memory; big pieces are mapped on their own with huge pages asked for.
  // RESOURCE_EXHAUSTED when the memory is not to be had. `account` may be nullptr; else it must
  // outlive the buffer. All pages are there when the call returns, so that no later write can fail
  // or stall.
  static absl::StatusOr<Buffer> Allocate(int64_t size_bytes, MemoryUse use, MemoryAccount* account);

  Buffer() = default;
  // Takes over memory that `free` gives back: a device's, say.
  Buffer(std::byte* data, int64_t size_bytes, MemoryUse use, MemoryAccount* account, Free free);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  int64_t size() const { return size_; }

  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(data_);
  }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  int64_t size_ = 0;
  MemoryUse use_ = MemoryUse::kWorkspace;
  MemoryAccount* account_ = nullptr;
  Free free_ = nullptr;
};

}  // namespace lorc
