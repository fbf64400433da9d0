// Small data on its way to the device: pinned memory, and as much device memory that it is copied
// to. Not thread-safe.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/memory.h"

namespace lorc {

class Staging {
 public:
  // Replaces what was there; nothing is under way.
  absl::Status Reserve(int64_t size_bytes, MemoryAccount* account);
  int64_t size() const { return host_.size(); }

  // A piece of both memories, 256-byte aligned; nullptr where it does not fit any more.
  struct Piece {
    std::byte* host = nullptr;    // to be written
    std::byte* device = nullptr;  // where Send puts it
    int64_t size_bytes = 0;
  };
  Piece Take(int64_t size_bytes);

  // Queues the copy.
  static cudaError_t Send(const Piece& piece, cudaStream_t stream);

  // Everything that was sent has arrived and been used: the next piece is the first again.
  void Restart() { used_ = 0; }

 private:
  Buffer host_;
  Buffer device_;
  int64_t used_ = 0;
};

}  // namespace lorc
