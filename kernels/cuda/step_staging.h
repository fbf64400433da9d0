// What an op derives from a step's sequences, sent to the device once per step and good for all
// layers of it.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "absl/status/status.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/staging.h"
#include "kernels/cuda/stream.h"

namespace lorc {

class StepStaging {
 public:
  explicit StepStaging(CudaContext& context) : context_(context) {}

  absl::Status Reserve(int64_t size_bytes);

  // Counts what has been sent and is gone: pieces sent while it was another number must not be
  // used. Asking forgets the steps before the context's.
  int64_t Generation();

  // Makes room for pieces of so many bytes in all (each counts as Bytes<T>(count)).
  void MakeRoom(int64_t size_bytes);

  template <typename T>
  static constexpr int64_t Bytes(int64_t count) {
    return (count * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
  }

  // A copy of `values` in device memory, for kernels queued from now on.
  template <typename T>
  const T* Send(std::span<const T> values) {
    if (values.empty()) return nullptr;
    const Staging::Piece piece = staging_.Take(static_cast<int64_t>(values.size_bytes()));
    LORC_CHECK(piece.host != nullptr);
    std::memcpy(piece.host, values.data(), values.size_bytes());
    Send(piece);
    return reinterpret_cast<const T*>(piece.device);
  }

 private:
  void Send(const Staging::Piece& piece);
  void Restart();

  CudaContext& context_;
  Staging staging_;
  CudaEvent sent_;
  int64_t used_ = 0;
  int64_t step_ = -1;
  int64_t generation_ = 0;
};

}  // namespace lorc
