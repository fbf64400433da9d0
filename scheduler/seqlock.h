// A value that one thread writes and any number of threads read, where the writer never waits and a
// reader waits at most for the copying of one value.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <type_traits>

namespace lorc {

template <typename T>
class SeqLock {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(uint64_t) == 0);

 public:
  // One thread at a time.
  void Store(const T& value) {
    const auto words = std::bit_cast<Words>(value);
    const uint64_t sequence = sequence_.load(std::memory_order_relaxed);
    sequence_.store(sequence + 1, std::memory_order_relaxed);
    // Release on each word keeps the odd number before it: who sees a new word sees that too.
    for (size_t i = 0; i < words.size(); ++i) words_[i].store(words[i], std::memory_order_release);
    sequence_.store(sequence + 2, std::memory_order_release);
  }

  // Any thread.
  T Load() const {
    Words words;
    for (;;) {
      const uint64_t before = sequence_.load(std::memory_order_acquire);
      // Acquire on each word keeps the second look at the number after it.
      for (size_t i = 0; i < words.size(); ++i) {
        words[i] = words_[i].load(std::memory_order_acquire);
      }
      if (before % 2 == 0 && sequence_.load(std::memory_order_relaxed) == before) break;
    }
    return std::bit_cast<T>(words);
  }

 private:
  using Words = std::array<uint64_t, sizeof(T) / sizeof(uint64_t)>;

  std::atomic<uint64_t> sequence_{0};  // odd while a value is being written
  std::array<std::atomic<uint64_t>, sizeof(T) / sizeof(uint64_t)> words_ = {};
};

}  // namespace lorc
