// Scratch memory of one op: taken once at start-up, handed out piece by piece, all given back when
// the op is over. Not thread-safe: pieces are taken before a loop starts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/base/check.h"
#include "kernels/base/memory.h"

namespace lorc {

class Arena {
 public:
  Arena() = default;
  explicit Arena(Buffer buffer) : buffer_(std::move(buffer)) {}

  // Bytes that Take<T>(count) uses up.
  template <typename T>
  static constexpr int64_t Bytes(int64_t count) {
    return (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  }

  // 64-byte aligned, not initialised.
  template <typename T>
  T* Take(int64_t count) {
    T* piece = reinterpret_cast<T*>(buffer_.data() + used_);
    used_ += Bytes<T>(count);
    LORC_CHECK_LE(used_, buffer_.size());
    return piece;
  }

  int64_t used() const { return used_; }
  int64_t left() const { return buffer_.size() - used_; }

  // Gives back what is taken during a scope.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), used_(arena.used_) {}
    ~Scope() { arena_.used_ = used_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    int64_t used_;
  };

 private:
  Buffer buffer_;
  int64_t used_ = 0;
};

}  // namespace lorc
